/**
 * A store that answers late and in any order, fails as it is told, and dies: with its process, when what was under way lands wholly, in
 * part or not at all, or with the power, when each unsynced sector, creation and removal is kept or dropped. The disk survives the store.
 *
 * A volume's log is kept as the file driver keeps it: each epoch has its own, a copy of the one before that is trusted only under the boot
 * that made it, until the first sync settles it. Objects have one of two fences, as the drivers have them: 'guard' refuses what comes under a
 * lower epoch than the last claim's, as RADOS does; with 'copy' a claim puts a copy in the object's place, and who has the former file open
 * goes on with that one.
 */
import { ArchipelagoError, type Epoch, type Generation, Prng, type VolumeId } from '../../src/base/index.ts';
import { objectExists, objectMissing, pageMissing, storeClosed, superseded } from '../../src/blocker/answers.ts';
import type {
  BlockObject,
  BlockStore,
  CollectedKind,
  ObjectName,
  Removed,
  StoreStatus,
  StoreWaiter,
  Takeover,
  VolumeLog,
  VolumeStore,
  WritableBlockObject,
} from '../../src/blocker/store.ts';
import { SECTOR, SimFile } from './sim-file.ts';

interface SimLog {
  readonly boot: number;
  settled: boolean;
  header: Uint8Array | null;
  readonly segments: Map<number, SimFile>;
  /** Removed, and perhaps back after a power failure. */
  readonly removed: Map<number, SimFile>;
  /** Somebody who died may have left anything unsynced. */
  unsynced: boolean;
  /** The process whose log it is, and what it has open under this epoch. */
  owner: SimVolumeStore | null;
}

export type Fence = 'guard' | 'copy';

/** What outlives every process. */
export class SimDisk {
  readonly objects = new Map<string, SimFile>();
  readonly pages = new Map<string, SimFile>();
  readonly logs = new Map<VolumeId, Map<number, SimLog>>();
  /** What a name led to before claims that are not durable yet: a power failure may bring it back. */
  readonly replaced = new Map<string, SimFile>();
  readonly fence: Fence;
  boot = 1;

  constructor(fence: Fence = 'copy') {
    this.fence = fence;
  }

  /** The power fails, after the processes have died. */
  losePower(prng: Prng): void {
    this.boot++;
    for (const [name, former] of this.replaced) {
      const file = this.objects.get(name);
      // A rename takes nothing away: where the new entry is not kept, the former one is, if that was.
      if (file !== undefined && (prng.chance(0.5) || (former.linked && !file.linked))) this.objects.set(name, former);
    }
    this.replaced.clear();
    for (const files of [this.objects, this.pages]) for (const [name, file] of files) if (!file.losePower(prng)) files.delete(name);
    for (const logs of this.logs.values()) {
      for (const [epoch, log] of logs) {
        if (!log.settled) {
          logs.delete(epoch);
          continue;
        }
        for (const [number, file] of log.removed) if (file.linked && prng.chance(0.3)) log.segments.set(number, file);
        log.removed.clear();
        for (const [number, file] of log.segments) if (!file.losePower(prng)) log.segments.delete(number);
        log.unsynced = false;
      }
    }
  }

  writeBack(prng: Prng): void {
    const files = [...this.objects.values(), ...this.pages.values()];
    for (const logs of this.logs.values()) for (const log of logs.values()) if (log.settled) files.push(...log.segments.values());
    for (const file of files) if (file.isDirty && prng.chance(0.3)) file.writeBack(prng);
  }
}

export interface SimFaults {
  /** Of creations, writes, appends, pages and headers. */
  noSpace: number;
  /** Of the same and of reads. */
  ioError: number;
  /** Of syncs. */
  syncError: number;
}

interface Operation {
  readonly run: () => void;
  /** How it lands when its process dies before it ends. */
  readonly die: () => void;
}

/** Only a change needs room; a cut gives some back. */
type OperationKind = 'change' | 'cut' | 'read';

const NOTHING = (): void => undefined;

