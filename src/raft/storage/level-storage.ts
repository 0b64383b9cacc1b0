/**
 * Log and state in one LevelDB. Every batch is atomic, synced, and carries the meta record, so that what is found at the start is what one
 * batch left; `recovery.ts` proves that.
 */
import { ArchipelagoError, assert, type Log } from '../../base/index.ts';
import { configurationOf } from '../core/configuration.ts';
import type { HardState, InitialState, LogIndex, SnapshotMeta, Term } from '../core/types.ts';
import { type LevelFiles, openLevelFiles } from './level-files.ts';
import { corrupt, decodeMeta, decodeStateValue, encodeMeta, encodeRun, encodeStateValue, type Meta, newMeta, stateChecksum } from './records.ts';
import { checkAgainstMark, type Database, entryKey, META_KEY, type Run, readEntries, STATE_PREFIX, statePrefix } from './recovery.ts';
import type { RaftStorage, Staging, StateDigest, StateEntry, StateView, StorageBatch } from './storage.ts';
import { type Marks, markOf } from './watermark.ts';

const TWO_TO_32 = 0x1_0000_0000;
/** Sorts behind every key of a prefix that ends in a slash. */
const AFTER_SLASH = '0';

/** Copies what it is given at once, and costs half of what an array of operations does. */
type Batch = ReturnType<Database['batch']>;

export interface LevelStorageOptions {
  readonly id: string;
  readonly directory: string;
  /** The voters of a new group; used only when the directory is empty. Empty for a node that waits to be invited. */
  readonly bootstrap: readonly string[];
  readonly log: Log;
  /** Opens what lies below; default LevelDB and a file in `directory`. For simulators. */
  readonly openFiles?: () => Promise<LevelFiles>;
}

export class LevelStorage implements RaftStorage {
  readonly initial: InitialState;
  private readonly directory: string;
  private readonly database: Database;
  private readonly watermark: Marks;
  private meta: Meta;
  /** The stored records of the log, in order. */
  private runs: Run[];
  /** The checksum of each state entry, so that the digest can be kept without reading. */
  private checksums = new Map<string, number>();
  private stateWasRead = false;
  private busy = false;

  static async open(options: LevelStorageOptions): Promise<LevelStorage> {
    const { directory } = options;
    const files = await (options.openFiles?.() ?? openLevelFiles(directory));
    try {
      return await LevelStorage.recover(options, files);
    } catch (error) {
      await files.database.close();
      throw ArchipelagoError.from(error, `Raft log in ${directory}`);
    }
  }

  private static async recover(options: LevelStorageOptions, files: LevelFiles): Promise<LevelStorage> {
    const { id, directory } = options;
    const { database, hadMark } = files;
    const record = await database.get(META_KEY);
    if (record === undefined && hadMark) throw corrupt('the meta record is missing, though it was synced before', directory);
    const meta = record === undefined ? newMeta(id, configurationOf(options.bootstrap)) : decodeMeta(record, directory);
    if (meta.id !== id) {
      throw new ArchipelagoError('conflict', `Raft log in ${directory} belongs to ${meta.id}, not to ${id}`, {
        hint: 'give each node its own directory',
      });
    }
    // The first batch is followed by the first mark; a crash between the two has promised nothing yet.
    if (!hadMark && meta.batch > 1) throw corrupt('the watermark file is missing', directory);
    const { watermark, found } = files.openMark(!hadMark);
    try {
      if (hadMark && found === null && meta.batch > 1) throw corrupt('the watermark file is damaged', directory);
      if (found !== null) checkAgainstMark(meta, found, directory);
      const { entries, runs } = await readEntries(database, meta, directory);
      const storage = new LevelStorage(directory, database, watermark, meta, runs, entries);
      await storage.start(files);
      return storage;
    } catch (error) {
      watermark.close();
      throw error;
    }
  }

  private constructor(directory: string, database: Database, watermark: Marks, meta: Meta, runs: Run[], entries: InitialState['entries']) {
    this.directory = directory;
    this.database = database;
    this.watermark = watermark;
    this.meta = meta;
    this.runs = runs;
    const { base, applied } = meta;
    this.initial = {
      hardState: { term: meta.term as Term, votedFor: meta.votedFor },
      base,
      entries,
      applied: applied.index,
    };
  }

  get starts(): number {
    return this.meta.starts;
  }

  get applied(): LogIndex {
    return this.meta.applied.index;
  }

