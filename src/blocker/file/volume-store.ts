/** What the owner of a volume does in a directory: its objects, its pages, and its log under one epoch. */
import { constants, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ArchipelagoError, assert, type Epoch, type Generation, hex16, type VolumeId } from '../../base/index.ts';
import { storeClosed, volumeText } from '../answers.ts';
import { ObjectNames } from '../object-names.ts';
import type { ObjectName, StoreWaiter, UnsyncedWatch, VolumeStore, WritableBlockObject } from '../store.ts';
import { writeDurably } from './durability.ts';
import { Journal, type JournalOwner } from './journal.ts';
import { BLOCKS, HEADER, NEW_HEADER, PAGES, pagePath, UNSYNCED, volumePath } from './layout.ts';
import type { ObjectFile, ObjectOwner } from './object-file.ts';
import { ObjectTable } from './object-table.ts';
import type { FileStoreParts } from './parts.ts';
import { PendingSync, syncPending } from './pending-sync.ts';
import { forEachBounded, SharedRounds } from './rounds.ts';
import { successor, type TakenLog } from './takeover.ts';

/**
 * A log is made durable so long after the takeover, or when somebody waits for that. Guests' first I/O comes right after it, and a file system
 * that syncs holds up those who write.
 */
const SETTLE_AFTER_MS = 50;
/** Pages since the last sync that are written synchronously. */
const PAGES_AT_ONCE = 8;

/** The store that a volume store belongs to. */
export interface VolumeStoreObserver {
  /** It is gone for readers as well, or its name leads to another file. */
  objectRemoved(name: ObjectName): void;
  closed(volume: FileVolumeStore): void;
}

export class FileVolumeStore implements VolumeStore, ObjectOwner, JournalOwner {
  readonly volume: VolumeId;
  readonly epoch: Epoch;
  readonly parts: FileStoreParts;
  readonly openFlags = constants.O_RDWR;
  readonly logDirectory: string;
  failure: ArchipelagoError | null = null;
  private readonly objects: ObjectTable;
  private readonly journal: Journal;
  private readonly rounds: SharedRounds;
  private readonly observer: VolumeStoreObserver;
  private pending = new PendingSync();
  /** What the sync under way is making durable: until it has ended, that counts as unsynced. */
  private syncing: PendingSync | null = null;
  /** Ends with the error that kept the log of this epoch from becoming durable, or null. */
  readonly settled: Promise<ArchipelagoError | null>;
  private settleNow: () => void = () => undefined;
  /** Ends when what a dead owner has left is durable; null when there is nothing of the kind. */
  private inherited: Promise<unknown> | null;
  /** True while the log holds the mark of what the next owner would have to sync. */
  private hasLeftWord: boolean;
  /** What has become unsynced since somebody asked for it. */
  private unsyncedWatch: Set<ObjectName> | null = null;
  private pageWrites = 0;
  /** The generation whose directory of pages is there. */
  private pagesOf: Generation | null = null;
  private headerWrites: Promise<void> = Promise.resolve();
  private closing: Promise<void> | null = null;
  private underWay = 0;
  private whenIdle: (() => void) | null = null;

  constructor(parts: FileStoreParts, volume: VolumeId, epoch: Epoch, log: TakenLog, observer: VolumeStoreObserver) {
    this.parts = parts;
    this.volume = volume;
    this.epoch = epoch;
    this.logDirectory = log.logDirectory;
    this.observer = observer;
    this.objects = new ObjectTable(this);
    this.journal = new Journal(
      this,
      log.segments.map(({ number, bytes }) => [number, bytes.byteLength]),
    );
    this.rounds = new SharedRounds(() => this.syncRound());
    this.hasLeftWord = log.unsynced;
    const due = new Promise<void>((resolve) => {
      const timer = parts.clock.setTimer(SETTLE_AFTER_MS, resolve);
      this.settleNow = () => {
        timer.cancel();
        resolve();
      };
    });
    this.settled = due.then(log.settle).then(
      () => null,
      (error: unknown) => this.logError(error, 'settling'),
    );
    // Begun soon, so that the first flush waits less, but not while a guest waits for us: starting a program takes milliseconds.
    // An error is kept for that flush.
    const syncAll = () => parts.syncFileSystem.run().catch((error: unknown) => error ?? 'unknown');
    this.inherited = log.unsynced ? this.settled.then(syncAll) : null;
  }

  object(generation: Generation, index: number): WritableBlockObject {
    return this.objects.handle(generation, index);
  }

  appendJournal(segment: number, position: number, bytes: Uint8Array, waiter: StoreWaiter): boolean {
    return this.journal.append(segment, position, bytes, waiter);
  }

  dropSegments(segment: number): Promise<void> {
    return this.during(() => this.journal.drop(segment));
  }

  writeHeader(bytes: Uint8Array, after?: Promise<void>): Promise<void> {
    // One after the other: they share a temporary name.
    const written = this.headerWrites.then(() => this.during(() => this.replaceHeader(bytes, after)));
    this.headerWrites = written.catch(() => {
      // Whoever asked for it is told; the next one is tried on its own.
    });
    return written;
  }

