/** What the store has done while there was no lease: answered when there is one again, or failed when that takes too long. */
import { ArchipelagoError } from '../base/index.ts';
import type { VolumeIo } from './device.ts';
import type { ServingLease } from './lease.ts';

type Answer = (io: VolumeIo, error: ArchipelagoError | null) => void;

export class HeldAnswers {
  private readonly lease: ServingLease;
  /** Looks at the lease again. */
  private readonly again: Answer;
  private readonly end: Answer;
  private held: { io: VolumeIo; error: ArchipelagoError | null }[] = [];

  constructor(lease: ServingLease, again: Answer, end: Answer) {
    this.lease = lease;
    this.again = again;
    this.end = end;
  }

  hold(io: VolumeIo, error: ArchipelagoError | null): void {
    if (this.held.length === 0) this.lease.whenExtended((extended) => (extended ? this.release() : this.fail()));
    this.held.push({ io, error });
  }

  /** Also when the ownership is gone, and nothing of this is answered any more. */
  release(): void {
    const { held } = this;
    this.held = [];
    for (const { io, error } of held) this.again(io, error);
  }

  private fail(): void {
    const { held } = this;
    this.held = [];
    const hint = 'see `archipelago cluster status`; it may have been done all the same';
    for (const { io } of held) this.end(io, new ArchipelagoError('unavailable', 'this node has had no lease for too long', { hint }));
  }
}
