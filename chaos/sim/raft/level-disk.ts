/**
 * A simulated disk under the production storage: a LevelDB, whose log can be torn, and the file of the watermark. Two sorts of crash: the
 * process dies, and what it wrote stays; or the power fails, and what was not synced is lost from some place on, the record there being
 * torn or damaged. LevelDB drops such a record in silence when it opens, with all behind it.
 */

import { crc32, type Prng, silentLog, viewOf } from '../../../src/base/index.ts';
import { type Configuration, LevelStorage, type RaftStorage, type StorageBatch } from '../../../src/raft/index.ts';
import type { LevelFiles } from '../../../src/raft/storage/level-files.ts';
import { decodeMeta, decodeRun, type Meta } from '../../../src/raft/storage/records.ts';
import type { Database, DatabaseBatch, DatabaseSnapshot } from '../../../src/raft/storage/recovery.ts';
import { entryKey, META_KEY } from '../../../src/raft/storage/recovery.ts';
import type { Mark, Marks } from '../../../src/raft/storage/watermark.ts';
import type { Host } from '../host.ts';
import { Disk, type DiskCounts, kindOf, type WriteKind } from './disk.ts';

type Records = Map<string, Uint8Array>;
type Operation = { readonly type: 'put'; readonly key: string; readonly value: Uint8Array } | { readonly type: 'del'; readonly key: string };

/** Of a record of the log: CRC-32 of what follows the header, and its length. */
const HEADER_BYTES = 8;

export class LevelDisk extends Disk {
  /** What is synced. */
  private synced: Records = new Map();
  /** What the process sees. */
  private live: Records = new Map();
  /** Written to the log since the last sync, oldest first. */
  private unsynced: Operation[][] = [];
  private readonly marks: SimulatedMarks;
  /** The batches under way, oldest first: that of the storage, and one of a snapshot that is being staged. */
  private underWay: Operation[][] = [];
  private metaRecord: Uint8Array | null = null;
  private meta: Meta | null = null;
  /** Of the entries of each record. */
  private readonly terms = new WeakMap<Uint8Array, readonly number[]>();
  /** What the write under way is about. */
  private kind: WriteKind = 'state';
  private readonly id: string;
  private readonly bootstrap: readonly string[];

  constructor(host: Host, configuration: Configuration, random: Prng, counts: DiskCounts) {
    super(host, configuration, random, counts);
    this.id = host.id;
    this.bootstrap = configuration.voters;
    this.marks = new SimulatedMarks(random);
  }

  override async open(): Promise<RaftStorage> {
    await this.read();
    const openFiles = async (): Promise<LevelFiles> => ({
      database: this.database(),
      hadMark: this.marks.exists,
      openMark: () => ({ watermark: this.marks, found: this.marks.find() }),
      syncDirectories: () => {},
    });
    const storage = await LevelStorage.open({ id: this.id, directory: `disk of ${this.id}`, bootstrap: this.bootstrap, log: silentLog, openFiles });
    const { write, install } = storage;
    let lastIndex = storage.initial.base.index + storage.initial.entries.length;
    storage.write = (batch: StorageBatch) => {
      this.kind = kindOf(batch, lastIndex);
      lastIndex = batch.entries.at(-1)?.index ?? lastIndex;
      return write.call(storage, batch);
    };
    storage.install = (staging, at, hardState) => {
      this.kind = 'installation';
      lastIndex = at.index;
      return install.call(storage, staging, at, hardState);
    };
    return storage;
  }

  override crash(): void {
    const { counts, random } = this;
    const { underWay } = this;
    this.underWay = [];
    this.pending = [];
    const powerFails = random.chance(0.5);
    if (!powerFails) {
      counts.processDeaths++;
      for (const operations of this.unsynced) carryOut(this.synced, operations);
      // A process may die between the write of a batch and its sync, or before either; never within the write.
      const kept = random.below(underWay.length + 1);
      for (const operations of underWay.slice(0, kept)) carryOut(this.synced, operations);
      counts.savedAtCrash += kept;
      counts.lostAtCrash += underWay.length - kept;
    } else {
      counts.powerFailures++;
      this.loseUnsynced([...this.unsynced, ...underWay]);
      this.marks.losePower();
    }
    this.unsynced = [];
    this.live = new Map(this.synced);
  }

  override holds(index: number, term: number): boolean {
    const meta = this.syncedMeta();
    if (meta === null || index > meta.last.index) return false;
    if (index <= meta.base.index) return true;
    // In the last record that begins no later: what the one before has from there on was replaced.
    for (let first = index; first >= meta.first.index; first--) {
      const record = this.synced.get(entryKey(first));
      if (record !== undefined) return this.termsOf(record, first)[index - first] === term;
    }
    return false;
  }

  /** Keeps a part of what was written and not synced, up to a record that is perhaps there in part. */
  private loseUnsynced(batches: readonly Operation[][]): void {
    const { counts, random } = this;
    if (batches.length === 0) return;
    // Sometimes everything has got there; more often the failure hits a record.
    const kept = random.chance(0.2) ? batches.length : random.below(batches.length);
    for (const operations of batches.slice(0, kept)) carryOut(this.synced, operations);
    const torn = batches[kept];
    counts.savedAtCrash += kept;
    counts.lostAtCrash += batches.length - kept;
    if (torn === undefined) return;
    const record = recordOf(torn);
    const left = tear(record, random);
    if (left.byteLength > 0) {
      if (left.byteLength < record.byteLength) counts.tornRecords++;
      else counts.damagedRecords++;
    }
    const found = readRecord(left);
    if (found !== null) carryOut(this.synced, found);
    else if (this.bug.tornBatchCounts === true) carryOut(this.synced, torn.slice(0, Math.floor((torn.length * left.byteLength) / record.byteLength)));
  }