  private async replaceHeader(bytes: Uint8Array, after: Promise<void> | undefined): Promise<void> {
    const temporary = `${this.logDirectory}/${NEW_HEADER}`;
    await this.waitSettled();
    try {
      await writeDurably(this.watched, temporary, bytes);
    } catch (error) {
      throw this.logError(error, 'writing the header');
    }
    await after;
    try {
      await rename(temporary, `${this.logDirectory}/${HEADER}`);
    } catch (error) {
      throw this.logError(error, 'replacing the header');
    }
    await this.watched.directory(this.logDirectory);
  }

  writePage(generation: Generation, sequence: number, bytes: Uint8Array): Promise<void> {
    return this.during(async () => {
      this.pageWrites++;
      try {
        this.leaveWord();
        const path = pagePath(this.parts.directory, generation, sequence);
        if (!this.writePageNow(generation, path, bytes)) await writePageFile(path, bytes);
        this.pending.pages.add(path);
        this.pending.addGeneration(`${this.parts.directory}/${PAGES}`, generation);
      } finally {
        this.pageWrites--;
      }
    });
  }

  /** A cut has few pages, and a guest's next write may wait for it: they do not queue for libuv's pool. A large fold is nobody's hurry. */
  private writePageNow(generation: Generation, path: string, bytes: Uint8Array): boolean {
    const { clock, pace } = this.parts;
    const beganMs = clock.nowMs();
    if (this.pending.pages.size >= PAGES_AT_ONCE || pace.mayBlock(beganMs)) return false;
    try {
      if (this.pagesOf !== generation) mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      this.pagesOf = generation;
      writeFileSync(path, bytes, { mode: 0o600 });
    } catch {
      // Asked again, the file system tells what is wrong.
      return false;
    }
    pace.took(beganMs, clock.nowMs());
    return true;
  }

  /**
   * Costs one fdatasync for each object and page written since the last, one fsync for each directory with new entries and one for the
   * journal, `syncParallelism` at a time. Calls during a sync share the next one.
   */
  sync(): Promise<void> {
    return this.during(() => this.rounds.run());
  }

  syncJournal(): Promise<void> {
    return this.during(async () => {
      await this.waitSettled();
      try {
        await this.journal.sync();
      } catch (error) {
        throw this.fail(error, 'syncing the journal');
      }
    });
  }

  private async syncRound(): Promise<void> {
    await this.waitSettled();
    if (this.failure !== null) throw this.failure;
    const batch = this.pending;
    this.pending = new PendingSync();
    this.syncing = batch;
    // From here on a completed write counts for the next round.
    for (const file of batch.objects) file.dirty = false;
    try {
      await this.syncInherited();
      // Side by side: no record counts before its mark, which is appended once both are durable.
      await forEachBounded([() => syncPending(this.parts, batch), () => this.journal.sync()], 2, (sync) => sync());
      this.withdrawWord();
    } catch (error) {
      throw this.fail(error, 'syncing');
    } finally {
      this.syncing = null;
      for (const file of batch.objects) this.unused(file);
    }
  }

  /** Nothing is durable in a log that a power failure may make us forget. */
  private async waitSettled(): Promise<void> {
    this.settleNow();
    const error = await this.settled;
    if (error === null) return;
    throw error.code === 'stale-epoch' ? error : this.fail(error, 'settling');
  }

  private async syncInherited(): Promise<void> {
    if (this.inherited === null) return;
    const error = await this.inherited;
    if (error !== undefined) throw error;
    this.inherited = null;
  }

  /** Leaves word for an owner that comes before the next sync: there is more to sync than `unsynced` names. */
  private leaveWord(): void {
    if (this.hasLeftWord) return;
    try {
      writeFileSync(`${this.logDirectory}/${UNSYNCED}`, '', { mode: 0o600 });
    } catch (error) {
      throw this.logError(error, 'noting unsynced pages');
    }
    this.hasLeftWord = true;
  }

  private withdrawWord(): void {
    if (!this.hasLeftWord || this.pageWrites > 0 || this.pending.pages.size > 0) return;
    rmSync(`${this.logDirectory}/${UNSYNCED}`, { force: true });
    this.hasLeftWord = false;
  }

  unsynced(): ObjectName[] {
    const names = new ObjectNames();
    for (const name of this.namesOfUnsynced()) names.add(name);
    return Array.from(names, ({ generation, index }) => ({ generation, index }));
  }

  /** Some of them twice. */
  private namesOfUnsynced(): ObjectName[] {
    const { syncing, pending } = this;
    return [...(syncing?.adopted ?? []), ...(syncing?.objects ?? []), ...pending.adopted, ...pending.objects];
  }

  watchUnsynced(): UnsyncedWatch {
    assert(this.unsyncedWatch === null, 'one at a time is told of what is unsynced');
    let names = this.namesOfUnsynced();
    const come = new Set<ObjectName>();
    this.unsyncedWatch = come;
    return {
      take: () => {
        const taken = [...names, ...come];
        names = [];
        come.clear();
        return taken;
      },
      close: () => {
        this.unsyncedWatch = null;
      },
    };
  }