  async readState(): Promise<StateEntry[]> {
    const { generation, count, sum } = this.meta.state;
    const prefix = statePrefix(generation);
    const entries: StateEntry[] = [];
    const checksums = new Map<string, number>();
    const digest = { count: 0, sum: 0 };
    for await (const [storedKey, record] of this.database.iterator({ gt: prefix, lt: rangeEnd(prefix) })) {
      const key = storedKey.slice(prefix.length);
      const { value, checksum } = decodeStateValue(key, record, this.directory);
      entries.push({ key, value });
      checksums.set(key, checksum);
      addTo(digest, checksum);
    }
    // Each record is whole; this shows whether one vanished or an old one came back.
    if (digest.count !== count || digest.sum !== sum)
      throw corrupt(`the state has ${digest.count} entries where ${count} were stored, or other ones`, this.directory);
    this.checksums = checksums;
    this.stateWasRead = true;
    return entries;
  }

  async write(batch: StorageBatch): Promise<void> {
    const operations = this.database.batch();
    let meta = this.meta;
    if (batch.hardState !== null) {
      const { term, votedFor } = batch.hardState;
      assert(term >= meta.term, `the stored term never falls: ${term} after ${meta.term}`);
      meta = { ...meta, term, votedFor };
    }
    if (batch.entries.length > 0) meta = this.addEntries(batch.entries, meta, operations);
    if (batch.applied !== null) meta = this.addChanges(batch.applied, meta, operations);
    if (batch.compactTo !== null) meta = this.addCompaction(batch.compactTo, meta, operations);
    assert(meta.base.index <= meta.applied.index && meta.applied.index <= meta.last.index, 'base, state and log stay in order');
    await this.commit(operations, meta);
  }

  async view(): Promise<StateView> {
    const { database, directory } = this;
    const snapshot = database.snapshot();
    const record = await database.get(META_KEY, { snapshot });
    assert(record !== undefined, 'a database that is in use has a meta record');
    const { applied, state } = decodeMeta(record, directory);
    const prefix = statePrefix(state.generation);
    return {
      at: applied,
      digest: { count: state.count, sum: state.sum },
      read: async (afterKey, maxBytes) => {
        const entries: StateEntry[] = [];
        let bytes = 0;
        for await (const [storedKey, stored] of database.iterator({ gt: prefix + (afterKey ?? ''), lt: rangeEnd(prefix), snapshot })) {
          const key = storedKey.slice(prefix.length);
          const { value } = decodeStateValue(key, stored, directory);
          entries.push({ key, value });
          bytes += key.length + value.byteLength;
          if (bytes >= maxBytes) return { entries, done: false };
        }
        return { entries, done: true };
      },
      close: () => snapshot.close(),
    };
  }

  async stage(): Promise<LevelStaging> {
    const generation = this.meta.state.generation + 1;
    await this.clearOtherGenerations();
    return new LevelStaging(this.database, generation);
  }

  async install(staging: Staging, at: SnapshotMeta, hardState: HardState | null): Promise<void> {
    assert(staging instanceof LevelStaging && staging.generation === this.meta.state.generation + 1, 'what is installed was staged here');
    const { count, sum } = staging.digest();
    const operations = this.database.batch();
    for (const { first } of this.runs) operations.del(entryKey(first));
    const { term, votedFor } = hardState ?? this.meta;
    const meta: Meta = {
      ...this.meta,
      term,
      votedFor,
      base: at,
      first: { index: at.index + 1, chain: 0 },
      last: { index: at.index, chain: 0 },
      applied: at,
      state: { generation: staging.generation, count, sum },
    };
    this.runs = [];
    await this.commit(operations, meta);
    await this.clearOtherGenerations();
  }

  async settle(): Promise<void> {
    await this.watermark.sync();
  }

  async close(): Promise<void> {
    await this.database.close();
    this.watermark.syncNow();
    this.watermark.close();
  }

  /** Counts this opening durably, which also shows that the disk takes writes, and puts the first mark in place. */
  private async start({ hadMark, syncDirectories }: LevelFiles): Promise<void> {
    await this.clearOtherGenerations();
    await this.commit(this.database.batch(), { ...this.meta, starts: this.meta.starts + 1 });
    if (hadMark) return;
    this.watermark.syncNow();
    syncDirectories();
  }

  private addEntries(entries: StorageBatch['entries'], meta: Meta, operations: Batch): Meta {
    const first = entries[0]?.index as number;
    assert(first > meta.applied.index && first <= meta.last.index + 1, `entries from ${first} on replace none that are applied and leave no hole`);
    for (const [offset, entry] of entries.entries()) assert(entry.index === first + offset, 'entries to store follow one another');
    let chainBefore = meta.last.chain;
    for (let replaced = this.runs.at(-1); replaced !== undefined && replaced.first >= first; replaced = this.runs.at(-1)) {
      // What begins earlier stays: its entries from `first` on count no more, since this record begins there.
      if (replaced.first !== first) operations.del(entryKey(replaced.first));
      chainBefore = replaced.chainBefore;
      this.runs.pop();
    }
    this.runs.push({ first, chainBefore });
    const { record, chain } = encodeRun(entries, chainBefore);
    operations.put(entryKey(first), record);
    return { ...meta, last: { index: first + entries.length - 1, chain } };
  }

