/** What all files of one store share. */
import type { Clock, Log } from '../../base/index.ts';
import type { DescriptorCache } from './descriptors.ts';
import type { Durability } from './durability.ts';
import type { OwnerProcess } from './owner-process.ts';
import type { SharedRounds } from './rounds.ts';
import type { Turns } from './turns.ts';

export interface FileStoreParts {
  readonly directory: string;
  /** Names the time since this host was started: as long as that lasts, the page cache keeps what was written. */
  readonly bootId: string;
  /** What the logs of this store's owners say of their process. */
  readonly process: OwnerProcess;
  readonly clock: Clock;
  readonly log: Log;
  readonly durability: Durability;
  readonly descriptors: DescriptorCache;
  /** One `sync` of the file system serves all volumes that asked before it began. */
  readonly syncFileSystem: SharedRounds;
  /** How many files are synced at a time, for each volume. */
  readonly syncParallelism: number;
  readonly pace: WritePace;
  /** Of takeovers, each a few milliseconds of synchronous calls: all volumes of a node that died come at once. */
  readonly takeovers: Turns;
  /** What the file system has been found not to do; all is taken to work at first. */
  readonly features: { sharesExtents: boolean };
}

/**
 * Tells operations that wait for the disk from one that was merely interrupted: two slow ones among `window` are a verdict. Costs a
 * counter each, and forgets by itself.
 */
export class Slowness {
  private readonly limitMs: number;
  private readonly window: number;
  private strikes = 0;

  constructor(limitMs: number, window: number) {
    this.limitMs = limitMs;
    this.window = window;
  }

  /** True when the verdict is 'slow', which starts the count anew. */
  isVerdict(tookMs: number): boolean {
    if (tookMs <= this.limitMs) {
      if (this.strikes > 0) this.strikes--;
      return false;
    }
    this.strikes += this.window;
    if (this.strikes <= this.window) return false;
    this.strikes = 0;
    return true;
  }
}

/**
 * Small writes are done synchronously because that is three times as fast; but when the kernel throttles writers, or a flush keeps the
 * disk busy, such writes hold up everything else. So when they turn slow, all go through the pool for a while.
 */
export class WritePace {
  private asynchronousUntilMs = 0;
  private readonly slowness = new Slowness(SLOW_WRITE_MS, 64);

  mayBlock(nowMs: number): boolean {
    return nowMs < this.asynchronousUntilMs;
  }

  took(beganMs: number, endedMs: number): void {
    if (this.slowness.isVerdict(endedMs - beganMs)) this.asynchronousUntilMs = endedMs + BACK_OFF_MS;
  }
}

const SLOW_WRITE_MS = 4;
const BACK_OFF_MS = 50;
