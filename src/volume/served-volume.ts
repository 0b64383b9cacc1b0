/**
 * A volume or snapshot served by this process: splits I/O into blocks, keeps overlapping operations in order, reads and writes objects.
 *
 * The common cases, a read or an overwrite of up to one block whose object is open, take no promise, closure or allocation. Whatever changes
 * a map entry happens once in a block's life and is written for reading (`entry-change.ts`).
 */
import { ArchipelagoError, assert, type Epoch, type Generation, isZero } from '../base/index.ts';
import { type BlockStore, storeCall, type WritableBlockObject } from '../blocker/index.ts';
import { LAYERED, MISSING, type OpenMap, type PagedTree, SUB_BLOCKS } from '../mapper/index.ts';
import { findExtents } from './allocation.ts';
import { Block } from './block.ts';
import { type ClaimOptions, Claims } from './claims.ts';
import { type Extent, IO_FLUSH, IO_READ, IO_WRITE, IO_ZERO, type VolumeIo } from './device.ts';
import { changeEntry } from './entry-change.ts';
import { HeldAnswers } from './held-answers.ts';
import { isComplete, isPresent, readComposed, withoutWritten, withZeroed } from './layers.ts';
import type { ServingLease } from './lease.ts';
import { type MergePace, Merger } from './merge.ts';
import { type AnsweredChanges, AnsweredWindows } from './sequences.ts';
import { Split, type SplitOwner } from './split.ts';
import { StoreTask } from './store-task.ts';

/** Blocks remembered for each volume; each holds up to two open objects. */
const MAX_BLOCKS = 4096;

export interface ServedVolumeOptions {
  readonly blockStore: BlockStore;
  readonly pages: PagedTree;
  /** Null for a snapshot: nothing changes, and no lease is needed. */
  readonly owned: { readonly map: OpenMap; readonly epoch: Epoch; readonly lease: ServingLease } | null;
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  /** Of the process; null: layered blocks stay as they are. */
  readonly mergePace?: MergePace | null;
  /** For claims in the background. */
  readonly claims?: ClaimOptions;
  /** What the owner before has told of changes that may be sent again. */
  readonly answered?: readonly AnsweredChanges[];
}

export class ServedVolume implements SplitOwner {
  readonly owned: ServedVolumeOptions['owned'];
  /** Forwarded changes that were done under this ownership, or are known to have been. */
  readonly answered: AnsweredWindows;
  readonly pages: PagedTree;
  readonly blockSizeBytes: number;
  sizeBytes: number;
  private readonly subBlockBytes: number;
  private readonly blockStore: BlockStore;
  private readonly blocks = new Map<number, Block>();
  private readonly merger: Merger | null;
  /** Null when no owner before can be writing any more. It is this ownership's: what was claimed under an earlier one says nothing. */
  private readonly claims: Claims | null;
  private readonly idleTasks: StoreTask[] = [];
  private readonly idleSplits: Split[] = [];
  /** Admitted and not answered yet; the parts of a split one count as one. */
  private inFlight = 0;
  private admitting = true;
  private drainWaiters: (() => void)[] = [];
  /** Set when the ownership has ended: takes back what was submitted under it. */
  private takeBack: ((io: VolumeIo) => void) | null = null;
  /** Told when an I/O has failed because the map can serve no more: only a takeover tells what the store holds. */
  onFailed: (() => void) | null = null;
  private readonly held: HeldAnswers | null;

  constructor(options: ServedVolumeOptions) {
    this.blockStore = options.blockStore;
    this.pages = options.pages;
    this.owned = options.owned;
    this.answered = new AnsweredWindows(options.answered);
    this.held = this.owned && new HeldAnswers(this.owned.lease, this.answer.bind(this), this.end.bind(this));
    this.sizeBytes = options.sizeBytes;
    this.blockSizeBytes = options.blockSizeBytes;
    this.subBlockBytes = options.blockSizeBytes / SUB_BLOCKS;
    this.merger = options.owned && options.mergePace ? new Merger(this, options.mergePace) : null;
    assert(!options.owned?.map.hasUnclean || options.claims !== undefined, 'what an owner before may be writing is claimed');
    this.claims = options.owned?.map.hasUnclean && options.claims ? new Claims(this, options.claims) : null;
    this.claims?.go();
  }

