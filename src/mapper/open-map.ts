/**
 * The map of a volume that this node owns: the tree in memory, its journal and its header in the store.
 *
 * Everything between two awaits is one step. Changes reach the tree only after their journal frame was appended, so the tree never shows
 * what a crash of this process would take back.
 */
import { ArchipelagoError, assert, type Epoch, type Generation } from '../base/index.ts';
import { type StoreWaiter, storeCall, type VolumeStore } from '../blocker/index.ts';
import { decodeHeader, encodeHeader } from './core/header.ts';
import { FrameWriter, type JournalTail } from './core/journal.ts';
import { applyGenerations, isLive, isUnclean, type LiveState, NO_GENERATIONS } from './core/live.ts';
import { decodeSegments } from './core/replay.ts';
import { changesGenerations, type GenerationChange, type MapChange, type PageRef, type VolumeHeader } from './core/types.ts';
import { OlderSegments } from './older-segments.ts';
import { type Batch, type Cut, newBatch, type OpenMapOptions, type RecordWaiter, type UnfinishedFold } from './open-map-types.ts';
import { type PagedTree, warmTree } from './paged-tree.ts';

/** Journal bytes after which a fold starts by itself; replay after a crash reads a small multiple of it at most. */
const FOLD_AFTER_BYTES = 1 << 20;
/** Page writes under way at a time during a fold. */
const PAGE_WRITES = 8;
const NOTHING = new Uint8Array(0);

export class OpenMap implements StoreWaiter {
  readonly store: VolumeStore;
  readonly pages: PagedTree;
  private readonly options: OpenMapOptions;

  private live: LiveState;
  private writer: FrameWriter;
  /** Where the journal ends without the frame being appended. */
  private tail: JournalTail | null;
  /** Frames of the present segment that are known to survive a power failure. */
  private markedFrames = 0;
  /** Frames of the present segment that the store has taken. */
  private appendedFrames = 0;
  /** The last of them that carries a record: a mark alone needs no mark. */
  private lastRecordFrame = 0;
  /** Frames before the present segment may still need a mark. */
  private unmarkedBefore: boolean;

  private pending: Batch = newBatch();
  private appending: Batch | null = null;
  /** Goes in front of the next append, whenever that is: an append with it has failed. */
  private owed: MapChange[] = [];
  private scheduled = false;
  /** A fold waits for the end of an append, and no other starts before it has captured the map: under load there would always be one. */
  private held = false;
  private boundaryWaiters: (() => void)[] = [];

  private maintenance: Promise<void> = Promise.resolve();
  /** A fold whose pages or header could not be written yet; it goes first at the next try. */
  private unfinishedFold: UnfinishedFold | null = null;
  private readonly older: OlderSegments;
  /** The header that is written needs no segments below this one. */
  private droppable: number | null = null;
  private hasHeader: boolean;
  private foldWanted = false;
  private flushRunning: Promise<void> | null = null;
  private flushNext: Promise<void> | null = null;
  private failure: ArchipelagoError | null = null;

  private constructor(options: OpenMapOptions, header: VolumeHeader, replay: { tail: JournalTail | null; nextSegment: number }) {
    this.options = options;
    this.store = options.takeover.store;
    this.pages = warmTree(options, header.root);
    this.hasHeader = options.takeover.header !== null;
    this.older = new OlderSegments(options.takeover.segments, header.segment);
    this.live = header;
    this.tail = replay.tail;
    this.unmarkedBefore = replay.tail !== null;
    this.writer = this.newWriter(replay.nextSegment);
  }

  /** Reads header and journal as the takeover found them and replays what is not folded. Fails with `corrupt` rather than guess. */
  static async open(options: OpenMapOptions): Promise<OpenMap> {
    const { takeover, naming, volume, epoch, bootId } = options;
    const stored = takeover.header ? decodeHeader(takeover.header, volume) : null;
    const header = stored?.header ?? firstHeader(options);
    const replay = decodeSegments(takeover.segments, { volume, epoch, bootId, fromSegment: header.segment });
    if (replay.torn || replay.droppedRecords > 0) {
      options.log.warn({ cutAt: replay.cutAt, droppedRecords: replay.droppedRecords }, 'the journal ends in what was never flushed: leaving it out');
    }
    const map = new OpenMap(options, header, replay);
    for (const change of replay.changes) await map.replay(change);
    if ('generation' in naming) await map.begin(naming.generation, replay.epoch ?? stored?.epoch ?? null);
    else map.goOn(naming.nextPageSequence);
    if (!map.hasSmallJournal) map.scheduleFold();
    return map;
  }

