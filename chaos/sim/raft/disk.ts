/**
 * A simulated disk with the contract of `RaftStorage`: a batch is durable as a whole when its write resolves. A crash during a write leaves
 * all of that batch or nothing of it; an error leaves that open as well. What is below that (records, files, torn writes) is simulated by
 * `level-disk.ts`, which has the production storage on top.
 */
import { assert, crc32, type Prng } from '../../../src/base/index.ts';
import type {
  Configuration,
  Entry,
  HardState,
  InitialState,
  LogIndex,
  RaftStorage,
  SnapshotMeta,
  Staging,
  StateDigest,
  StateEntry,
  StateView,
  StorageBatch,
  Term,
} from '../../../src/raft/index.ts';
import type { Host } from '../host.ts';

/** What a crash leaves. */
export interface Durable {
  hardState: HardState;
  base: SnapshotMeta;
  readonly entries: Entry[];
  applied: SnapshotMeta;
  readonly state: Map<string, Uint8Array>;
  starts: number;
}

export interface DiskConditions {
  /** Usual time of a write, and the chance and length of a slow one. */
  writeMs: number;
  slowChance: number;
  slowMs: number;
  errorChance: number;
  readErrorChance: number;
}

export interface DiskCounts {
  /** Finished operations, reads among them. */
  completed: number;
  slow: number;
  writeErrors: number;
  readErrors: number;
  /** Writes under way at a crash that left nothing, and that left everything. */
  lostAtCrash: number;
  savedAtCrash: number;
  /** Crashes of disks that are simulated by the record, and what power failures did to the record that was being written. */
  processDeaths: number;
  powerFailures: number;
  tornRecords: number;
  damagedRecords: number;
}

/** What a write is about, for whoever waits for one of a kind. */
export type WriteKind = 'vote' | 'append' | 'overwrite' | 'state' | 'compaction' | 'installation';

/** What a planted bug may change about a write. */
export interface DiskBug {
  /** The batch that is really stored. */
  alter?(batch: StorageBatch): StorageBatch;
  /** Applies the batch in place of `store`. */
  store?(durable: Durable, batch: StorageBatch, usual: typeof store): void;
  /** The database takes what is left of a torn batch for the batch; only where records are simulated. */
  readonly tornBatchCounts?: boolean;
  /** Reports success before anything is durable. */
  readonly early?: boolean;
  /** The place that a view of the state is labelled with. */
  viewed?(at: SnapshotMeta): SnapshotMeta;
  /** The state that a snapshot leaves, in place of what was staged. */
  installed?(staged: ReadonlyMap<string, Uint8Array>, old: ReadonlyMap<string, Uint8Array>): ReadonlyMap<string, Uint8Array>;
}

export const NO_DISK_COUNTS: DiskCounts = {
  completed: 0,
  slow: 0,
  writeErrors: 0,
  readErrors: 0,
  lostAtCrash: 0,
  savedAtCrash: 0,
  processDeaths: 0,
  powerFailures: 0,
  tornRecords: 0,
  damagedRecords: 0,
};

type Change = (durable: Durable) => void;

export class Disk {
  readonly durable: Durable;
  readonly conditions: DiskConditions = { writeMs: 1, slowChance: 0, slowMs: 300, errorChance: 0, readErrorChance: 0 };
  bug: DiskBug = {};
  /** Hears of writes of a kind: as they begin, and as they are through. */
  onWrite: ((kind: WriteKind, through: boolean) => void) | null = null;
  private readonly host: Host;
  protected readonly random: Prng;
  protected readonly counts: DiskCounts;
  /** Writes under way, oldest first. */
  protected pending: Change[] = [];

  constructor(host: Host, configuration: Configuration, random: Prng, counts: DiskCounts) {
    this.host = host;
    this.random = random;
    this.counts = counts;
    const origin = { index: 0 as LogIndex, term: 0 as Term, configuration };
    this.durable = { hardState: { term: 0 as Term, votedFor: null }, base: origin, entries: [], applied: origin, state: new Map(), starts: 0 };
  }