export class SimStore implements BlockStore {
  readonly kind = 'file';
  readonly disk: SimDisk;
  readonly prng: Prng;
  readonly faults: SimFaults = { noSpace: 0, ioError: 0, syncError: 0 };
  /** How often an operation is done at once. */
  atOnce = 0.3;
  dead = false;
  /** Operations done, for the curious. */
  operations = 0;
  private readonly underWay: Operation[] = [];

  constructor(disk: SimDisk, seed: number) {
    this.disk = disk;
    this.prng = new Prng(seed);
  }

  get busy(): boolean {
    return this.underWay.length > 0;
  }

  /** Completes one operation that is under way, any of them. */
  step(): boolean {
    const { underWay } = this;
    if (underWay.length === 0) return false;
    const at = this.prng.below(underWay.length);
    const operation = underWay[at] as Operation;
    underWay[at] = underWay.at(-1) as Operation;
    underWay.pop();
    operation.run();
    return true;
  }

  /** The process dies: nothing is answered any more. */
  die(): void {
    this.dead = true;
    for (const { die } of this.underWay) die();
    this.underWay.length = 0;
  }

  start(operation: Operation): void {
    if (!this.dead) this.underWay.push(operation);
  }

  promise<Result>(operation: () => Result, die: () => void = NOTHING): Promise<Result> {
    return new Promise((resolve, reject) => {
      const run = () => {
        try {
          this.operations++;
          resolve(operation());
        } catch (error) {
          reject(error);
        }
      };
      if (!this.dead && this.prng.chance(this.atOnce)) run();
      else this.start({ run, die });
    });
  }

  fault(kind: OperationKind): ArchipelagoError | null {
    if (kind === 'change' && this.prng.chance(this.faults.noSpace)) return new ArchipelagoError('no-space', 'simulated: no space');
    if (this.prng.chance(this.faults.ioError)) return new ArchipelagoError('io-error', 'simulated: I/O error');
    return null;
  }

  /** Writes some of the sectors. */
  landPartly(file: SimFile, offset: number, data: Uint8Array): void {
    for (let at = 0; at < data.byteLength; ) {
      const to = Math.min(data.byteLength, at + SECTOR - ((offset + at) % SECTOR));
      if (this.prng.chance(0.5)) file.write(offset + at, data.subarray(at, to));
      at = to;
    }
  }

  takeOver(volume: VolumeId, epoch: Epoch, clean: boolean): Promise<Takeover> {
    return this.promise(() => {
      let logs = this.disk.logs.get(volume);
      if (logs === undefined) {
        logs = new Map();
        this.disk.logs.set(volume, logs);
      }
      const newest = Math.max(0, ...logs.keys());
      if (newest > epoch) throw superseded(volume, epoch, newest);
      const { boot } = this.disk;
      const source = this.trusted(volume);
      const unsynced = source !== undefined && source[1].boot === boot && (source[1].unsynced || !clean);
      const before = source?.[1].owner ?? null;
      const quiet = clean || source === undefined || source[1].boot !== boot || before === null || before.isOver;
      let log = source?.[0] === epoch ? source[1] : null;
      if (log === null) {
        const segments = new Map(Array.from(source?.[1].segments ?? [], ([number, file]) => [number, file.copy()]));
        log = { boot, settled: false, header: source?.[1].header ?? null, segments, removed: new Map(), unsynced, owner: null };
        logs.set(epoch, log);
      } else log.unsynced ||= unsynced;
      const segments = Array.from(log.segments, ([number, file]) => ({ number, bytes: file.bytes() })).sort((a, b) => a.number - b.number);
      const store = new SimVolumeStore(this, volume, epoch, log, logs);
      log.owner = store;
      return { store, header: log.header?.slice() ?? null, segments, from: (source?.[0] as Epoch | undefined) ?? null, quiet };
    });
  }

  immutableObject(generation: Generation, index: number): BlockObject {
    return new SimObject(this, null, generation, index);
  }

  readPage(generation: Generation, sequence: number): Promise<Uint8Array> {
    return this.promise(() => {
      const error = this.fault('read');
      if (error) throw error;
      const page = this.disk.pages.get(`${generation}/${sequence}`);
      if (page === undefined) throw pageMissing(generation, sequence);
      return page.bytes();
    });
  }

  readHeader(volume: VolumeId): Promise<Uint8Array | null> {
    return this.promise(() => this.trusted(volume)?.[1].header?.slice() ?? null);
  }