  private addChanges(applied: NonNullable<StorageBatch['applied']>, meta: Meta, operations: Batch): Meta {
    assert(this.stateWasRead, 'state is read before it is changed');
    assert(applied.at.index >= meta.applied.index, 'the stored state never goes back');
    const digest = { count: meta.state.count, sum: meta.state.sum };
    const prefix = statePrefix(meta.state.generation);
    for (const [key, value] of applied.changes) {
      const old = this.checksums.get(key);
      if (old !== undefined) subtractFrom(digest, old);
      if (value === null) {
        this.checksums.delete(key);
        if (old !== undefined) operations.del(prefix + key);
        continue;
      }
      const checksum = stateChecksum(key, value);
      this.checksums.set(key, checksum);
      addTo(digest, checksum);
      operations.put(prefix + key, encodeStateValue(checksum, value));
    }
    return { ...meta, applied: applied.at, state: { ...meta.state, ...digest } };
  }

  private addCompaction(to: SnapshotMeta, meta: Meta, operations: Batch): Meta {
    assert(to.index > meta.base.index && to.index <= meta.last.index, 'compaction drops a part of the stored log');
    // Records whose last entry that counts is dropped.
    let dropped = 0;
    while (dropped < this.runs.length && (this.runs[dropped + 1]?.first ?? meta.last.index + 1) <= to.index + 1) dropped++;
    for (const { first } of this.runs.splice(0, dropped)) operations.del(entryKey(first));
    const [run] = this.runs;
    const start = run === undefined ? { index: meta.last.index + 1, chain: meta.last.chain } : { index: run.first, chain: run.chainBefore };
    return { ...meta, base: to, first: start };
  }

  private async commit(operations: Batch, meta: Meta): Promise<void> {
    assert(!this.busy, 'one batch at a time: the watermark speaks of the last one');
    this.busy = true;
    this.meta = { ...meta, batch: meta.batch + 1 };
    operations.put(META_KEY, encodeMeta(this.meta));
    await operations.write({ sync: true }).catch((error: unknown) => {
      throw ArchipelagoError.from(error, `Raft log in ${this.directory} cannot be written`);
    });
    this.watermark.note(markOf(this.meta));
    this.busy = false;
  }

  /** Removes states that were replaced, or staged and never installed. */
  private async clearOtherGenerations(): Promise<void> {
    const current = statePrefix(this.meta.state.generation);
    await this.database.clear({ gt: STATE_PREFIX, lt: current });
    await this.database.clear({ gte: rangeEnd(current), lt: rangeEnd(STATE_PREFIX) });
  }
}

class LevelStaging implements Staging {
  readonly generation: number;
  private readonly database: Database;
  private readonly totals = { count: 0, sum: 0 };

  constructor(database: Database, generation: number) {
    this.database = database;
    this.generation = generation;
  }

  async add(entries: readonly StateEntry[]): Promise<void> {
    const prefix = statePrefix(this.generation);
    const operations = this.database.batch();
    for (const { key, value } of entries) {
      const checksum = stateChecksum(key, value);
      addTo(this.totals, checksum);
      operations.put(prefix + key, encodeStateValue(checksum, value));
    }
    // Synced, because the batch that installs all of it may land in a younger log file of LevelDB's than these.
    await operations.write({ sync: true });
  }

  digest(): StateDigest {
    return { ...this.totals };
  }

  async discard(): Promise<void> {
    const prefix = statePrefix(this.generation);
    await this.database.clear({ gt: prefix, lt: rangeEnd(prefix) });
  }
}

/** The first key behind all that begin with `prefix`, which ends in a slash. */
function rangeEnd(prefix: string): string {
  assert(prefix.endsWith('/'), 'a prefix ends in a slash');
  return prefix.slice(0, -1) + AFTER_SLASH;
}

function addTo(digest: { count: number; sum: number }, checksum: number): void {
  digest.count++;
  digest.sum = (digest.sum + checksum) % TWO_TO_32;
}

function subtractFrom(digest: { count: number; sum: number }, checksum: number): void {
  digest.count--;
  digest.sum = (digest.sum - checksum + TWO_TO_32) % TWO_TO_32;
}