  /**
   * Begins an ownership that was not handed over, and records it before anything else is done. `recorded` is the epoch of the last owner that
   * did so: one that took the log over and did not come that far may have known of stale writes that nobody else knows of.
   */
  private async begin(generation: Generation, recorded: Epoch | null): Promise<void> {
    const { takeover, epoch, log } = this.options;
    const { from, quiet } = takeover;
    if (from === epoch && !quiet) throw new ArchipelagoError('unavailable', `an earlier use of epoch ${epoch} has not ended`);
    const isClean = quiet && recorded === from;
    const change: MapChange = isClean ? { kind: 'naming', generation, closeOthers: false } : { kind: 'takeover', generation };
    this.live = applyGenerations(this.live, change);
    if (this.hasUnclean) log.info({ from, recorded, generations: this.live.uncleanGenerations }, 'objects have to be claimed from owners before');
    await this.recordChange(change);
  }

  /** Goes on from an owner that has handed the volume over. Recorded too, but nothing depends on it. */
  private goOn(nextPageSequence: number): void {
    this.live = { ...this.live, nextPageSequence: Math.max(this.live.nextPageSequence, nextPageSequence) };
    this.record({ kind: 'naming', generation: this.live.namingGeneration, closeOthers: false }, null);
  }

  private newWriter(segment: number): FrameWriter {
    const { volume, epoch, bootId } = this.options;
    return new FrameWriter({ volume, epoch, segment, bootId, predecessor: this.tail });
  }

  /** True when objects of this generation may be written in place. */
  isLive(generation: Generation): boolean {
    return isLive(this.live, generation);
  }

  /** True when an owner before may still be writing objects of this generation: each is claimed before its first use. */
  isUnclean(generation: Generation): boolean {
    return isUnclean(this.live, generation);
  }

  get hasUnclean(): boolean {
    return this.live.uncleanGenerations.length > 0;
  }

  /** Records that all objects of unclean generations that the map mentions were claimed. */
  recordClaimed(): Promise<void> {
    return this.recordChange({ kind: 'claimed' });
  }

  /** What new objects are named by. */
  get naming(): Generation {
    return this.live.namingGeneration;
  }

  /** For the next owner: pages named so far, finished or not. Only after everything was drained. */
  get pageSequence(): number {
    return this.live.nextPageSequence;
  }

  /** Why the volume serves no more, or null. */
  get failed(): ArchipelagoError | null {
    return this.failure;
  }

  /**
   * Records a change whose data is in the store. Records of one turn share a frame, and those that come while the store is busy share the
   * next one. The waiter is told after this call has returned.
   */
  record(change: MapChange, waiter: RecordWaiter | null): void {
    this.pending.changes.push(change);
    this.pending.waiters.push(waiter);
    this.schedule();
  }

  /** As `record`, as a promise. */
  recordChange(change: MapChange): Promise<void> {
    return new Promise((resolve, reject) => {
      this.record(change, { recorded: (error) => (error ? reject(error) : resolve()) });
    });
  }

  private schedule(): void {
    if (this.scheduled || this.appending || this.held) return;
    this.scheduled = true;
    queueMicrotask(() => {
      this.scheduled = false;
      this.append();
    });
  }

  private append(): void {
    assert(this.appending === null, 'appends of one volume are made one at a time');
    const batch = this.pending;
    this.pending = newBatch();
    batch.changes.unshift(...this.owed);
    batch.waiters.unshift(...this.owed.map(() => null));
    this.owed = [];
    this.appending = batch;
    if (this.failure) {
      this.appendEnded(batch, 0, this.failure);
      return;
    }
    const { writer } = this;
    writer.begin();
    for (const change of batch.changes) writer.add(change);
    // A mark that was asked for in an older segment is not written; who asked notices and asks again.
    const bytes = writer.finish(batch.mark?.writer === writer ? batch.mark.covered : null);
    if (this.store.appendJournal(writer.identity.segment, writer.start, bytes, this)) this.appended();
  }

