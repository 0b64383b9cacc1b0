/**
 * When collection runs, and where: at the leader of the Raft group, one cycle at a time. A leader that is deposed stops its cycle, and its
 * successor begins another; should both run for a while, neither does harm (`src/mapper/collection`).
 */
import { ArchipelagoError, type Clock, type LivenessEpoch, type Log, type Timer } from '../../base/index.ts';
import type { BegunCycle, Command, CommandValues } from '../../mapper/index.ts';
import type { Registry } from '../../mapper/registry/index.ts';
import type { NodeConfig } from '../config.ts';
import type { Collected } from '../protocol.ts';

/** After a removal: others often follow it. Also before a cycle that did not end is tried again. */
const SOON_MS = 3000;

export interface CollectionScheduleOptions {
  readonly node: string;
  readonly config: NodeConfig['gc'];
  readonly registry: Registry;
  /** Of this node's data process; null while it is being started. */
  readonly livenessEpoch: () => LivenessEpoch | null;
  /** Has the data process do something. */
  readonly request: <Value>(method: string, parameters: unknown) => Promise<Value>;
  readonly propose: <Type extends Command['type']>(command: Extract<Command, { type: Type }>) => Promise<CommandValues[Type]>;
  readonly clock: Clock;
  readonly log: Log;
}

export class CollectionSchedule {
  private readonly options: CollectionScheduleOptions;
  /** Objects and pages that cycles here have looked at. */
  seen = 0;
  private leading = false;
  private running = false;
  /** Somebody waits for a cycle. */
  private urgent = false;
  private timer: Timer | null = null;
  private dueMs = Number.POSITIVE_INFINITY;

  constructor(options: CollectionScheduleOptions) {
    this.options = options;
  }

  leaderChanged(isLeader: boolean): void {
    if (isLeader === this.leading) return;
    this.leading = isLeader;
    if (isLeader) this.plan();
    else this.suspend();
  }

  /** The registry's record of collection has changed. */
  changed(): void {
    if (this.leading && !this.running) this.plan();
  }

  /** A cycle begins as soon as none runs. Only the leader can promise that. */
  collectNow(): void {
    if (!this.leading) throw new ArchipelagoError('unavailable', `node ${this.options.node} does not lead`, { hint: 'ask the leader' });
    this.urgent = true;
    if (!this.running) this.plan();
  }

  stop(): void {
    this.leading = false;
    this.suspend();
  }

  private suspend(): void {
    this.cancel();
    this.urgent = false;
    if (!this.running) return;
    this.options.request('stopCollecting', {}).catch(() => {
      // The data process is gone, and its cycle with it.
    });
  }

  private plan(): void {
    const { cycle, wanted, running } = this.options.registry.collection();
    const { intervalMs } = this.options.config;
    // One that another leader began, or that our data process did not survive, has nobody else to end it.
    if (this.urgent) this.wake(0);
    else if (running !== null || (wanted > cycle && intervalMs > 0)) this.wake(SOON_MS);
    else if (intervalMs > 0) this.wake(intervalMs);
  }

  /** Sees to it that a cycle begins after `delayMs`, if none is to begin earlier. */
  private wake(delayMs: number): void {
    const { clock } = this.options;
    const dueMs = clock.nowMs() + delayMs;
    if (dueMs >= this.dueMs) return;
    this.cancel();
    this.dueMs = dueMs;
    this.timer = clock.setTimer(delayMs, () => {
      this.dueMs = Number.POSITIVE_INFINITY;
      void this.run();
    });
  }

  private cancel(): void {
    this.timer?.cancel();
    this.timer = null;
    this.dueMs = Number.POSITIVE_INFINITY;
  }

  private async run(): Promise<void> {
    if (!this.leading || this.running) return;
    this.running = true;
    this.urgent = false;
    let failed = false;
    try {
      await this.runCycle();
    } catch (error) {
      failed = true;
      this.options.log.warn({ error: String(error) }, 'a cycle of collection did not come to its end; another follows');
    }
    this.running = false;
    if (!this.leading) return;
    this.plan();
    if (failed) this.wake(SOON_MS);
  }

  private async runCycle(): Promise<void> {
    const { node, propose, request, livenessEpoch: current } = this.options;
    const livenessEpoch = current();
    if (livenessEpoch === null) throw new ArchipelagoError('unavailable', 'the data process is being started');
    const begun: BegunCycle = await propose<'beginCollection'>({ type: 'beginCollection', node, livenessEpoch, startedAt: this.now() });
    if (!this.leading) return;
    const { freedObjects, freedBytes, seen, error } = await request<Collected>('collect', begun);
    this.seen += seen;
    // Of a cycle that was stopped its successor tells.
    if (!this.leading) return;
    await propose<'finishCollection'>({ type: 'finishCollection', cycle: begun.cycle, finishedAt: this.now(), freedObjects, freedBytes, error });
  }

  private now(): string {
    return new Date(this.options.clock.wallMs()).toISOString();
  }
}
