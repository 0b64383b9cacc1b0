/**
 * A simulated disk with the contract of `RaftStorage`: a batch is durable as a whole when its write resolves. A crash during a write leaves
 * all of that batch or nothing of it; an error leaves that open as well. What is below that (torn records, damaged files) is the business
 * of the storage's own tests.
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
  readonly hardState: HardState;
  readonly base: SnapshotMeta;
  readonly entries: readonly Entry[];
  readonly applied: SnapshotMeta;
  readonly state: ReadonlyMap<string, Uint8Array>;
  readonly starts: number;
}

export interface DiskConditions {
  /** Usual time of a write, and the chance and length of a slow one. */
  writeMs: number;
  slowChance: number;
  readonly slowMs: number;
  errorChance: number;
}

export interface DiskCounts {
  writes: number;
  slow: number;
  errors: number;
  lostAtCrash: number;
  savedAtCrash: number;
}

/** What a planted bug may change about a write. */
export interface DiskBug {
  /** The batch that is really stored. */
  alter?(batch: StorageBatch, durable: Durable): StorageBatch;
  /** Applies the batch in place of `store`. */
  store?(durable: Durable, batch: StorageBatch, usual: typeof store): Durable;
  /** Reports success before anything is durable. */
  readonly early?: boolean;
  /** The place that a view of the state is labelled with. */
  viewed?(at: SnapshotMeta): SnapshotMeta;
  /** The state that a snapshot leaves, in place of what was staged. */
  installed?(staged: ReadonlyMap<string, Uint8Array>, old: ReadonlyMap<string, Uint8Array>): ReadonlyMap<string, Uint8Array>;
}

export class Disk {
  durable: Durable;
  readonly conditions: DiskConditions = { writeMs: 1, slowChance: 0, slowMs: 300, errorChance: 0 };
  bug: DiskBug = {};
  private readonly host: Host;
  private readonly random: Prng;
  private readonly counts: DiskCounts;
  private begun = 0;
  private finished = 0;
  /** What the write under way will leave. */
  private pending: Durable | null = null;

  constructor(host: Host, configuration: Configuration, random: Prng, counts: DiskCounts) {
    this.host = host;
    this.random = random;
    this.counts = counts;
    const origin = { index: 0 as LogIndex, term: 0 as Term, configuration };
    this.durable = { hardState: { term: 0 as Term, votedFor: null }, base: origin, entries: [], applied: origin, state: new Map(), starts: 0 };
  }

  crash(): void {
    if (this.pending === null) return;
    if (this.random.chance(0.5)) {
      this.durable = this.pending;
      this.counts.savedAtCrash++;
    } else {
      this.counts.lostAtCrash++;
    }
    this.pending = null;
  }

  /** Whether this entry, or a state that contains it, would survive a crash. */
  holds(index: number, term: number): boolean {
    const { base, entries } = this.durable;
    if (index <= base.index) return true;
    return entries[index - base.index - 1]?.term === term;
  }

  /** The storage of one life of the process. */
  open(): RaftStorage {
    this.durable = { ...this.durable, starts: this.durable.starts + 1 };
    return new DiskStorage(this);
  }

  /** Makes `next` durable after the time that a write takes. */
  async write(next: Durable): Promise<void> {
    assert(this.pending === null || this.bug.early, 'one write at a time');
    const { conditions, counts, random } = this;
    this.pending = next;
    counts.writes++;
    if (this.bug.early) {
      void this.finish(next, false);
      return;
    }
    await this.finish(next, random.chance(conditions.errorChance));
  }

  /** For reads and for what is not part of the durable state. */
  wait(): Promise<void> {
    return new Promise((resolve) => this.host.in(this.durationMs(), resolve));
  }