  /** The store has answered an append. */
  storeDone(error: ArchipelagoError | null): void {
    if (error) void this.appendFailed(error);
    else this.appended();
  }

  private appended(): void {
    const batch = this.appending;
    assert(batch !== null, 'the store answered an append that is under way');
    this.tail = this.writer.tail;
    this.appendedFrames = this.writer.frames;
    if (batch.changes.length > 0) this.lastRecordFrame = this.appendedFrames;
    for (let i = 0; i < batch.changes.length; i++) {
      const change = batch.changes[i] as MapChange;
      if (changesGenerations(change)) this.applyClaimed(change);
      else if (this.pages.tree.apply(change) !== null) {
        // The page was evicted between the look-up and now. Nothing is appended until the rest is applied, in order.
        void this.applyRest(batch, i);
        return;
      }
      batch.waiters[i]?.recorded(null);
    }
    this.appendEnded(batch, batch.changes.length, null);
  }

  /** What names a generation has counted from the start of its append. */
  private applyClaimed(change: GenerationChange): void {
    if (change.kind === 'claimed') this.live = applyGenerations(this.live, change);
  }

  private async applyRest(batch: Batch, from: number): Promise<void> {
    for (let i = from; i < batch.changes.length; i++) {
      try {
        const change = batch.changes[i] as MapChange;
        if (changesGenerations(change)) this.applyClaimed(change);
        else await this.pages.apply(change);
      } catch (error) {
        // It is in the journal and not in the tree: only a new owner, who replays, may go on.
        this.fail(ArchipelagoError.from(error, 'apply a recorded change'));
        return this.appendEnded(batch, i, this.failure);
      }
      batch.waiters[i]?.recorded(null);
    }
    this.appendEnded(batch, batch.changes.length, null);
  }

  /**
   * The frame may be on disk all the same. Before anyone hears of the failure the journal is cut, so that no replay finds it. Where even that
   * fails, only a takeover can tell, so the volume stops here.
   */
  private async appendFailed(error: ArchipelagoError): Promise<void> {
    const batch = this.appending;
    assert(batch !== null, 'the store answered an append that is under way');
    // No later record may come without it: who replays would take the objects of that generation for closed ones.
    this.owed = batch.changes.filter(({ kind }) => kind === 'naming');
    try {
      await storeCall((waiter) => this.store.appendJournal(this.writer.identity.segment, this.writer.start, NOTHING, waiter));
      this.beginSegment();
    } catch (cutError) {
      this.fail(ArchipelagoError.from(cutError, 'cut the journal after a failed append'));
    }
    this.appendEnded(batch, 0, this.failure ?? error);
  }

  /** Tells the waiters from `from` on, if there is an error to tell, and goes on with what has come meanwhile. */
  private appendEnded(batch: Batch, from: number, error: ArchipelagoError | null): void {
    this.appending = null;
    if (error) for (let i = from; i < batch.waiters.length; i++) batch.waiters[i]?.recorded(error);
    batch.mark?.waiter.recorded(error);
    if (this.boundaryWaiters.length > 0) {
      const waiters = this.boundaryWaiters;
      this.boundaryWaiters = [];
      for (const waiter of waiters) waiter();
    }
    if (this.pending.changes.length > 0 || this.pending.mark !== null) this.schedule();
    if (this.writer.length > FOLD_AFTER_BYTES) this.scheduleFold();
  }

  /** What is appended from here on goes to a new segment, which says how much counts of the one before. */
  private beginSegment(): void {
    this.unmarkedBefore ||= this.lastRecordFrame > this.markedFrames;
    this.markedFrames = 0;
    this.appendedFrames = 0;
    this.lastRecordFrame = 0;
    this.older.add(this.writer.identity.segment, this.writer.length);
    this.writer = this.newWriter(this.writer.identity.segment + 1);
  }