  readLog(volume: VolumeId): Promise<VolumeLog | null> {
    return this.promise(() => {
      const [epoch, log] = this.trusted(volume) ?? [0, null];
      if (log === null) return null;
      settleLog(log);
      const segments = Array.from(log.segments, ([number, file]) => ({ number, bytes: file.bytes() }));
      return { epoch: epoch as Epoch, header: log.header?.slice() ?? null, segments };
    });
  }

  async *list(kind: CollectedKind, wanted: (generation: Generation) => boolean): AsyncIterable<readonly ObjectName[]> {
    const names = [...this.named(kind).keys()].map(nameOf).filter(({ generation }) => wanted(generation));
    // Small pieces, so that much happens between them.
    for (let at = 0; at < names.length; at += 3) yield await this.promise(() => names.slice(at, at + 3));
  }

  async *listLogs(): AsyncIterable<readonly VolumeId[]> {
    yield await this.promise(() => [...this.disk.logs.keys()]);
  }

  remove(kind: CollectedKind, names: readonly ObjectName[]): Promise<Removed> {
    return this.promise(() => {
      let count = 0;
      for (const { generation, index } of names) if (this.named(kind).delete(`${generation}/${index}`)) count++;
      return { count, bytes: count * SECTOR };
    });
  }

  closeIdle(): void {
    // Nothing is kept open.
  }

  private named(kind: CollectedKind): Map<string, SimFile> {
    return kind === 'object' ? this.disk.objects : this.disk.pages;
  }

  /** The log that the next owner goes on from. */
  private trusted(volume: VolumeId): [number, SimLog] | undefined {
    return [...(this.disk.logs.get(volume) ?? [])].sort(([a], [b]) => b - a).find(([, log]) => log.settled || log.boot === this.disk.boot);
  }

  removeLog(volume: VolumeId): Promise<void> {
    return this.promise(() => void this.disk.logs.delete(volume));
  }

  objectExists({ generation, index }: ObjectName): Promise<boolean> {
    return this.promise(() => this.disk.objects.has(`${generation}/${index}`));
  }

  status(): Promise<StoreStatus> {
    return Promise.resolve({ kind: 'file', location: 'simulated', usedBytes: 0, availableBytes: null });
  }

  async close(): Promise<void> {}
}

class SimVolumeStore implements VolumeStore {
  readonly volume: VolumeId;
  readonly epoch: Epoch;
  readonly store: SimStore;
  readonly dirtyObjects = new Map<string, ObjectName>();
  private readonly dirtyPages = new Set<string>();
  private readonly log: SimLog;
  private readonly logs: Map<number, SimLog>;
  /** Of objects, by name. Operations that find one use it from their submission on; others open by name when they are done. */
  readonly descriptors = new Map<string, SimFile>();
  underWay = 0;
  private failure: ArchipelagoError | null = null;
  private appending = false;
  private closed = false;

  constructor(store: SimStore, volume: VolumeId, epoch: Epoch, log: SimLog, logs: Map<number, SimLog>) {
    this.store = store;
    this.volume = volume;
    this.epoch = epoch;
    this.log = log;
    this.logs = logs;
  }

  object(generation: Generation, index: number): WritableBlockObject {
    return new SimObject(this.store, this, generation, index);
  }

  /** Nothing of this owner can reach the disk any more. */
  get isOver(): boolean {
    return this.store.dead || (this.closed && this.underWay === 0);
  }

  /** A later owner has taken over: it finds nothing new of ours. */
  get isSuperseded(): boolean {
    for (const epoch of this.logs.keys()) if (epoch > this.epoch) return true;
    return false;
  }

  get supersededError(): ArchipelagoError {
    return superseded(this.volume, this.epoch, Math.max(...this.logs.keys()));
  }

