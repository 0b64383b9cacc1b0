/**
 * The store in memory: for tests, benchmarks and the simulator, within one process. It guards as RADOS does: each object carries the
 * epoch of the last owner that made or claimed it, and a mutation under a lower one is refused. So a paused owner can be simulated.
 */
import { type ArchipelagoError, assert, type Epoch, type Generation, type VolumeId } from '../base/index.ts';
import { objectExists, objectMissing, pageMissing, refuse, storeClosed, superseded } from './answers.ts';
import { batches } from './batches.ts';
import { SparseBytes } from './memory-object.ts';
import type {
  BlockObject,
  BlockStore,
  CollectedKind,
  JournalSegment,
  ObjectName,
  Removed,
  StoreStatus,
  StoreWaiter,
  Takeover,
  UnsyncedWatch,
  VolumeLog,
  VolumeStore,
  WritableBlockObject,
} from './store.ts';

export interface MemoryStoreOptions {
  /**
   * Given, nothing is done at once: each operation takes effect, and is answered, when its `run` is called. The simulator decides when
   * and in which order; that may be after the epoch was superseded. `run` must not be called from within `defer`.
   */
  readonly defer?: (run: () => void) => void;
}

export function openMemoryStore(options: MemoryStoreOptions = {}): BlockStore {
  return new MemoryStore(options.defer ?? null);
}

/** Counters are safe integers, so doubles name generations and indexes exactly; two levels of maps need no strings. */
type ByGeneration<Value> = Map<number, Map<number, Value>>;

interface StoredObject extends ObjectName {
  readonly bytes: SparseBytes;
  /** Of the last owner that made or claimed it; only grows. */
  epoch: number;
  removed: boolean;
}

interface StoredSegment {
  bytes: Uint8Array;
  length: number;
}

interface StoredLog {
  epoch: Epoch;
  header: Uint8Array | null;
  readonly segments: Map<number, StoredSegment>;
  /** Under whose epochs something may still be under way. */
  readonly open: Set<MemoryVolumeStore>;
}

class MemoryStore implements BlockStore {
  readonly kind = 'memory';
  readonly defer: ((run: () => void) => void) | null;
  readonly objects: ByGeneration<StoredObject> = new Map();
  readonly pages: ByGeneration<Uint8Array> = new Map();
  readonly logs = new Map<VolumeId, StoredLog>();
  usedBytes = 0;

  constructor(defer: ((run: () => void) => void) | null) {
    this.defer = defer;
  }

  /** Runs a promised operation at once or when the simulator says so. */
  promise<Result>(operation: () => Result): Promise<Result> {
    return new Promise((resolve, reject) => {
      const run = () => {
        try {
          resolve(operation());
        } catch (error) {
          reject(error);
        }
      };
      if (this.defer === null) run();
      else this.defer(run);
    });
  }

  takeOver(volume: VolumeId, epoch: Epoch, clean: boolean): Promise<Takeover> {
    return this.promise(() => {
      let log = this.logs.get(volume);
      const from = log?.epoch ?? null;
      if (log === undefined) {
        log = { epoch, header: null, segments: new Map(), open: new Set() };
        this.logs.set(volume, log);
      }
      if (log.epoch > epoch) throw superseded(volume, epoch, log.epoch);
      log.epoch = epoch;
      const quiet = clean || log.open.size === 0;
      const store = new MemoryVolumeStore(this, volume, epoch, log);
      log.open.add(store);
      return { store, header: log.header?.slice() ?? null, segments: segmentsOf(log), from, quiet };
    });
  }

  immutableObject(generation: Generation, index: number): BlockObject {
    return new MemoryHandle(this, null, generation, index);
  }

  readPage(generation: Generation, sequence: number): Promise<Uint8Array> {
    return this.promise(() => {
      const page = this.pages.get(generation)?.get(sequence);
      if (page === undefined) throw pageMissing(generation, sequence);
      return page.slice();
    });
  }

  readHeader(volume: VolumeId): Promise<Uint8Array | null> {
    return this.promise(() => this.logs.get(volume)?.header ?? null);
  }

  readLog(volume: VolumeId): Promise<VolumeLog | null> {
    return this.promise(() => {
      const log = this.logs.get(volume);
      if (log === undefined) return null;
      return { epoch: log.epoch as Epoch, header: log.header?.slice() ?? null, segments: segmentsOf(log) };
    });
  }