  /** Takes an I/O within the volume's bounds, and only while `admits`: otherwise the caller keeps it. */
  submit(io: VolumeIo): void {
    assert(this.admitting, 'I/O is submitted only while the volume admits it');
    this.inFlight++;
    if (io.kind === IO_FLUSH) {
      this.answerDurable(io);
      return;
    }
    const index = Math.floor(io.offset / this.blockSizeBytes);
    const start = io.offset - index * this.blockSizeBytes;
    if (start + io.length <= this.blockSizeBytes) this.submitToBlock(io, index, start);
    else (this.idleSplits.pop() ?? new Split(this)).start(io);
  }

  /** Not once the map can serve no more: what comes before the volume is given up is for its next owner. */
  get admits(): boolean {
    return this.admitting && !this.owned?.map.failed;
  }

  /** Of the ownership; only of a volume. */
  get epoch(): Epoch {
    assert(this.owned !== null, 'a snapshot has no epoch');
    return this.owned.epoch;
  }

  /** From here on nothing is admitted; resolves when all that was admitted has been answered. */
  stopAdmitting(): Promise<void> {
    this.admitting = false;
    return new Promise((resolve) => {
      this.drainWaiters.push(resolve);
      this.tellDrained();
    });
  }

  /**
   * Ends service for good, without an answer to what is under way: what was submitted under an epoch is answered only under that epoch.
   * `takeBack` gets each such I/O when the store is done with it; resolves after the last.
   */
  async revoke(takeBack: (io: VolumeIo) => void): Promise<void> {
    this.takeBack = takeBack;
    this.claims?.end();
    this.held?.release();
    await this.stopAdmitting();
  }

  resumeAdmitting(): void {
    this.admitting = true;
    this.claims?.go();
  }

  /** Resolves when nothing has to be claimed any more; until then no snapshot may be taken. */
  async claimAll(): Promise<void> {
    await this.claims?.finish();
  }

  /** One block's worth of I/O: a whole one or a part. */
  submitToBlock(io: VolumeIo, index: number, start: number): void {
    // Zeros are not stored as data. Smaller ones are not worth a look.
    if (io.kind === IO_WRITE && io.length >= this.subBlockBytes && isZero(io.data)) io.kind = IO_ZERO;
    let block = this.blocks.get(index);
    if (block === undefined) {
      const generation = this.pages.generationOf(index);
      if (generation === 0 && io.kind !== IO_WRITE) {
        if (io.kind === IO_READ) readHole(io);
        this.complete(io, null);
        return;
      }
      block = this.remember(index, generation);
    }
    block.used = true;
    if (block.mustWait(io, start)) block.queue.push(io);
    else this.startOn(block, io, start);
  }

  /** Starts an I/O that nothing before it conflicts with. */
  private startOn(block: Block, io: VolumeIo, start: number): void {
    if (this.changesEntry(block, io, start)) {
      if (!block.quiet) {
        block.queue.push(io);
        return;
      }
      block.exclusive = true;
      changeEntry(this, block, { start, length: io.length, data: io.kind === IO_WRITE ? io.data : null }).then(
        () => this.entryChanged(block, io, null),
        (error: unknown) => this.entryChanged(block, io, ArchipelagoError.from(error, `block ${block.index}`)),
      );
      return;
    }
    const { object, writable } = block;
    if (object === null) {
      if (io.kind === IO_READ) readHole(io);
      this.complete(io, null);
      return;
    }
    const task = this.takeTask(block, io, start, io.kind !== IO_READ);
    if (io.kind === IO_READ) {
      if (block.layered !== null && !isPresent(block.layered, start, io.length, this.blockSizeBytes)) this.readLayered(block, io, start, task);
      else if (object.read(start, io.data, task)) this.endTask(task, null);
      return;
    }
    assert(writable !== null, 'what is changed in place is writable');
    if (io.kind === IO_WRITE) {
      if (block.zeroed !== null) block.zeroed = withoutWritten(block.zeroed, start, io.length, this.subBlockBytes);
      if (writable.write(start, io.data, task)) this.endTask(task, null);
    } else {
      if (block.layered === null) block.zeroed = withZeroed(block.zeroed, start, io.length, this.subBlockBytes, this.endOfBlock(block.index));
      if (writable.zero(start, io.length, task)) this.endTask(task, null);
    }
  }