  crash(): void {
    for (const change of this.pending) {
      if (this.random.chance(0.5)) {
        this.counts.lostAtCrash++;
        break;
      }
      change(this.durable);
      this.counts.savedAtCrash++;
    }
    this.pending = [];
  }

  get isWriting(): boolean {
    return this.pending.length > 0;
  }

  /** Whether this entry, or a state that contains it, would survive a crash. */
  holds(index: number, term: number): boolean {
    const { base, entries } = this.durable;
    if (index <= base.index) return true;
    return entries[index - base.index - 1]?.term === term;
  }

  /** The storage of one life of the process. */
  async open(): Promise<RaftStorage> {
    this.durable.starts++;
    const storage = new DiskStorage(this);
    await this.read();
    return storage;
  }

  /** Makes a change durable after the time that a write takes. */
  write(kind: WriteKind, change: Change): Promise<void> {
    const { bug, conditions, random } = this;
    this.pending.push(change);
    this.onWrite?.(kind, false);
    const fails = !bug.early && conditions.errorChance > 0 && random.chance(conditions.errorChance);
    return new Promise((resolve, reject) => {
      if (bug.early) resolve();
      this.host.in(this.durationMs(), () => {
        this.counts.completed++;
        if (!fails || random.chance(0.5)) this.carryOut(change);
        if (fails) {
          this.pending = [];
          this.counts.writeErrors++;
          reject(new SimulatedDiskError('fsync'));
          return;
        }
        this.onWrite?.(kind, true);
        resolve();
      });
    });
  }

  /** For reads, and for what is not part of the durable state. */
  read(): Promise<void> {
    const { conditions, counts, random } = this;
    return new Promise((resolve, reject) => {
      this.host.in(this.durationMs(), () => {
        counts.completed++;
        if (conditions.readErrorChance === 0 || !random.chance(conditions.readErrorChance)) {
          resolve();
          return;
        }
        counts.readErrors++;
        reject(new SimulatedDiskError('read'));
      });
    });
  }

  /** A write carries all before it with it. */
  private carryOut(change: Change): void {
    const position = this.pending.indexOf(change);
    for (const earlier of this.pending.splice(0, position + 1)) earlier(this.durable);
  }

  private durationMs(): number {
    const { conditions, random } = this;
    if (conditions.slowChance === 0 || !random.chance(conditions.slowChance)) return conditions.writeMs * (0.2 + random.unit());
    this.counts.slow++;
    return conditions.slowMs * random.unit();
  }
}

/** A failure that was injected, and so is no crash of our code. */
export class SimulatedDiskError extends Error {
  override readonly name = 'SimulatedDiskError';

  constructor(operation: string) {
    super(`simulated ${operation} failure`);
  }
}

class DiskStorage implements RaftStorage {
  readonly initial: InitialState;
  readonly starts: number;
  /** Of the write under way, too. */
  applied: LogIndex;
  private lastIndex: number;
  private readonly disk: Disk;

  constructor(disk: Disk) {
    this.disk = disk;
    const { hardState, base, entries, applied, starts } = disk.durable;
    this.initial = { hardState, base, entries: entries.slice(), applied: applied.index };
    this.starts = starts;
    this.applied = applied.index;
    this.lastIndex = base.index + entries.length;
  }

  async readState(): Promise<StateEntry[]> {
    return entriesOf(this.disk.durable.state);
  }

  write(batch: StorageBatch): Promise<void> {
    const { bug } = this.disk;
    assert(!this.disk.isWriting || bug.early, 'one write at a time');
    const stored = bug.alter?.(batch) ?? batch;
    if (stored.applied !== null) this.applied = stored.applied.at.index;
    const kind = kindOf(stored, this.lastIndex);
    this.lastIndex = stored.entries.at(-1)?.index ?? this.lastIndex;
    return this.disk.write(kind, (durable) => (bug.store ? bug.store(durable, stored, store) : store(durable, stored)));
  }