  /** A data-path operation. `land` does it; `part` does some of it. */
  submit(waiter: StoreWaiter, kind: OperationKind, land: () => ArchipelagoError | null, part: () => void): boolean {
    const { store } = this;
    const run = (): ArchipelagoError | null => {
      store.operations++;
      const error = this.failure ?? store.fault(kind);
      if (error === null) return land();
      if (error !== this.failure) part();
      return error;
    };
    if (!store.dead && this.failure === null && store.prng.chance(store.atOnce)) {
      const error = run();
      if (error === null) return true;
      store.start({ run: () => waiter.storeDone(error), die: NOTHING });
      return false;
    }
    const die = () => {
      const lot = store.prng.below(3);
      if (lot === 0) land();
      else if (lot === 1) part();
    };
    this.later(() => waiter.storeDone(run()), die);
    return false;
  }

  /** Starts what counts as under way until it has run. */
  later(run: () => void, die: () => void): void {
    this.underWay++;
    const end = (): void => {
      this.underWay--;
      run();
    };
    this.store.start({ run: end, die });
  }

  appendJournal(segment: number, position: number, bytes: Uint8Array, waiter: StoreWaiter): boolean {
    if (this.appending) throw new Error('journal appends of one volume are made one at a time');
    this.appending = true;
    const file = (): SimFile => {
      let found = this.log.segments.get(segment);
      if (found === undefined) {
        found = new SimFile();
        this.log.segments.set(segment, found);
      }
      if (found.length < position) throw new Error('a journal append leaves no gap');
      found.truncate(position);
      return found;
    };
    const land = () => {
      file().write(position, bytes);
      return null;
    };
    const ended = {
      storeDone: (error: ArchipelagoError | null) => {
        this.appending = false;
        waiter.storeDone(error);
      },
    };
    const done = this.submit(ended, bytes.byteLength === 0 ? 'cut' : 'change', land, () => {
      const to = this.store.prng.below(bytes.byteLength + 1);
      file().write(position, bytes.subarray(0, to));
    });
    if (done) this.appending = false;
    return done;
  }

  dropSegments(segment: number): Promise<void> {
    return this.promise(() => {
      for (const [number, file] of this.log.segments) {
        if (number >= segment) continue;
        this.log.segments.delete(number);
        this.log.removed.set(number, file);
      }
    });
  }

  writeHeader(bytes: Uint8Array): Promise<void> {
    const copy = bytes.slice();
    const land = () => {
      this.settle();
      this.log.header = copy;
    };
    const die = () => {
      if (this.store.prng.chance(0.5)) land();
    };
    return this.promise(() => {
      const error = this.store.fault('change');
      if (error?.code === 'io-error') {
        die();
        this.failure = error;
      }
      if (error) throw error;
      land();
    }, die);
  }

  writePage(generation: Generation, sequence: number, bytes: Uint8Array): Promise<void> {
    const name = `${generation}/${sequence}`;
    const copy = bytes.slice();
    const write = (part: boolean) => {
      const { pages } = this.store.disk;
      let file = pages.get(name);
      if (file === undefined) {
        file = new SimFile();
        pages.set(name, file);
      } else if (writtenPages.get(file) !== undefined && Buffer.compare(writtenPages.get(file) as Uint8Array, copy) !== 0) {
        throw new Error(`page ${name} is written twice with different bytes`);
      }
      writtenPages.set(file, copy);
      this.dirtyPages.add(name);
      if (part) this.store.landPartly(file, 0, copy);
      else file.write(0, copy);
    };
    return this.promise(
      () => {
        const error = this.store.fault('change');
        if (error) {
          write(true);
          throw error;
        }
        write(false);
      },
      () => {
        if (this.store.prng.chance(0.7)) write(this.store.prng.chance(0.5));
      },
    );
  }

  sync(): Promise<void> {
    const { disk } = this.store;
    const unsynced = this.log.unsynced;
    const files: SimFile[] = [];
    if (unsynced) files.push(...disk.pages.values());
    const objects = unsynced ? new Map(disk.objects) : new Map<string, SimFile>();
    for (const name of this.dirtyObjects.keys()) {
      const file = disk.objects.get(name);
      if (file !== undefined) objects.set(name, file);
    }
    files.push(...objects.values());
    for (const name of this.dirtyPages) files.push(...[disk.pages.get(name)].filter((file) => file !== undefined));
    files.push(...this.log.segments.values());
    return this.finishSync(files, () => {
      // One that was claimed since, here or elsewhere, leads to another file.
      for (const [name, file] of objects) if (disk.objects.get(name) === file) disk.replaced.delete(name);
      for (const [name] of this.dirtyObjects) {
        if (!disk.objects.get(name)?.isDirty && !disk.replaced.has(name)) this.dirtyObjects.delete(name);
      }
      for (const name of this.dirtyPages) if (!disk.pages.get(name)?.isDirty) this.dirtyPages.delete(name);
      if (unsynced) this.log.unsynced = false;
    });
  }