  adoptUnsynced(names: Iterable<ObjectName>): void {
    const { pending } = this;
    if (names instanceof ObjectNames && pending.adopted.isEmpty) pending.adopted = names;
    else for (const name of names) pending.adopted.add(name);
    // The entries as well: the owner before may have made the objects and the directories.
    for (const generation of pending.adopted.generations()) pending.addGeneration(`${this.parts.directory}/${BLOCKS}`, generation);
  }

  /** Both the volume's user and the store may call it, even at a time. */
  close(): Promise<void> {
    this.closing ??= this.closeOnce();
    return this.closing;
  }

  private async closeOnce(): Promise<void> {
    this.failure ??= storeClosed(volumeText(this.volume));
    this.settleNow();
    if (this.underWay > 0) await new Promise<void>((resolve) => (this.whenIdle = resolve));
    this.journal.close();
    await this.objects.close();
    this.observer.closed(this);
  }

  // What the objects and the journal need of their owner.

  prepareGeneration(generation: Generation): void {
    mkdirSync(`${this.parts.directory}/${BLOCKS}/${hex16(generation)}`, { recursive: true, mode: 0o700 });
  }

  /**
   * Looks for a later owner's log. Asked after each opening by name: one that a later owner has claimed is not ours to change, and that
   * owner's log was there before. Only opening costs this, not each operation.
   */
  supersededNow(): ArchipelagoError | null {
    let refusal: ArchipelagoError | null;
    try {
      refusal = successor(readdirSync(volumePath(this.parts.directory, this.volume)), this.volume, this.epoch);
    } catch (error) {
      refusal = this.logError(error, 'looking for a later owner');
    }
    if (refusal?.code === 'stale-epoch') this.failure ??= refusal;
    return refusal;
  }

  /** The name leads to another file, which is durable; the entry is not. */
  claimed(file: ObjectFile): void {
    this.created(file);
    // A sync under way may make the new file durable in place of the one that it was asked for: then it has to cover the entry too.
    this.syncing?.addGeneration(`${this.parts.directory}/${BLOCKS}`, file.generation);
    // So that a handover tells of it: until the entry is durable, a power failure may bring the former file back.
    if (!file.dirty) this.changed(file);
    this.observer.objectRemoved(file);
  }

  created(file: ObjectFile): void {
    this.pending.addGeneration(`${this.parts.directory}/${BLOCKS}`, file.generation);
  }

  changed(file: ObjectFile): void {
    file.dirty = true;
    this.pending.objects.add(file);
    this.pending.adopted.delete(file);
    this.unsyncedWatch?.add(file);
  }

  removed(file: ObjectFile): void {
    file.dirty = false;
    for (const batch of [this.pending, this.syncing]) {
      batch?.objects.delete(file);
      batch?.adopted.delete(file);
    }
    this.observer.objectRemoved(file);
  }

  unused(file: ObjectFile): void {
    if (file.isUnused && !file.dirty) this.objects.delete(file);
  }

  operationStarted(): void {
    this.underWay++;
  }

  operationEnded(): void {
    this.underWay--;
    if (this.underWay === 0) this.whenIdle?.();
  }

  /** A log that is not there any more was taken over and removed. */
  logError(error: unknown, what: string): ArchipelagoError {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') return ArchipelagoError.from(error, `${what} in ${this.logDirectory}`);
    return new ArchipelagoError('stale-epoch', `${volumeText(this.volume)} was taken over from epoch ${this.epoch}: ${this.logDirectory} is gone`);
  }

  /** For the header: a sync that fails leaves unknown what is durable, and the page cache cannot be asked again. */
  private readonly watched = {
    data: (fd: number, path: string) => this.parts.durability.data(fd, path).catch((error: unknown) => this.failAndThrow(error, path)),
    directory: (path: string) => this.parts.durability.directory(path).catch((error: unknown) => this.failAndThrow(error, path)),
  };

  private failAndThrow(error: unknown, path: string): never {
    throw this.fail(error, `syncing ${path}`);
  }

  private fail(error: unknown, what: string): ArchipelagoError {
    if (this.failure === null) {
      const reason = error instanceof Error ? error.message : String(error);
      this.failure = new ArchipelagoError('io-error', `${volumeText(this.volume)}: ${what} failed, durability is unknown: ${reason}`, {
        cause: error,
        hint: 'the volume has to be taken over under a new epoch; check the disk of the store',
      });
      this.parts.log.error({ error: this.failure, volume: this.volume, epoch: this.epoch }, 'a volume store failed');
    }
    return this.failure;
  }

  private async during(work: () => Promise<void>): Promise<void> {
    if (this.failure !== null) throw this.failure;
    this.operationStarted();
    try {
      await work();
    } finally {
      this.operationEnded();
    }
  }
}

async function writePageFile(path: string, bytes: Uint8Array): Promise<void> {
  try {
    await writeFile(path, bytes, { mode: 0o600 }).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      await writeFile(path, bytes, { mode: 0o600 });
    });
  } catch (error) {
    throw ArchipelagoError.from(error, `writing ${path}`);
  }
}
