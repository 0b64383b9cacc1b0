/**
 * The store in a directory, for the daemons of one host. Writes go to the page cache, so they outlive a daemon, and `sync` makes them
 * outlive a power failure.
 */
import { constants } from 'node:fs';
import { readFile, rm, stat, statfs } from 'node:fs/promises';
import { ArchipelagoError, assert, type Clock, type Epoch, type Generation, type Log, silentLog, type VolumeId } from '../../base/index.ts';
import { pageMissing, storeClosed } from '../answers.ts';
import type { BlockObject, BlockStore, CollectedKind, ObjectName, Removed, StoreStatus, Takeover, VolumeLog } from '../store.ts';
import { DescriptorCache, defaultDescriptorLimit } from './descriptors.ts';
import { type Durability, systemDurability } from './durability.ts';
import { objectPath, pagePath, VOLUMES, volumePath } from './layout.ts';
import { listLogNames, listNames, removeNames } from './listing.ts';
import type { ObjectFile, ObjectOwner } from './object-file.ts';
import { ObjectTable } from './object-table.ts';
import { thisProcess } from './owner-process.ts';
import { type FileStoreParts, WritePace } from './parts.ts';
import { SharedRounds } from './rounds.ts';
import { prepareDirectory } from './superblock.ts';
import { readLogDurably, readNewestHeader, type TakenLog, takeLogOver } from './takeover.ts';
import { Turns } from './turns.ts';
import { FileVolumeStore, type VolumeStoreObserver } from './volume-store.ts';

export interface FileStoreOptions {
  /** Made when it is missing. */
  readonly directory: string;
  /** A directory that holds the store of another cluster is refused. */
  readonly clusterId: string;
  readonly clock: Clock;
  readonly log?: Log;
  /** How many objects are kept open at most while idle; half of what the process may open, and no more than 4096, by default. */
  readonly maxDescriptors?: number;
  /** How many files a volume syncs at a time; 4 by default, which is the size of libuv's pool by default. */
  readonly syncParallelism?: number;
  /** For tests: in place of the system's. */
  readonly bootId?: string;
  readonly durability?: Durability;
}

