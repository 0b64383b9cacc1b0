/**
 * The store of a data process in simulated time. What is under way when the process is paused reaches the disk when it goes on, however late
 * that is; what is under way when it dies lands wholly, in part or not at all.
 */
import type { Host } from '../../host.ts';
import type { SimDisk } from '../../volume/disk.ts';
import type { Operation, OperationKind } from '../../volume/operation.ts';
import { SimStore } from '../../volume/store.ts';

export interface StoreConditions {
  usualMs: number;
  slowChance: number;
  slowMs: number;
  /** What may be slow; null: anything. */
  slowKind: OperationKind | null;
}

export class TimedStore extends SimStore {
  /** Operations that took long. */
  slow = 0;
  private readonly host: Host;
  private readonly conditions: StoreConditions;
  private readonly pending = new Set<Operation>();

  constructor(disk: SimDisk, seed: number, host: Host, conditions: StoreConditions) {
    super(disk, seed);
    this.host = host;
    this.conditions = conditions;
  }

  override start(operation: Operation): void {
    if (this.dead) return;
    this.pending.add(operation);
    this.host.in(this.durationMs(operation), () => {
      if (this.pending.delete(operation)) operation.run();
    });
  }

  override die(): void {
    this.dead = true;
    for (const { die } of this.pending) die();
    this.pending.clear();
  }

  private durationMs({ kind }: Operation): number {
    const { usualMs, slowChance, slowMs, slowKind } = this.conditions;
    if (slowChance === 0 || (slowKind !== null && kind !== slowKind) || !this.prng.chance(slowChance))
      return usualMs * (0.2 + 1.6 * this.prng.unit());
    this.slow++;
    return slowMs * this.prng.unit();
  }
}