  syncJournal(): Promise<void> {
    return this.finishSync([...this.log.segments.values()], NOTHING);
  }

  private finishSync(files: readonly SimFile[], then: () => void): Promise<void> {
    const captured = files.filter((file) => file.isDirty).map((file) => file.capture());
    return this.promise(() => {
      if (this.store.prng.chance(this.store.faults.syncError)) {
        for (const done of captured) if (this.store.prng.chance(0.5)) done();
        this.failure = new ArchipelagoError('io-error', 'simulated: sync failed');
        throw this.failure;
      }
      this.settle();
      for (const done of captured) done();
      then();
    });
  }

  unsynced(): ObjectName[] {
    return [...this.dirtyObjects.values()];
  }

  adoptUnsynced(names: readonly ObjectName[]): void {
    for (const { generation, index } of names) this.dirtyObjects.set(`${generation}/${index}`, { generation, index });
  }

  async close(): Promise<void> {
    this.failure ??= storeClosed('the volume store');
    this.closed = true;
  }

  /** What takes over was copied: durable from the first sync on, and the logs before are gone. */
  private settle(): void {
    if (this.log.settled) return;
    settleLog(this.log);
    for (const epoch of this.logs.keys()) if (epoch < this.epoch) this.logs.delete(epoch);
  }

  private promise(operation: () => void, die: () => void = NOTHING): Promise<void> {
    this.underWay++;
    return this.store.promise(() => {
      this.underWay--;
      if (this.failure) throw this.failure;
      operation();
    }, die);
  }
}

function settleLog(log: SimLog): void {
  if (log.settled) return;
  for (const file of log.segments.values()) file.capture()();
  log.settled = true;
}

function nameOf(text: string): ObjectName {
  const [generation, index] = text.split('/').map(Number) as [Generation, number];
  return { generation, index };
}

const writtenPages = new WeakMap<SimFile, Uint8Array>();

class SimObject implements WritableBlockObject {
  readonly generation: Generation;
  readonly index: number;
  private readonly store: SimStore;
  private readonly volume: SimVolumeStore | null;
  private readonly name: string;
  private released = false;

  constructor(store: SimStore, volume: SimVolumeStore | null, generation: Generation, index: number) {
    this.store = store;
    this.volume = volume;
    this.generation = generation;
    this.index = index;
    this.name = `${generation}/${index}`;
  }

  release(): void {
    if (this.released) throw new Error('a handle is released once');
    this.released = true;
  }

  read(offset: number, into: Uint8Array, waiter: StoreWaiter): boolean {
    const land = this.onFile((file) => file.read(offset, into), false);
    if (this.volume !== null) return this.volume.submit(waiter, 'read', land, NOTHING);
    this.checkUse();
    this.store.start({ run: () => waiter.storeDone(this.store.fault('read') ?? land()), die: NOTHING });
    return false;
  }

  create(offset: number, data: Uint8Array, waiter: StoreWaiter): boolean {
    const make = (): SimFile => {
      const file = new SimFile();
      file.epoch = this.writer().epoch;
      this.store.disk.objects.set(this.name, file);
      this.volume?.descriptors.set(this.name, file);
      this.changed();
      return file;
    };
    const land = () => {
      if (this.file() !== undefined) return objectExists(this.generation, this.index);
      make().write(offset, data);
      return null;
    };
    const part = () => {
      if (this.file() === undefined && this.store.prng.chance(0.7)) this.store.landPartly(make(), offset, data);
    };
    return this.writer().submit(waiter, 'change', land, part);
  }

  write(offset: number, data: Uint8Array, waiter: StoreWaiter): boolean {
    const part = this.onFile((file) => this.store.landPartly(file, offset, data), true);
    const land = this.onFile((file) => file.write(offset, data), true);
    return this.writer().submit(waiter, 'change', land, part);
  }

