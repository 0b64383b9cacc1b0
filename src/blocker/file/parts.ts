/** What all files of one store share. */
import type { Clock, Log } from '../../base/index.ts';
import type { DescriptorCache } from './descriptors.ts';
import type { Durability } from './durability.ts';
import type { SharedRounds } from './rounds.ts';

export interface FileStoreParts {
  readonly directory: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly durability: Durability;
  readonly descriptors: DescriptorCache;
  /** One `sync` of the file system serves all volumes that asked before it began. */
  readonly syncFileSystem: SharedRounds;
  /** How many files are synced at a time, for each volume. */
  readonly syncParallelism: number;
  readonly pace: WritePace;
}

/**
 * Small writes are done synchronously because that is three times as fast; but when the kernel throttles writers, or a flush keeps the
 * disk busy, such a write holds up everything else. So after one slow write all go through the pool for a while.
 */
export class WritePace {
  private asynchronousUntilMs = 0;

  mayBlock(nowMs: number): boolean {
    return nowMs < this.asynchronousUntilMs;
  }

  took(beganMs: number, endedMs: number): void {
    if (endedMs - beganMs > SLOW_WRITE_MS) this.asynchronousUntilMs = endedMs + BACK_OFF_MS;
  }
}

const SLOW_WRITE_MS = 4;
const BACK_OFF_MS = 50;