  private database(): Database {
    return {
      get: async (key, options) => {
        await this.read();
        return recordsOf(options?.snapshot, this.live).get(key);
      },
      batch: () => this.batch(),
      iterator: (range) => this.iterate(range.gt, range.lt, recordsOf(range.snapshot, this.live)),
      clear: async (range) => {
        const from = range.gte ?? range.gt ?? '';
        const operations: Operation[] = [];
        for (const key of this.live.keys()) {
          if (key >= from && key !== range.gt && key < range.lt) operations.push({ type: 'del', key });
        }
        if (operations.length === 0) return;
        carryOut(this.live, operations);
        this.unsynced.push(operations);
      },
      snapshot: () => new SimulatedSnapshot(new Map(this.live)),
      close: async () => {},
    };
  }

  private batch(): DatabaseBatch {
    const operations: Operation[] = [];
    return {
      put: (key, value) => operations.push({ type: 'put', key, value: value.slice() }),
      del: (key) => operations.push({ type: 'del', key }),
      write: () => {
        const { kind } = this;
        this.kind = 'state';
        this.underWay.push(operations);
        return this.write(kind, () => {
          for (const earlier of this.unsynced) carryOut(this.synced, earlier);
          this.unsynced = [];
          carryOut(this.synced, operations);
          carryOut(this.live, operations);
          this.underWay = this.underWay.filter((other) => other !== operations);
        });
      },
    };
  }

  private async *iterate(after: string, before: string, records: Records): AsyncGenerator<[string, Uint8Array]> {
    await this.read();
    const keys = [...records.keys()].filter((key) => key > after && key < before).sort();
    for (const key of keys) yield [key, records.get(key) as Uint8Array];
  }

  /** What the disk says of its log; read again only when there is another record. */
  private syncedMeta(): Meta | null {
    const record = this.synced.get(META_KEY);
    if (record === undefined) return null;
    if (record !== this.metaRecord) {
      this.metaRecord = record;
      this.meta = decodeMeta(record, 'a simulated disk');
    }
    return this.meta;
  }

  private termsOf(record: Uint8Array, first: number): readonly number[] {
    let terms = this.terms.get(record);
    if (terms === undefined) {
      terms = decodeRun(record, first, 'a simulated disk').map((entry) => entry.term);
      this.terms.set(record, terms);
    }
    return terms;
  }
}

/** The file of the watermark: it is written without a sync, and synced now and then. */
class SimulatedMarks implements Marks {
  exists = false;
  /** Since the last sync, oldest first; the first one is synced, unless there was no sync yet. */
  private written: Mark[] = [];
  private readonly random: Prng;

  constructor(random: Prng) {
    this.random = random;
  }

  find(): Mark | null {
    return this.written.at(-1) ?? null;
  }

  note(mark: Mark): void {
    this.written.push(mark);
  }

  syncNow(): void {
    this.exists = true;
    this.written = this.written.slice(-1);
  }

  async sync(): Promise<void> {
    this.syncNow();
  }

  close(): void {}

  /** Any of what was written since the sync may be the last that is whole. */
  losePower(): void {
    if (!this.exists) this.written = [];
    else if (this.written.length > 1) this.written.length = 1 + this.random.below(this.written.length);
  }
}

class SimulatedSnapshot implements DatabaseSnapshot {
  readonly records: Records;

  constructor(records: Records) {
    this.records = records;
  }

  async close(): Promise<void> {}
}

function recordsOf(snapshot: DatabaseSnapshot | undefined, live: Records): Records {
  return snapshot instanceof SimulatedSnapshot ? snapshot.records : live;
}

function carryOut(records: Records, operations: readonly Operation[]): void {
  for (const operation of operations) {
    if (operation.type === 'put') records.set(operation.key, operation.value);
    else records.delete(operation.key);
  }
}

/** A batch as it stands in the log. */
function recordOf(operations: readonly Operation[]): Uint8Array {
  const plain = operations.map((operation) => (operation.type === 'put' ? { ...operation, value: [...operation.value] } : operation));
  const payload = new TextEncoder().encode(JSON.stringify(plain));
  const record = new Uint8Array(HEADER_BYTES + payload.byteLength);
  record.set(payload, HEADER_BYTES);
  viewOf(record).setUint32(0, crc32(payload));
  viewOf(record).setUint32(4, payload.byteLength);
  return record;
}

/** Null for a record that is not whole: LevelDB takes it for the end of the log. */
function readRecord(record: Uint8Array): Operation[] | null {
  if (record.byteLength < HEADER_BYTES) return null;
  const payload = record.subarray(HEADER_BYTES);
  if (viewOf(record).getUint32(4) !== payload.byteLength || viewOf(record).getUint32(0) !== crc32(payload)) return null;
  const plain = JSON.parse(new TextDecoder().decode(payload)) as (Operation & { value: number[] })[];
  return plain.map((operation) => (operation.type === 'put' ? { ...operation, value: Uint8Array.from(operation.value) } : operation));
}

/** Nothing of it, a part from the front, or all with some bytes that are not those that were written. */
function tear(record: Uint8Array, random: Prng): Uint8Array {
  if (random.chance(0.15)) return new Uint8Array(0);
  if (random.chance(0.6)) return record.slice(0, 1 + random.below(record.byteLength - 1));
  const damaged = record.slice();
  const start = random.below(damaged.byteLength);
  for (let at = start; at < Math.min(damaged.byteLength, start + 64); at++) damaged[at] = (damaged[at] as number) ^ (1 + random.below(255));
  return damaged;
}
