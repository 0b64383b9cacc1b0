/**
 * What an open volume remembers of a block it uses: the map's entry, handles to its objects, and which of its operations are under way.
 * Operations that overlap, one of them changing something, run one after the other in the order of their submission.
 */
import { ArchipelagoError, assert } from '../base/index.ts';
import type { BlockObject, WritableBlockObject } from '../blocker/index.ts';
import type { LayeredEntry } from '../mapper/index.ts';
import { IO_READ, type VolumeIo } from './device.ts';
import { IoQueue } from './io-queue.ts';
import type { Presence } from './layers.ts';
import type { BlockMerge } from './merge.ts';

/** An operation on one block that the store has not answered yet. */
export interface BlockTask {
  readonly startBytes: number;
  readonly endBytes: number;
  readonly changes: boolean;
}

export class Block {
  readonly index: number;
  /** Set when the own object holds only some sub-blocks. */
  layered: LayeredEntry | null = null;
  /** The block's own object; null while the entry is absent. */
  object: BlockObject | null = null;
  base: BlockObject | null = null;
  /** The same as `object` when its generation is live: it may be written in place. */
  writable: WritableBlockObject | null = null;
  /** Sub-blocks of a plain block that are known to be zeros, since they were zeroed here: when they are all, the block goes. */
  zeroed: Presence | null = null;
  /** Got a sub-block of its own since the merge last came by. */
  freshlyLayered = false;
  /** What a merge has copied; dropped when a change has failed, since that may lie over it. */
  merge: BlockMerge | null = null;
  /** Why it could not be claimed: it is forgotten. */
  claimError: ArchipelagoError | null = null;
  /** The entry is being loaded or changed, or the object claimed: everything else waits. */
  exclusive = false;
  /** What is queued is being started. */
  running = false;
  /** Looked at by the clean-up: a block that was not used since the last round goes. */
  used = true;
  private readonly tasks: BlockTask[] = [];
  /** I/O that waits for what came before it. */
  readonly queue = new IoQueue();

  constructor(index: number) {
    this.index = index;
  }

  /** What is told of a store's error: a missing object that the map mentions is damage, never zeros. */
  describe(error: ArchipelagoError | null): ArchipelagoError | null {
    if (error?.code !== 'not-found') return error;
    return new ArchipelagoError('corrupt', `block ${this.index}: the map names an object that is missing: ${error.message}`, { cause: error });
  }

  get idle(): boolean {
    return !this.exclusive && this.tasks.length === 0 && this.queue.empty;
  }

  /** True when `io`, at `start` within the block, has to wait for what came before it. */
  mustWait(io: VolumeIo, start: number): boolean {
    if (this.exclusive || !this.queue.empty) return true;
    return this.conflicts(start, start + io.length, io.kind !== IO_READ);
  }

  /** True when an operation under way overlaps the range and one of the two changes something. */
  conflicts(start: number, end: number, changes: boolean): boolean {
    for (const task of this.tasks) {
      if ((changes || task.changes) && task.startBytes < end && start < task.endBytes) return true;
    }
    return false;
  }

  /** True when no operation is under way, so that the entry may change. */
  get quiet(): boolean {
    return !this.exclusive && this.tasks.length === 0;
  }

  begin(task: BlockTask): void {
    this.tasks.push(task);
  }

  end(task: BlockTask): void {
    const at = this.tasks.indexOf(task);
    assert(at >= 0, 'an operation that ends had begun');
    const last = this.tasks.pop() as BlockTask;
    if (last !== task) this.tasks[at] = last;
  }

  releaseObjects(): void {
    this.object?.release();
    this.base?.release();
    this.object = null;
    this.base = null;
    this.writable = null;
  }
}
