/** What the owner of a volume writes: its log and header, pages, and through `SimObject` the objects. */
import { ArchipelagoError, type Epoch, type Generation, type VolumeId } from '../../../src/base/index.ts';
import { storeClosed, superseded } from '../../../src/blocker/answers.ts';
import type { ObjectName, StoreWaiter, UnsyncedWatch, VolumeStore, WritableBlockObject } from '../../../src/blocker/store.ts';
import { type SimLog, settleLog } from './disk.ts';
import { SimFile } from './file.ts';
import { SimObject } from './object.ts';
import { NOTHING, type OperationKind } from './operation.ts';
import type { SimStore } from './store.ts';

const writtenPages = new WeakMap<SimFile, Uint8Array>();

export class SimVolumeStore implements VolumeStore {
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
      store.disk.operations++;
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
    this.later(() => waiter.storeDone(run()), die, kind);
    return false;
  }

  /** Starts what counts as under way until it has run. */
  later(run: () => void, die: () => void, kind?: OperationKind): void {
    this.underWay++;
    const end = (): void => {
      this.underWay--;
      run();
    };
    this.store.start({ run: end, die, ...(kind && { kind }) });
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

  async writeHeader(bytes: Uint8Array, after?: Promise<void>): Promise<void> {
    const copy = bytes.slice();
    await after;
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

  watchUnsynced(): UnsyncedWatch {
    return { take: () => this.unsynced(), close: () => undefined };
  }

  adoptUnsynced(names: Iterable<ObjectName>): void {
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