  async *list(kind: CollectedKind, wanted: (generation: Generation) => boolean): AsyncIterable<readonly ObjectName[]> {
    // A map that is changed while it is iterated shows all that stays.
    for (const [generation, names] of this.named(kind)) {
      if (!wanted(generation as Generation)) continue;
      for (const indexes of batches(names.keys())) {
        yield await this.promise(() => indexes.map((index) => ({ generation: generation as Generation, index })));
      }
    }
  }

  async *listLogs(): AsyncIterable<readonly VolumeId[]> {
    for (const volumes of batches(this.logs.keys())) yield await this.promise(() => volumes);
  }

  remove(kind: CollectedKind, names: readonly ObjectName[]): Promise<Removed> {
    return this.promise(() => {
      let count = 0;
      let bytes = 0;
      for (const { generation, index } of names) {
        const siblings = this.named(kind).get(generation);
        const found = siblings?.get(index);
        if (siblings === undefined || found === undefined) continue;
        if (found instanceof Uint8Array) bytes += found.byteLength;
        else {
          found.removed = true;
          bytes += found.bytes.allocatedBytes;
          this.usedBytes -= found.bytes.allocatedBytes;
        }
        siblings.delete(index);
        if (siblings.size === 0) this.named(kind).delete(generation);
        count++;
      }
      return { count, bytes };
    });
  }

  closeIdle(): void {
    // Nothing is open.
  }

  private named(kind: CollectedKind): ByGeneration<StoredObject | Uint8Array> {
    return kind === 'object' ? this.objects : this.pages;
  }

  removeLog(volume: VolumeId): Promise<void> {
    return this.promise(() => void this.logs.delete(volume));
  }

  objectExists(name: ObjectName): Promise<boolean> {
    return this.promise(() => this.find(name.generation, name.index) !== undefined);
  }

  status(): Promise<StoreStatus> {
    return this.promise(() => ({ kind: this.kind, location: 'memory of this process', usedBytes: this.usedBytes, availableBytes: null }));
  }

  async close(): Promise<void> {}

  find(generation: number, index: number): StoredObject | undefined {
    return this.objects.get(generation)?.get(index);
  }
}

class MemoryVolumeStore implements VolumeStore {
  readonly volume: VolumeId;
  readonly epoch: Epoch;
  readonly store: MemoryStore;
  private readonly log: StoredLog;
  private readonly dirty = new Set<StoredObject>();
  private failure: ArchipelagoError | null = null;
  private closing: Promise<void> | null = null;
  private underWay = 0;
  private whenIdle: (() => void) | null = null;

  constructor(store: MemoryStore, volume: VolumeId, epoch: Epoch, log: StoredLog) {
    this.store = store;
    this.volume = volume;
    this.epoch = epoch;
    this.log = log;
  }

  /** True when operations are done at once, without a closure for each. */
  get isImmediate(): boolean {
    return this.store.defer === null && this.failure === null;
  }

  object(generation: Generation, index: number): WritableBlockObject {
    return new MemoryHandle(this.store, this, generation, index);
  }

  appendJournal(segment: number, position: number, bytes: Uint8Array, waiter: StoreWaiter): boolean {
    return this.submit(waiter, () => this.append(segment, position, bytes));
  }

  private append(segment: number, position: number, bytes: Uint8Array): ArchipelagoError | null {
    if (this.log.epoch > this.epoch) return superseded(this.volume, this.epoch, this.log.epoch);
    let stored = this.log.segments.get(segment);
    if (stored === undefined) {
      stored = { bytes: new Uint8Array(0), length: 0 };
      this.log.segments.set(segment, stored);
    }
    assert(position <= stored.length, 'a journal append leaves no gap');
    stored.bytes = grown(stored.bytes, position + bytes.byteLength);
    stored.bytes.set(bytes, position);
    stored.length = position + bytes.byteLength;
    return null;
  }

  dropSegments(segment: number): Promise<void> {
    return this.promise(() => {
      this.checkLog();
      for (const number of this.log.segments.keys()) if (number < segment) this.log.segments.delete(number);
    });
  }