  private async replay(change: MapChange): Promise<void> {
    if (changesGenerations(change)) this.live = applyGenerations(this.live, change);
    else await this.pages.apply(change);
  }

  /** Makes durable every change and every write that was answered before the call. Calls that come while one runs share the next. */
  flush(): Promise<void> {
    if (!this.flushRunning) {
      this.flushRunning = this.flushNow().finally(() => {
        this.flushRunning = null;
      });
      return this.flushRunning;
    }
    const startNext = (): Promise<void> => {
      this.flushNext = null;
      return this.flush();
    };
    this.flushNext ??= this.flushRunning.then(startNext, startNext);
    return this.flushNext;
  }

  private async flushNow(): Promise<void> {
    for (;;) {
      if (this.failure) throw this.failure;
      const { writer } = this;
      // Frames appended while the sync runs are not covered by it: the mark says so.
      const covered = this.appendedFrames;
      const needsMark = this.lastRecordFrame > this.markedFrames || this.unmarkedBefore;
      await this.syncOrStop(() => this.store.sync());
      if (!needsMark) return;
      await this.appendMark(writer, covered);
      if (writer !== this.writer) continue;
      await this.syncOrStop(() => this.store.syncJournal());
      // Behind the mark, in what is now the segment before, may be frames that it does not cover.
      if (writer !== this.writer) return;
      this.markedFrames = Math.max(this.markedFrames, covered);
      this.unmarkedBefore = false;
      return;
    }
  }

  /** A failed sync leaves unknown what is durable, and asking again proves nothing: the page cache may have dropped what it could not write. */
  private async syncOrStop(sync: () => Promise<void>): Promise<void> {
    try {
      await sync();
    } catch (error) {
      const failure = ArchipelagoError.from(error, 'sync');
      this.fail(failure);
      throw failure;
    }
  }