  /** True when the map's entry changes with this I/O: first writes, new sub-blocks, and zeros over the whole block. */
  private changesEntry(block: Block, io: VolumeIo, start: number): boolean {
    if (io.kind === IO_READ) return false;
    if (block.object === null) return io.kind === IO_WRITE;
    if (block.writable === null) return true;
    if (block.layered !== null && !isPresent(block.layered, start, io.length, this.blockSizeBytes)) return true;
    return io.kind !== IO_WRITE && this.emptiesBlock(block, start, io.length);
  }

  /** True when zeros over the range leave nothing else in the block: alone, or with what was zeroed before. */
  emptiesBlock(block: Block, start: number, length: number): boolean {
    const end = this.endOfBlock(block.index);
    if (start === 0 && length >= end) return true;
    return block.zeroed !== null && isComplete(withZeroed(block.zeroed, start, length, this.subBlockBytes, end));
  }

  /** Where the block ends, or the volume within it. */
  private endOfBlock(index: number): number {
    return Math.min(this.blockSizeBytes, this.sizeBytes - index * this.blockSizeBytes);
  }

  private readLayered(block: Block, io: VolumeIo, start: number, task: StoreTask): void {
    const { object, base, layered } = block;
    assert(object !== null && base !== null && layered !== null, 'a layered block has both objects');
    readComposed(object, base, layered, start, io.data, this.blockSizeBytes).then(
      () => this.endTask(task, null),
      (error: unknown) => this.endTask(task, ArchipelagoError.from(error, `block ${block.index}`)),
    );
  }

  private entryChanged(block: Block, io: VolumeIo, error: ArchipelagoError | null): void {
    block.exclusive = false;
    if (error) block.merge = null;
    if (block.layered !== null) {
      block.freshlyLayered = true;
      this.merger?.wanted();
    }
    this.complete(io, block.describe(error));
    this.runQueue(block);
  }

  private takeTask(block: Block, io: VolumeIo, start: number, changes: boolean): StoreTask {
    const task = this.idleTasks.pop() ?? new StoreTask(this);
    task.block = block;
    task.io = io;
    task.startBytes = start;
    task.endBytes = start + io.length;
    task.changes = changes;
    block.begin(task);
    return task;
  }

  /** The store has answered an operation, at once or later. */
  endTask(task: StoreTask, error: ArchipelagoError | null): void {
    const { block, io } = task;
    assert(block !== null && io !== null, 'a task that ends was taken');
    block.end(task);
    task.block = null;
    task.io = null;
    this.idleTasks.push(task);
    // How much of it has become zeros is not known.
    if (error !== null && io.kind === IO_ZERO) block.zeroed = null;
    this.complete(io, error === null ? null : block.describe(error));
    if (!block.queue.empty) this.runQueue(block);
  }

  private runQueue(block: Block): void {
    // Called from within, when what it has started ended at once: the loop below goes on by itself, however long the queue.
    if (block.running) return;
    block.running = true;
    this.startQueued(block);
    block.running = false;
  }

  private startQueued(block: Block): void {
    for (let io = block.queue.first; io !== null && !block.exclusive; io = block.queue.first) {
      const start = io.offset - block.index * this.blockSizeBytes;
      if (block.conflicts(start, start + io.length, io.kind !== IO_READ)) return;
      // A change of the entry needs the block for itself; it stays at the head until the others have ended.
      if (this.changesEntry(block, io, start) && !block.quiet) return;
      block.queue.shift();
      this.startOn(block, io, start);
    }
  }