export async function openFileStore(options: FileStoreOptions): Promise<BlockStore> {
  const { directory, clock } = options;
  const durability = options.durability ?? systemDurability;
  await prepareDirectory(directory, options.clusterId, durability);
  const bootId = options.bootId ?? (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  return new FileStore({
    directory,
    bootId,
    process: thisProcess(bootId),
    clock,
    durability,
    log: options.log ?? silentLog,
    descriptors: new DescriptorCache(options.maxDescriptors ?? defaultDescriptorLimit()),
    syncFileSystem: new SharedRounds(() => durability.fileSystem(directory)),
    syncParallelism: options.syncParallelism ?? 4,
    pace: new WritePace(),
    takeovers: new Turns(),
    features: { sharesExtents: true },
  });
}

class FileStore implements BlockStore, VolumeStoreObserver {
  readonly kind = 'file';
  private readonly parts: FileStoreParts;
  private readonly readers: ImmutableObjects;
  private readonly volumes = new Set<FileVolumeStore>();
  /** What goes on behind a takeover, after the volume store was closed as well. */
  private readonly settling = new Set<Promise<unknown>>();

  constructor(parts: FileStoreParts) {
    this.parts = parts;
    this.readers = new ImmutableObjects(parts);
  }

  async takeOver(volume: VolumeId, epoch: Epoch, clean: boolean): Promise<Takeover> {
    await this.parts.takeovers.next();
    if (this.readers.failure !== null) throw this.readers.failure;
    const taken = takeLogOver(this.parts, volume, epoch, clean);
    const quiet = clean || this.isQuiet(volume, taken.predecessor);
    const store = new FileVolumeStore(this.parts, volume, epoch, taken, this);
    this.volumes.add(store);
    this.settling.add(store.settled);
    void store.settled.finally(() => this.settling.delete(store.settled));
    return { store, header: taken.header, segments: taken.segments, from: taken.predecessor?.epoch ?? null, quiet };
  }

  /** Of our own owners we know when the last operation has ended; of those of another store in this process, nothing. */
  private isQuiet(volume: VolumeId, predecessor: TakenLog['predecessor']): boolean {
    if (predecessor === null || predecessor.isDead) return true;
    if (predecessor.process?.store !== this.parts.process.store) return false;
    for (const store of this.volumes) if (store.volume === volume) return false;
    return true;
  }

  immutableObject(generation: Generation, index: number): BlockObject {
    return this.readers.handle(generation, index);
  }

  async readPage(generation: Generation, sequence: number): Promise<Uint8Array> {
    const path = pagePath(this.parts.directory, generation, sequence);
    try {
      return await readFile(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw pageMissing(generation, sequence);
      throw ArchipelagoError.from(error, `reading ${path}`);
    }
  }

  async readHeader(volume: VolumeId): Promise<Uint8Array | null> {
    return readNewestHeader(this.parts, volume);
  }

  readLog(volume: VolumeId): Promise<VolumeLog | null> {
    return readLogDurably(this.parts, volume);
  }

  list(kind: CollectedKind, wanted: (generation: Generation) => boolean): AsyncIterable<readonly ObjectName[]> {
    return listNames(this.parts.directory, kind, wanted);
  }

  listLogs(): AsyncIterable<readonly VolumeId[]> {
    return listLogNames(this.parts.directory);
  }

  async remove(kind: CollectedKind, names: readonly ObjectName[]): Promise<Removed> {
    const removed = await removeNames(this.parts.directory, kind, names);
    if (kind === 'object') for (const name of names) this.readers.forget(name);
    return removed;
  }

  closeIdle(): void {
    this.parts.descriptors.closeIdle();
  }

  async removeLog(volume: VolumeId): Promise<void> {
    const path = volumePath(this.parts.directory, volume);
    // A takeover that has not settled would put a file into the directory that is being emptied, and that cannot be removed then.
    await Promise.all(this.settling);
    try {
      await rm(path, { recursive: true, force: true });
      await this.parts.durability.directory(`${this.parts.directory}/${VOLUMES}`);
    } catch (error) {
      throw ArchipelagoError.from(error, `removing ${path}`);
    }
  }

  async objectExists(name: ObjectName): Promise<boolean> {
    const path = objectPath(this.parts.directory, name.generation, name.index);
    try {
      await stat(path);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw ArchipelagoError.from(error, `looking for ${path}`);
    }
  }

  async status(): Promise<StoreStatus> {
    const { directory } = this.parts;
    try {
      const { bsize, blocks, bfree, bavail } = await statfs(directory);
      return { kind: this.kind, location: directory, usedBytes: (blocks - bfree) * bsize, availableBytes: bavail * bsize };
    } catch (error) {
      throw ArchipelagoError.from(error, `asking for the space in ${directory}`);
    }
  }

  async close(): Promise<void> {
    await Promise.all(Array.from(this.volumes, (volume) => volume.close()));
    await Promise.all(this.settling);
    await this.readers.close();
  }

  objectRemoved(name: ObjectName): void {
    this.readers.forget(name);
  }

  closed(volume: FileVolumeStore): void {
    this.volumes.delete(volume);
  }
}

/** Reads what nobody changes any more. */
class ImmutableObjects implements ObjectOwner {
  readonly parts: FileStoreParts;
  readonly openFlags = constants.O_RDONLY;
  readonly logDirectory = null;
  failure: ArchipelagoError | null = null;
  private readonly table: ObjectTable;
  private underWay = 0;
  private whenIdle: (() => void) | null = null;

  constructor(parts: FileStoreParts) {
    this.parts = parts;
    this.table = new ObjectTable(this);
  }

  handle(generation: Generation, index: number): ObjectFile {
    return this.table.handle(generation, index);
  }

  /** An object was removed: a descriptor that is left would keep its space. */
  forget(name: ObjectName): void {
    this.table.find(name.generation, name.index)?.detach();
  }

  async close(): Promise<void> {
    this.failure ??= storeClosed(`the store in ${this.parts.directory}`);
    if (this.underWay > 0) await new Promise<void>((resolve) => (this.whenIdle = resolve));
    await this.table.close();
  }

  supersededNow(): null {
    return null;
  }

  claimed(): void {
    assert(false, 'what is immutable is not claimed');
  }

  prepareGeneration(): void {
    assert(false, 'what is immutable is not created');
  }

  created(): void {
    assert(false, 'what is immutable is not created');
  }

  changed(): void {
    assert(false, 'what is immutable is not changed');
  }

  removed(): void {
    assert(false, 'what is immutable is removed by its owner');
  }

  unused(file: ObjectFile): void {
    this.table.delete(file);
  }

  operationStarted(): void {
    this.underWay++;
  }

  operationEnded(): void {
    this.underWay--;
    if (this.underWay === 0) this.whenIdle?.();
  }
}