  private appendMark(writer: FrameWriter, covered: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.pending.mark = { writer, covered, waiter: { recorded: (error) => (error ? reject(error) : resolve()) } };
      this.schedule();
    });
  }

  /** Waits for the end of the append that is scheduled or under way. */
  private boundary(): Promise<void> {
    if (!this.appending && !this.scheduled) return Promise.resolve();
    return new Promise((resolve) => this.boundaryWaiters.push(resolve));
  }

  private scheduleFold(): void {
    if (this.foldWanted || this.failure) return;
    this.foldWanted = true;
    this.fold().catch((error: unknown) => {
      this.options.log.warn({ error: String(error) }, 'a fold failed; the journal keeps everything, and the next fold tries again');
    });
  }

  /** Writes the changed pages and a header that starts there, so that the journal before is no longer needed. Resolves to the root. */
  fold(): Promise<PageRef | null> {
    return this.exclusive(async () => {
      this.foldWanted = false;
      await this.finishFold();
      const captured = await this.captureSettled(null);
      this.unfinishedFold = captured;
      await this.finishFold();
      await this.dropFolded();
      return captured.header.root;
    });
  }

  /** Folds what would keep a cut or the next owner, and so guests, busy for long. A few changes are not worth it. Then no fold is under way. */
  async shortenJournal(): Promise<void> {
    await this.maintenance;
    if (!this.hasSmallJournal || this.unfinishedFold) await this.fold();
  }

  /** As `shortenJournal`, and leaves a header: by that the next owner knows a volume that was handed over. */
  async prepareHandOver(): Promise<void> {
    await (this.hasHeader ? this.shortenJournal() : this.fold());
  }

  private get hasSmallJournal(): boolean {
    return this.older.isSmallWith(this.writer.length);
  }

  /**
   * Closes the live set: from now on new objects are named by `naming`, and nothing else is written in place. The caller has stopped
   * admitting and has drained before, and may go on as soon as this resolves; the cut is `durable` later.
   */
  cut(naming: Generation): Promise<Cut> {
    return new Promise((resolve, reject) => {
      this.exclusive(async () => {
        await this.finishFold();
        const fold = await this.captureSettled(naming);
        this.unfinishedFold = fold;
        const durable = this.finishFold();
        resolve({ root: fold.header.root, durable });
        // Whoever asked for the cut learns of its failure; here it only ends the turn.
        await durable.catch(() => undefined);
        // Nobody waits for this either. Where it fails, the next fold removes them.
        await this.dropFolded().catch(() => undefined);
      }).catch(reject);
    });
  }

  /** Waits until nothing recorded is on its way to the journal, then captures. What is recorded meanwhile is appended afterwards. */
  private async captureSettled(naming: Generation | null): Promise<UnfinishedFold> {
    this.held = true;
    try {
      while (this.appending || this.scheduled) await this.boundary();
      if (this.failure) throw this.failure;
      return this.capture(naming);
    } finally {
      this.held = false;
      if (this.pending.changes.length > 0 || this.pending.mark !== null) this.schedule();
    }
  }

  /** One step: pages and header of exactly what the journal holds up to here; what follows goes to a new segment. */
  private capture(naming: Generation | null): UnfinishedFold {
    const fold = this.pages.tree.fold(this.live.namingGeneration, this.live.nextPageSequence);
    this.live = { ...this.live, nextPageSequence: fold.nextSequence };
    if (this.writer.frames > 0) this.beginSegment();
    if (naming !== null) {
      assert(!this.hasUnclean, 'a cut waits until everything was claimed: what is written behind it would else be in the snapshot');
      const change = { kind: 'naming', generation: naming, closeOthers: true } as const;
      this.live = applyGenerations(this.live, change);
      this.record(change, null);
    }
    return { fold, header: { ...this.live, root: fold.root, segment: this.writer.identity.segment } };
  }

  private async finishFold(): Promise<void> {
    if (!this.unfinishedFold) return;
    if (this.failure) throw this.failure;
    const { fold, header } = this.unfinishedFold;
    for (let at = 0; at < fold.pages.length; at += PAGE_WRITES) {
      const writes = fold.pages.slice(at, at + PAGE_WRITES).map((page) => this.store.writePage(page.generation, page.sequence, page.bytes));
      await Promise.all(writes);
    }
    // The header must not survive a power failure that its pages, or the data of their entries, do not.
    const synced = this.syncOrStop(() => this.store.sync());
    const written = this.store.writeHeader(encodeHeader(this.options.volume, this.options.epoch, header), synced);
    // Either may fail first, and what follows waits for the end of both.
    for (const result of await Promise.allSettled([synced, written])) if (result.status === 'rejected') throw result.reason;
    this.unfinishedFold = null;
    this.pages.tree.written(fold);
    if (this.writer.identity.segment === header.segment) this.unmarkedBefore = false;
    this.droppable = header.segment;
    this.hasHeader = true;
    this.older.forget(header.segment);
  }

  /** Removes the segments that are folded; once, since the next fold removes with its own what is left of them. */
  private async dropFolded(): Promise<void> {
    const { droppable } = this;
    if (droppable === null) return;
    this.droppable = null;
    await this.store.dropSegments(droppable);
  }

  private exclusive<Result>(work: () => Promise<Result>): Promise<Result> {
    const run = this.maintenance.then(work);
    this.maintenance = run.then(
      () => undefined,
      () => undefined,
    );
    return run;
  }

  private fail(error: ArchipelagoError): void {
    if (this.failure) return;
    this.failure = error;
    this.options.log.error({ code: error.code, error: error.message }, 'the volume stops: only a takeover can tell what its store holds');
  }

  /** Waits for folds, flushes and appends under way, and for what they start, so that nothing of this owner reaches the store afterwards. */
  async drain(): Promise<void> {
    for (;;) {
      const { maintenance } = this;
      await maintenance;
      // Who flushes learns of a failure; here only its end matters.
      await this.flushRunning?.catch(() => undefined);
      while (this.appending || this.scheduled) await this.boundary();
      if (maintenance === this.maintenance && !this.flushRunning) return;
    }
  }

  /** Ends use. Syncs nothing that was not asked for. */
  async close(): Promise<void> {
    await this.drain();
    await this.store.close();
  }
}

function firstHeader(options: OpenMapOptions): VolumeHeader {
  assert('generation' in options.naming, 'a volume without a header was never handed over');
  return { ...NO_GENERATIONS, root: options.initialRoot, segment: 0 };
}