  private remember(index: number, generation: number): Block {
    if (this.blocks.size >= MAX_BLOCKS) this.forgetUnused();
    const block = new Block(index);
    this.blocks.set(index, block);
    if (generation === MISSING) {
      this.load(block);
    } else {
      this.adoptEntry(block, generation);
    }
    return block;
  }

  private load(block: Block): void {
    block.exclusive = true;
    this.pages.load(block.index).then(
      () => this.loaded(block),
      (error: unknown) => this.loadFailed(block, ArchipelagoError.from(error, `map of block ${block.index}`)),
    );
  }

  private loaded(block: Block): void {
    const generation = this.pages.generationOf(block.index);
    if (generation === MISSING) {
      // Evicted again between its arrival and this turn.
      this.load(block);
      return;
    }
    block.exclusive = false;
    this.adoptEntry(block, generation);
    this.runQueue(block);
  }

  private loadFailed(block: Block, error: ArchipelagoError): void {
    this.blocks.delete(block.index);
    for (let io = block.queue.shift(); io !== null; io = block.queue.shift()) this.complete(io, error);
  }

  private adoptEntry(block: Block, generation: number): void {
    if (generation === 0) return;
    const layered = generation === LAYERED ? this.pages.layered(block.index) : null;
    const own = layered?.generation ?? (generation as Generation);
    block.layered = layered;
    if (layered) block.base = this.blockStore.immutableObject(layered.base, block.index);
    if (this.owned?.map.isLive(own)) {
      block.writable = this.owned.map.store.object(own, block.index);
      block.object = block.writable;
      if (layered) this.merger?.wanted();
      if (this.claims !== null && this.owned.map.isUnclean(own) && !this.claims.has(block.index)) this.claim(block, block.writable);
    } else {
      block.object = this.blockStore.immutableObject(own, block.index);
    }
  }

  /** Before anything else is done with the object: what an owner before has under way would land over it. A drain waits for this too. */
  private claim(block: Block, writable: WritableBlockObject): void {
    block.exclusive = true;
    this.inFlight++;
    storeCall((waiter) => writable.claim(waiter)).then(
      () => this.claimEnded(block, null),
      (error: unknown) => this.claimEnded(block, ArchipelagoError.from(error, `claiming block ${block.index}`)),
    );
  }

  private claimEnded(block: Block, error: ArchipelagoError | null): void {
    block.exclusive = false;
    block.claimError = block.describe(error);
    if (block.claimError !== null) {
      block.releaseObjects();
      this.loadFailed(block, block.claimError);
    } else {
      this.claims?.add(block.index);
      this.runQueue(block);
    }
    this.inFlight--;
    this.tellDrained();
  }

  /** Second chance: blocks used since the last round stay for one more. */
  private forgetUnused(): void {
    for (const [index, block] of this.blocks) {
      if (block.idle && !block.used) {
        block.releaseObjects();
        this.blocks.delete(index);
      }
      block.used = false;
    }
  }

  /** Answers a whole I/O, or passes the end of a part on. */
  private complete(io: VolumeIo, error: ArchipelagoError | null): void {
    if (io.part) io.done(error);
    else if (io.fua && error === null && io.kind !== IO_READ) this.answerDurable(io);
    else this.answer(io, error);
  }

  splitDone(split: Split, io: VolumeIo, error: ArchipelagoError | null): void {
    this.idleSplits.push(split);
    this.complete(io, error);
  }

  private answerDurable(io: VolumeIo): void {
    if (!this.owned) {
      this.answer(io, null);
      return;
    }
    this.owned.map.flush().then(
      () => this.answer(io, null),
      (error: unknown) => this.answer(io, ArchipelagoError.from(error, 'flush')),
    );
  }