  async writeHeader(bytes: Uint8Array, after?: Promise<void>): Promise<void> {
    const copy = bytes.slice();
    await after;
    return this.promise(() => {
      this.checkLog();
      this.log.header = copy;
    });
  }

  writePage(generation: Generation, sequence: number, bytes: Uint8Array): Promise<void> {
    return this.promise(() => {
      let pages = this.store.pages.get(generation);
      if (pages === undefined) {
        pages = new Map();
        this.store.pages.set(generation, pages);
      }
      const before = pages.get(sequence);
      assert(before === undefined || Buffer.compare(before, bytes) === 0, 'a page is never changed');
      pages.set(sequence, bytes.slice());
    });
  }

  sync(): Promise<void> {
    return this.promise(() => this.dirty.clear());
  }

  syncJournal(): Promise<void> {
    return this.promise(() => {
      // What is appended is there.
    });
  }

  unsynced(): ObjectName[] {
    return Array.from(this.dirty, ({ generation, index }) => ({ generation, index }));
  }

  watchUnsynced(): UnsyncedWatch {
    return { take: () => this.unsynced(), close: () => undefined };
  }

  adoptUnsynced(names: Iterable<ObjectName>): void {
    for (const { generation, index } of names) {
      const object = this.store.find(generation, index);
      if (object !== undefined) this.dirty.add(object);
    }
  }

  /** Both the volume's user and the store may call it, even at a time. */
  close(): Promise<void> {
    this.closing ??= this.closeOnce();
    return this.closing;
  }

  private async closeOnce(): Promise<void> {
    this.failure ??= storeClosed('the volume store');
    if (this.underWay > 0) await new Promise<void>((resolve) => (this.whenIdle = resolve));
    this.log.open.delete(this);
  }

  /** Does a data-path operation at once, or leaves it to the simulator. */
  submit(waiter: StoreWaiter, operation: () => ArchipelagoError | null): boolean {
    if (this.failure !== null) return refuse(waiter, this.failure);
    if (this.store.defer === null) return settle(waiter, operation());
    this.underWay++;
    this.store.defer(() => {
      const error = operation();
      this.ended();
      waiter.storeDone(error);
    });
    return false;
  }

  private async promise(operation: () => void): Promise<void> {
    if (this.failure !== null) throw this.failure;
    this.underWay++;
    try {
      await this.store.promise(operation);
    } finally {
      this.ended();
    }
  }

  private ended(): void {
    this.underWay--;
    if (this.underWay === 0) this.whenIdle?.();
  }

  private checkLog(): void {
    if (this.log.epoch > this.epoch) throw superseded(this.volume, this.epoch, this.log.epoch);
  }

  /** Says whether this owner may change an object: 'at least', because after a clean handover it bears the epoch of the owner before. */
  refusal(object: StoredObject): ArchipelagoError | null {
    return object.epoch > this.epoch ? superseded(this.volume, this.epoch, object.epoch) : null;
  }

  changed(object: StoredObject): void {
    this.dirty.add(object);
  }

  forget(object: StoredObject): void {
    this.dirty.delete(object);
  }
}

/** A handle; `volume` is null for one that may only read. */
class MemoryHandle implements WritableBlockObject {
  readonly generation: Generation;
  readonly index: number;
  private readonly store: MemoryStore;
  private readonly volume: MemoryVolumeStore | null;
  /** What `find` found last. */
  private known: StoredObject | undefined;

  constructor(store: MemoryStore, volume: MemoryVolumeStore | null, generation: Generation, index: number) {
    this.store = store;
    this.volume = volume;
    this.generation = generation;
    this.index = index;
  }

  release(): void {
    this.known = undefined;
  }

  read(offset: number, into: Uint8Array, waiter: StoreWaiter): boolean {
    if (this.volume === null ? this.store.defer === null : this.volume.isImmediate) return settle(waiter, this.readNow(offset, into));
    if (this.volume !== null) return this.volume.submit(waiter, () => this.readNow(offset, into));
    this.store.defer?.(() => waiter.storeDone(this.readNow(offset, into)));
    return false;
  }

  create(offset: number, data: Uint8Array, waiter: StoreWaiter): boolean {
    const volume = this.writer();
    if (volume.isImmediate) return settle(waiter, this.createNow(volume, offset, data));
    return volume.submit(waiter, () => this.createNow(volume, offset, data));
  }