  async view(): Promise<StateView> {
    const { applied: at, state } = this.disk.durable;
    const all = entriesOf(state);
    return {
      at: this.disk.bug.viewed?.(at) ?? at,
      digest: digestOf(all),
      read: async (afterKey, maxBytes) => {
        await this.disk.read();
        const start = afterKey === null ? 0 : all.findIndex(({ key }) => key > afterKey);
        const entries: StateEntry[] = [];
        let bytes = 0;
        for (let at = start; at >= 0 && at < all.length && bytes < maxBytes; at++) {
          const entry = all[at] as StateEntry;
          entries.push(entry);
          bytes += entry.key.length + entry.value.byteLength;
        }
        return { entries, done: start < 0 || start + entries.length >= all.length };
      },
      close: async () => {},
    };
  }

  async stage(): Promise<Staging> {
    return new DiskStaging(this.disk);
  }

  install(staging: Staging, at: SnapshotMeta, hardState: HardState | null): Promise<void> {
    assert(staging instanceof DiskStaging, 'what is installed was staged here');
    const { bug } = this.disk;
    this.applied = at.index;
    this.lastIndex = at.index;
    return this.disk.write('installation', (durable) => {
      const state = [...(bug.installed?.(staging.state, durable.state) ?? staging.state)];
      durable.state.clear();
      for (const [key, value] of state) durable.state.set(key, value);
      if (hardState !== null) durable.hardState = hardState;
      durable.base = at;
      durable.entries.length = 0;
      durable.applied = at;
    });
  }

  async settle(): Promise<void> {}

  async close(): Promise<void> {}
}

class DiskStaging implements Staging {
  readonly state = new Map<string, Uint8Array>();
  private readonly disk: Disk;

  constructor(disk: Disk) {
    this.disk = disk;
  }

  async add(entries: readonly StateEntry[]): Promise<void> {
    await this.disk.read();
    for (const { key, value } of entries) this.state.set(key, value);
  }

  digest(): StateDigest {
    return digestOf(entriesOf(this.state));
  }

  async discard(): Promise<void> {
    this.state.clear();
  }
}

export function kindOf(batch: StorageBatch, lastIndex: number): WriteKind {
  if (batch.compactTo !== null) return 'compaction';
  const first = batch.entries[0];
  if (first !== undefined && first.index <= lastIndex) return 'overwrite';
  if (batch.hardState !== null) return 'vote';
  return first === undefined ? 'state' : 'append';
}

export function store(durable: Durable, batch: StorageBatch): void {
  const { entries, state } = durable;
  if (batch.hardState !== null) durable.hardState = batch.hardState;
  const first = batch.entries[0];
  if (first !== undefined) {
    const keep = first.index - durable.base.index - 1;
    if (keep < entries.length) entries.length = keep;
    for (const entry of batch.entries) entries.push(entry);
  }
  if (batch.applied !== null) {
    for (const [key, value] of batch.applied.changes) {
      if (value === null) state.delete(key);
      else state.set(key, value);
    }
    durable.applied = batch.applied.at;
  }
  if (batch.compactTo !== null) {
    entries.splice(0, batch.compactTo.index - durable.base.index);
    durable.base = batch.compactTo;
  }
}

function entriesOf(state: ReadonlyMap<string, Uint8Array>): StateEntry[] {
  return [...state].map(([key, value]) => ({ key, value })).sort((a, b) => (a.key < b.key ? -1 : 1));
}

function digestOf(entries: readonly StateEntry[]): StateDigest {
  let sum = 0;
  for (const { key, value } of entries) sum = (sum + crc32(value, crc32(new TextEncoder().encode(key)))) % 0x1_0000_0000;
  return { count: entries.length, sum };
}