  private finish(next: Durable, fails: boolean): Promise<void> {
    const order = ++this.begun;
    return new Promise((resolve, reject) => {
      this.host.in(this.durationMs(), () => {
        const stored = !fails || this.random.chance(0.5);
        // Only with a bug do writes overlap; each holds all before it.
        if (stored && order > this.finished) {
          this.durable = next;
          this.finished = order;
        }
        if (this.pending === next) this.pending = null;
        if (!fails) {
          resolve();
          return;
        }
        this.counts.errors++;
        reject(new SimulatedDiskError());
      });
    });
  }

  private durationMs(): number {
    const { conditions, random } = this;
    if (!random.chance(conditions.slowChance)) return conditions.writeMs * (0.2 + random.unit());
    this.counts.slow++;
    return conditions.slowMs * random.unit();
  }
}

/** A failure that was injected, and so is no crash of our code. */
export class SimulatedDiskError extends Error {
  override readonly name = 'SimulatedDiskError';

  constructor() {
    super('simulated fsync failure');
  }
}

class DiskStorage implements RaftStorage {
  readonly initial: InitialState;
  readonly starts: number;
  private readonly disk: Disk;
  /** As it will be when the write under way is through; with an early report it runs ahead of what is durable. */
  private current: Durable;

  constructor(disk: Disk) {
    this.disk = disk;
    this.current = disk.durable;
    const { hardState, base, entries, applied, starts } = disk.durable;
    this.initial = { hardState, base, entries, applied: applied.index };
    this.starts = starts;
  }

  get applied(): LogIndex {
    return this.current.applied.index;
  }

  async readState(): Promise<StateEntry[]> {
    return entriesOf(this.current.state);
  }

  async write(batch: StorageBatch): Promise<void> {
    const { bug } = this.disk;
    const stored = bug.alter?.(batch, this.current) ?? batch;
    this.current = bug.store?.(this.current, stored, store) ?? store(this.current, stored);
    await this.disk.write(this.current);
  }

  async view(): Promise<StateView> {
    const { applied: at, state } = this.current;
    const all = entriesOf(state);
    return {
      at: this.disk.bug.viewed?.(at) ?? at,
      digest: digestOf(all),
      read: async (afterKey, maxBytes) => {
        await this.disk.wait();
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

  async install(staging: Staging, at: SnapshotMeta, hardState: HardState | null): Promise<void> {
    assert(staging instanceof DiskStaging, 'what is installed was staged here');
    const state = this.disk.bug.installed?.(staging.state, this.current.state) ?? staging.state;
    this.current = { ...this.current, hardState: hardState ?? this.current.hardState, base: at, entries: [], applied: at, state };
    await this.disk.write(this.current);
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
    await this.disk.wait();
    for (const { key, value } of entries) this.state.set(key, value);
  }

  digest(): StateDigest {
    return digestOf(entriesOf(this.state));
  }

  async discard(): Promise<void> {
    this.state.clear();
  }
}

export function store(durable: Durable, batch: StorageBatch): Durable {
  let { hardState, base, entries, applied, state } = durable;
  if (batch.hardState !== null) hardState = batch.hardState;
  const first = batch.entries[0];
  if (first !== undefined) entries = [...entries.slice(0, first.index - base.index - 1), ...batch.entries];
  if (batch.applied !== null) {
    const changed = new Map(state);
    for (const [key, value] of batch.applied.changes) {
      if (value === null) changed.delete(key);
      else changed.set(key, value);
    }
    state = changed;
    applied = batch.applied.at;
  }
  if (batch.compactTo !== null) {
    entries = entries.slice(batch.compactTo.index - base.index);
    base = batch.compactTo;
  }
  return { ...durable, hardState, base, entries, applied, state };
}

function entriesOf(state: ReadonlyMap<string, Uint8Array>): StateEntry[] {
  return [...state].map(([key, value]) => ({ key, value })).sort((a, b) => (a.key < b.key ? -1 : 1));
}

function digestOf(entries: readonly StateEntry[]): StateDigest {
  let sum = 0;
  for (const { key, value } of entries) sum = (sum + crc32(value, crc32(new TextEncoder().encode(key)))) % 0x1_0000_0000;
  return { count: entries.length, sum };
}