  write(offset: number, data: Uint8Array, waiter: StoreWaiter): boolean {
    const volume = this.writer();
    if (volume.isImmediate) return settle(waiter, this.writeNow(volume, offset, data));
    return volume.submit(waiter, () => this.writeNow(volume, offset, data));
  }

  zero(offset: number, length: number, waiter: StoreWaiter): boolean {
    const volume = this.writer();
    return volume.submit(waiter, () => this.zeroNow(volume, offset, length));
  }

  remove(waiter: StoreWaiter): boolean {
    const volume = this.writer();
    return volume.submit(waiter, () => this.removeNow(volume));
  }

  claim(waiter: StoreWaiter): boolean {
    const volume = this.writer();
    return volume.submit(waiter, () => this.claimNow(volume));
  }

  private readNow(offset: number, into: Uint8Array): ArchipelagoError | null {
    const object = this.find();
    if (object === undefined) return objectMissing(this.generation, this.index);
    // A stale owner may read: it may not answer.
    object.bytes.read(offset, into);
    return null;
  }

  private createNow(volume: MemoryVolumeStore, offset: number, data: Uint8Array): ArchipelagoError | null {
    const { generation, index } = this;
    if (this.find() !== undefined) return objectExists(generation, index);
    let siblings = this.store.objects.get(generation);
    if (siblings === undefined) {
      siblings = new Map();
      this.store.objects.set(generation, siblings);
    }
    const object: StoredObject = { generation, index, bytes: new SparseBytes(), epoch: volume.epoch, removed: false };
    siblings.set(index, object);
    this.known = object;
    this.store.usedBytes += object.bytes.write(offset, data);
    volume.changed(object);
    return null;
  }

  private writeNow(volume: MemoryVolumeStore, offset: number, data: Uint8Array): ArchipelagoError | null {
    const object = this.find();
    if (object === undefined) return objectMissing(this.generation, this.index);
    const refusal = volume.refusal(object);
    if (refusal !== null) return refusal;
    this.store.usedBytes += object.bytes.write(offset, data);
    volume.changed(object);
    return null;
  }

  private zeroNow(volume: MemoryVolumeStore, offset: number, length: number): ArchipelagoError | null {
    const object = this.find();
    if (object === undefined) return objectMissing(this.generation, this.index);
    const refusal = volume.refusal(object);
    if (refusal !== null) return refusal;
    this.store.usedBytes -= object.bytes.zero(offset, length);
    volume.changed(object);
    return null;
  }

  private removeNow(volume: MemoryVolumeStore): ArchipelagoError | null {
    const object = this.find();
    if (object === undefined) return null;
    const refusal = volume.refusal(object);
    if (refusal !== null) return refusal;
    this.store.usedBytes -= object.bytes.allocatedBytes;
    object.removed = true;
    volume.forget(object);
    const siblings = this.store.objects.get(this.generation);
    siblings?.delete(this.index);
    if (siblings?.size === 0) this.store.objects.delete(this.generation);
    return null;
  }

  private claimNow(volume: MemoryVolumeStore): ArchipelagoError | null {
    const object = this.find();
    if (object === undefined) return objectMissing(this.generation, this.index);
    const refusal = volume.refusal(object);
    if (refusal !== null) return refusal;
    object.epoch = volume.epoch;
    return null;
  }

  private find(): StoredObject | undefined {
    if (this.known === undefined || this.known.removed) this.known = this.store.find(this.generation, this.index);
    return this.known;
  }

  private writer(): MemoryVolumeStore {
    assert(this.volume !== null, 'an object is changed through its owner');
    return this.volume;
  }
}

function segmentsOf(log: StoredLog): JournalSegment[] {
  return [...log.segments].sort(([a], [b]) => a - b).map(([number, { bytes, length }]) => ({ number, bytes: bytes.slice(0, length) }));
}

function settle(waiter: StoreWaiter, error: ArchipelagoError | null): boolean {
  return error === null || refuse(waiter, error);
}

/** Doubles, so that appending to a segment costs what is appended. */
function grown(bytes: Uint8Array, length: number): Uint8Array {
  if (length <= bytes.byteLength) return bytes;
  const larger = new Uint8Array(Math.max(length, 2 * bytes.byteLength, 4096));
  larger.set(bytes);
  return larger;
}