  zero(offset: number, length: number, waiter: StoreWaiter): boolean {
    const land = this.onFile((file) => file.zero(offset, length), true);
    const part = this.onFile((file) => {
      const end = Math.min(offset + length, file.length);
      for (let at = offset; at < end; at = (Math.floor(at / SECTOR) + 1) * SECTOR) {
        if (this.store.prng.chance(0.5)) file.zero(at, Math.min(end, (Math.floor(at / SECTOR) + 1) * SECTOR) - at);
      }
    }, true);
    return this.writer().submit(waiter, 'change', land, part);
  }

  remove(waiter: StoreWaiter): boolean {
    const volume = this.writer();
    const land = () => {
      if (this.guards ? (this.file()?.epoch ?? 0) > volume.epoch : volume.isSuperseded) return volume.supersededError;
      this.store.disk.objects.delete(this.name);
      volume.descriptors.delete(this.name);
      return null;
    };
    return volume.submit(waiter, 'change', land, NOTHING);
  }

  claim(waiter: StoreWaiter): boolean {
    return this.guards ? this.raise(waiter) : this.replace(waiter);
  }

  private raise(waiter: StoreWaiter): boolean {
    const volume = this.writer();
    const land = () => {
      const file = this.file();
      if (file === undefined) return objectMissing(this.generation, this.index);
      if (file.epoch > volume.epoch) return volume.supersededError;
      file.epoch = volume.epoch;
      return null;
    };
    return volume.submit(waiter, 'cut', land, NOTHING);
  }

  /** First the copy, then, at any later time, the rename: an owner that was superseded in between finds its copy gone. */
  private replace(waiter: StoreWaiter): boolean {
    const volume = this.writer();
    const { disk } = this.store;
    const start = (): void => {
      const from = this.file();
      const error = volume.isSuperseded ? volume.supersededError : this.store.fault('change');
      if (from === undefined || error !== null) {
        waiter.storeDone(error ?? objectMissing(this.generation, this.index));
        return;
      }
      const copy = from.copy();
      copy.capture()();
      const rename = (): void => {
        copy.linked = from.linked;
        if (!disk.replaced.has(this.name)) disk.replaced.set(this.name, from);
        disk.objects.set(this.name, copy);
        volume.descriptors.set(this.name, copy);
        this.changed();
      };
      const end = (): void => {
        const stale = volume.isSuperseded ? volume.supersededError : null;
        if (stale === null) rename();
        waiter.storeDone(stale);
      };
      volume.later(end, () => {
        if (!volume.isSuperseded && this.store.prng.chance(0.5)) rename();
      });
    };
    volume.later(start, NOTHING);
    return false;
  }

  /** What `by` does to the file that this handle leads to: the one that was open at submission, or else the one of that name then. */
  private onFile(by: (file: SimFile) => void, changes: boolean): () => ArchipelagoError | null {
    const { volume } = this;
    if (volume !== null && this.store.prng.chance(0.1)) volume.descriptors.delete(this.name);
    const open = this.guards ? undefined : volume?.descriptors.get(this.name);
    return () => {
      const file = open ?? this.file();
      if (file === undefined) return objectMissing(this.generation, this.index);
      if (volume !== null && this.guards && changes && file.epoch > volume.epoch) return volume.supersededError;
      if (volume !== null && !this.guards && open === undefined) {
        if (volume.isSuperseded) return volume.supersededError;
        volume.descriptors.set(this.name, file);
      }
      by(file);
      if (changes) this.changed();
      return null;
    };
  }

  private get guards(): boolean {
    return this.store.disk.fence === 'guard';
  }

  private file(): SimFile | undefined {
    return this.store.disk.objects.get(this.name);
  }

  private changed(): void {
    this.volume?.dirtyObjects.set(this.name, { generation: this.generation, index: this.index });
  }

  private writer(): SimVolumeStore {
    this.checkUse();
    if (this.volume === null) throw new Error('an object is changed through its owner');
    return this.volume;
  }

  private checkUse(): void {
    if (this.released) throw new Error('a handle is not used after its release');
  }
}
