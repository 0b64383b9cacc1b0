/**
 * A store that answers late and in any order, fails as it is told, and dies with its process: then what was under way lands wholly, in part or
 * not at all. Its disk survives it.
 */
import { ArchipelagoError, type Epoch, type Generation, Prng, type VolumeId } from '../../../src/base/index.ts';
import { pageMissing, superseded } from '../../../src/blocker/answers.ts';
import type { BlockObject, BlockStore, CollectedKind, ObjectName, Removed, StoreStatus, Takeover, VolumeLog } from '../../../src/blocker/store.ts';
import { type SimDisk, type SimLog, settleLog } from './disk.ts';
import { SECTOR, type SimFile } from './file.ts';
import { SimObject } from './object.ts';
import { NOTHING, type Operation, type OperationKind } from './operation.ts';
import { SimVolumeStore } from './volume-store.ts';

export interface SimFaults {
  /** Of creations, writes, appends, pages and headers. */
  noSpace: number;
  /** Of the same and of reads. */
  ioError: number;
  /** Of syncs. */
  syncError: number;
}

export class SimStore implements BlockStore {
  readonly kind = 'file';
  readonly disk: SimDisk;
  readonly prng: Prng;
  readonly faults: SimFaults = { noSpace: 0, ioError: 0, syncError: 0 };
  /** How often an operation is done at once. */
  atOnce = 0.3;
  dead = false;
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
          this.disk.operations++;
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
    if ((kind === 'change' || kind === 'write') && this.prng.chance(this.faults.noSpace))
      return new ArchipelagoError('no-space', 'simulated: no space');
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

function nameOf(text: string): ObjectName {
  const [generation, index] = text.split('/').map(Number) as [Generation, number];
  return { generation, index };
}