  /** The last step before a client hears anything: after the store has answered, the lease must still hold. */
  private answer(io: VolumeIo, error: ArchipelagoError | null): void {
    if (this.held !== null && !this.takeBack && !this.owned?.lease.valid) this.held.hold(io, error);
    else this.end(io, error);
  }

  private end(io: VolumeIo, error: ArchipelagoError | null): void {
    this.inFlight--;
    if (this.takeBack) {
      // What was found here does not hold for whoever serves it next.
      io.hole = false;
      this.takeBack(io);
    } else {
      io.done(error);
    }
    // After the answer: an ownership that ends takes back what has none, and a flush that has failed must not succeed at the next owner.
    if (error !== null && this.owned?.map.failed) this.onFailed?.();
    this.tellDrained();
  }

  private tellDrained(): void {
    if (this.inFlight === 0 && !this.admitting) {
      const waiters = this.drainWaiters;
      this.drainWaiters = [];
      for (const waiter of waiters) waiter();
    }
  }

  // ---- for the merge of layered blocks ----

  get map(): OpenMap {
    assert(this.owned !== null, 'a snapshot is not merged');
    return this.owned.map;
  }

  /** The ownership has ended. */
  get revoked(): boolean {
    return this.takeBack !== null;
  }

  /** Layered blocks that were completed here. */
  get mergedBlocks(): number {
    return this.merger?.mergedBlocks ?? 0;
  }

  /** A block whose page is loaded. */
  blockOf(index: number): Block {
    return this.blocks.get(index) ?? this.remember(index, this.pages.generationOf(index));
  }

  /** Runs a short `work` with the block to itself, as an operation that a drain waits for. False: not at once, so it was not done. */
  async withBlock(block: Block, work: () => Promise<void>): Promise<boolean> {
    const known = this.blocks.get(block.index) === block;
    if (!known || !this.admitting || !block.idle || !this.owned?.lease.valid) return false;
    block.exclusive = true;
    block.used = true;
    this.inFlight++;
    try {
      await work();
    } finally {
      block.exclusive = false;
      this.inFlight--;
      this.runQueue(block);
      this.tellDrained();
    }
    return true;
  }

  /** As `Device.extents`. Rejects with `stale-epoch` while nothing is admitted, and when the ownership ends meanwhile. */
  extents(offsetBytes: number, lengthBytes: number, maxExtents: number): Promise<Extent[]> {
    return findExtents(this, offsetBytes, lengthBytes, maxExtents);
  }

  /** Forgets every block's objects and entry. Only while nothing is in flight: after a cut, or at the end. */
  forgetBlocks(): void {
    for (const block of this.blocks.values()) {
      assert(block.idle, 'blocks are forgotten only after a drain');
      block.releaseObjects();
    }
    this.blocks.clear();
  }

  /** Drops everything from `sizeBytes` on, after a shrink: whole blocks by one change, the rest of the last one by zeros. Only while drained. */
  async truncate(sizeBytes: number): Promise<void> {
    const { owned } = this;
    assert(owned !== null && !this.admitting && this.inFlight === 0, 'a volume is truncated by its owner, drained');
    this.forgetBlocks();
    const firstGone = Math.ceil(sizeBytes / this.blockSizeBytes);
    await owned.map.recordChange({ kind: 'truncate', index: firstGone });
    const start = sizeBytes % this.blockSizeBytes;
    if (start === 0) return;
    const index = firstGone - 1;
    await this.pages.load(index);
    const block = this.remember(index, this.pages.generationOf(index));
    // It may have to be claimed first, which counts as under way.
    await this.stopAdmitting();
    if (block.claimError !== null) throw block.claimError;
    if (block.object === null) return;
    const length = this.blockSizeBytes - start;
    const { writable } = block;
    if (writable !== null && block.layered === null) return storeCall((waiter) => writable.zero(start, length, waiter));
    block.exclusive = true;
    await changeEntry(this, block, { start, length, data: null }).finally(() => {
      block.exclusive = false;
    });
  }
}

function readHole(io: VolumeIo): void {
  if (io.takesHoles) io.hole = true;
  else io.data.fill(0);
}
