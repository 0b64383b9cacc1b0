/**
 * One cycle of collection: finds all that can still be reached, and removes the rest while volumes go on being used.
 *
 * Let k be the index of the registry at which the cycle was begun. Candidates are objects and pages of generations that were given out
 * before k and that no record names as open at some index after it; and of an open one, by which a volume may name for months, the pages
 * that its folds have superseded. A cycle reads, in this order:
 *
 * 1. the registry, then the tree of every snapshot, and the log of every volume: the tree that its header names and everything that its
 *    journal mentions. A log counts once the registry, asked after it was read, still has the epoch whose log it was: then no later owner
 *    can have copied it before;
 * 2. the registry again, until no snapshot is being made whose generation had been reserved by then, and the trees of all snapshots, and of
 *    all volumes that are new since the first look.
 *
 * What was not reached then, no root ever reaches again, so it does not matter how late it is removed, by a collector that was paused, that
 * another one has followed, or whose removal a power failure undoes:
 *
 * - A volume's map is changed by records, which name objects of its naming generation, which is open or newer than k, and beside them as
 *   base only what the entry named before. So all later states of a map hold only what its log held when it was read, and such names.
 * - A power failure may take back records, and so bring back entries that they had dropped: that is why every mention counts. It cannot take
 *   back the header: what `readLog` shows is durable.
 * - The map of a snapshot is a state of its volume's map at the cut. A cut before the log was read may hold what the log did not show any
 *   more; such a snapshot's generation was reserved before the second look, which waits for it. Other snapshots hold later states.
 * - A clone starts at the root of a snapshot, and a handover or takeover at the log.
 * - What a stale owner makes by a name of its own counts as long as its generation is open; see `registry/collection.ts`.
 * - A header tells the generation that its owner names pages by, and the first sequence number that was not used when it was written. What
 *   is below that and not in the header's tree was superseded before: a tree is only ever made of pages of the one before and of new ones,
 *   whose numbers are higher, or of another generation. A cut that follows is such a tree too; one that came before has ended the naming by
 *   the generation of its pages. Nor can a new owner begin with an older header: what it copies, it copies after the log was read.
 *
 * Whoever still reads a snapshot or volume that was removed, or a tree that its volume has left behind, is told that something is missing;
 * names are never used again, so that nothing else can be found in its place. That may be another collector, whose cycle ends with it.
 */
import { ArchipelagoError, type Clock, type Generation, type VolumeId } from '../../base/index.ts';
import type { BlockStore, CollectedKind, ObjectName } from '../../blocker/index.ts';
import { decodeHeader } from '../core/header.ts';
import { journalMentions } from '../core/mentions.ts';
import { type Name, NameSet } from '../core/name-set.ts';
import type { PageRef, VolumeHeader } from '../core/types.ts';
import { PageWalk } from '../core/walk.ts';
import { pendingReservation } from '../registry/collection.ts';
import type { BegunCycle, Freed } from '../registry/collection-types.ts';
import type { VolumeRecord } from '../registry/types.ts';
import { Pace } from './pace.ts';

/** How long the cycle waits for an owner that has yet to take the log over, and for a snapshot that is being made. */
const WAIT_TIMEOUT_MS = 10 * 60_000;
const WAIT_STEP_MS = 100;
/** What reading one log costs, in operations. */
const LOG_OPERATIONS = 4;
/** Names that cost as much to list as one object to remove. */
const NAMES_AN_OPERATION = 16;
/** Removals begun at a time. */
const REMOVALS = 16;
/** The part of the memory that is for pages, of which there are a thousand times fewer than objects. */
const PAGES_PART = 0.25;
const NOTHING = new Uint8Array(0);

export interface CollectionOptions {
  readonly store: BlockStore;
  /** All volumes and snapshots at one index of the registry, not one before the call. */
  readonly records: () => Promise<readonly VolumeRecord[]>;
  /** Makes somebody take over a volume whose last owner has died before it could. */
  readonly takeOver: (id: VolumeId) => Promise<void>;
  readonly clock: Clock;
  readonly maxOperationsPerSecond: number;
  /** For the names that were reached; with less than they need the cycle makes several passes. */
  readonly memoryBytes: number;
}

/** How far a cycle is. */
export interface CollectionProgress extends Freed {
  readonly cycle: number;
  readonly phase: 'marking' | 'waiting' | 'sweeping';
  /** From 1. */
  readonly pass: number;
  /** Volumes and snapshots whose maps were read in this pass, and how many there are. */
  readonly volumesRead: number;
  readonly volumes: number;
  readonly pagesRead: number;
  /** Objects and pages looked at in this pass. */
  readonly listed: number;
}

/** Where the next pass begins, by kind. Null: at the first name. */
interface Borders {
  readonly object: Name | null;
  readonly page: Name | null;
}

/** A volume's log, as it was read. */
interface ReadLog {
  /** 0 without one; -1 when it could not be read, and has to be. */
  readonly epoch: number;
  /** Null before the first fold. */
  readonly header: VolumeHeader | null;
}

/** By naming generation, the sequence number below which a page that was not reached is superseded. */
type Superseded = ReadonlyMap<Generation, number>;

/** What one pass has reached. */
class Reached {
  readonly object: NameSet;
  readonly page: NameSet;
  readonly walk: PageWalk;

  constructor(memoryBytes: number, from: Borders) {
    this.object = new NameSet(memoryBytes * (1 - PAGES_PART), from.object);
    this.page = new NameSet(memoryBytes * PAGES_PART, from.page);
    const object = (generation: Generation, index: number) => void this.object.add(generation, index);
    this.walk = new PageWalk({ page: () => undefined, object }, this.page);
  }
}

export class Collection {
  private readonly begun: BegunCycle;
  private readonly options: CollectionOptions;
  private readonly pace: Pace;
  private stopped = false;
  private counts = { phase: 'marking' as CollectionProgress['phase'], pass: 0, volumesRead: 0, volumes: 0, pagesRead: 0, listed: 0 };
  private freedObjects = 0;
  private freedBytes = 0;
  /** Objects and pages looked at, in all passes. */
  seen = 0;

  constructor(begun: BegunCycle, options: CollectionOptions) {
    this.begun = begun;
    this.options = options;
    this.pace = new Pace(options.clock, options.maxOperationsPerSecond);
  }

  get progress(): CollectionProgress {
    return { cycle: this.begun.cycle, ...this.counts, freedObjects: this.freedObjects, freedBytes: this.freedBytes };
  }

  /** Ends the cycle soon; `run` rejects. */
  stop(): void {
    this.stopped = true;
  }

  /** What was freed until an error is in `progress`. */
  async run(): Promise<void> {
    const open = new Map<CollectedKind, Name | null>([
      ['object', null],
      ['page', null],
    ]);
    while (open.size > 0) {
      const limits = await this.runPass({ object: open.get('object') ?? null, page: open.get('page') ?? null }, [...open.keys()]);
      for (const kind of [...open.keys()]) {
        if (limits[kind] === null) open.delete(kind);
        else open.set(kind, limits[kind]);
      }
    }
  }

  /** Marks, and sweeps the names of `kinds` from `from` on as far as memory sufficed. */
  private async runPass(from: Borders, kinds: readonly CollectedKind[]): Promise<Borders> {
    this.counts = { phase: 'marking', pass: this.counts.pass + 1, volumesRead: 0, volumes: 0, pagesRead: 0, listed: 0 };
    const first = await this.options.records();
    // A record that has lost one since the first look has done so after k, and a generation that is not in it was closed before this look.
    const open = new Set(first.flatMap(({ openGenerations }) => openGenerations));
    const reached = new Reached(this.options.memoryBytes, from);
    this.counts.volumes = first.length;
    for (const record of first) {
      if (record.kind !== 'snapshot') continue;
      await this.markTree(reached, record.root, record);
      this.counts.volumesRead++;
    }
    const volumes = first.filter(({ kind }) => kind === 'volume');
    const { settled, superseded } = await this.markVolumes(reached, volumes);
    const last = await this.whenSnapshotsMade(settled);
    const known = new Set(volumes.map(({ id }) => id));
    for (const record of last) if (!known.has(record.id)) await this.markTree(reached, record.root, record);
    this.counts.phase = 'sweeping';
    for (const kind of kinds) await this.sweep(kind, reached[kind], open, superseded);
    await this.sweepLogs(last);
    return { object: reached.object.limit, page: reached.page.limit };
  }

  /** Marks what the volumes' logs lead to. `settled` is the registry as it was after all of them were read. */
  private async markVolumes(
    reached: Reached,
    volumes: readonly VolumeRecord[],
  ): Promise<{ settled: readonly VolumeRecord[]; superseded: Superseded }> {
    const deadlineMs = this.deadlineMs();
    const logs = new Map<VolumeId, ReadLog>();
    const epochOf = (id: VolumeId) => logs.get(id)?.epoch;
    let unread: readonly VolumeRecord[] = volumes;
    for (;;) {
      for (const record of unread) {
        logs.set(record.id, await this.markVolume(reached, record));
        if (unread === volumes) this.counts.volumesRead++;
      }
      const records = await this.options.records();
      // Of those that are left: another owner has come, or has yet to copy the log, and may copy a state from before we read it.
      unread = records.filter(({ id, epoch }) => logs.has(id) && epochOf(id) !== epoch);
      if (unread.length === 0) return { settled: records, superseded: supersededBy(logs.values()) };
      this.counts.phase = 'waiting';
      this.expectBefore(deadlineMs, `volume '${unread[0]?.name}' was not opened by its owner`);
      for (const { id, epoch, owner } of unread) if (owner === null && (epochOf(id) ?? 0) < epoch) await this.options.takeOver(id);
      await this.pause(WAIT_STEP_MS);
    }
  }

  private async markVolume(reached: Reached, record: VolumeRecord): Promise<ReadLog> {
    await this.take(LOG_OPERATIONS);
    const log = await this.options.store.readLog(record.id).catch((error: unknown) => {
      if (error instanceof ArchipelagoError && error.code === 'unavailable') return 'restless' as const;
      throw error;
    });
    if (log === 'restless') return { epoch: -1, header: null };
    try {
      const header = log?.header ? decodeHeader(log.header, record.id).header : null;
      // Without a header a clone still starts where its snapshot did.
      await this.markTree(reached, header === null ? record.root : header.root, record, log?.header);
      const visit = (generation: Generation, index: number) => void reached.object.add(generation, index);
      if (log) journalMentions(log.segments, record.id, header?.segment ?? 0, visit);
      return { epoch: log?.epoch ?? 0, header };
    } catch (error) {
      throw unreadable(record, error);
    }
  }

  /** `header` is where the root is from; null where the record has it. */
  private async markTree(reached: Reached, root: PageRef | null, record: VolumeRecord, header: Uint8Array | null = null): Promise<void> {
    const { walk } = reached;
    walk.add(root);
    for (let page = walk.next(); page !== null; page = walk.next()) {
      await this.take(1);
      try {
        walk.supply(page, await this.options.store.readPage(page.generation, page.sequence));
      } catch (error) {
        if (error instanceof ArchipelagoError && error.code === 'not-found') await this.expectNotOvertaken(record, header);
        throw unreadable(record, error);
      }
      this.counts.pagesRead++;
    }
  }

  /**
   * A page is gone. Where its volume or snapshot was removed, or the volume has another header by now, another collector has gone by that. This
   * cycle cannot go on from here, since pages that it has not read count as reached.
   */
  private async expectNotOvertaken({ id, name }: VolumeRecord, header: Uint8Array | null): Promise<void> {
    const record = (await this.options.records()).find((each) => each.id === id);
    const log = record?.kind === 'volume' ? await this.options.store.readLog(id) : null;
    if (record !== undefined && Buffer.compare(log?.header ?? NOTHING, header ?? NOTHING) === 0) return;
    throw new ArchipelagoError('unavailable', `cycle ${this.begun.cycle} was overtaken by another one in '${name}'`, {
      hint: 'the next cycle tries again',
    });
  }

  /** Waits for the snapshots that are being made in `records`. Resolves to the registry after that. */
  private async whenSnapshotsMade(records: readonly VolumeRecord[]): Promise<readonly VolumeRecord[]> {
    const deadlineMs = this.deadlineMs();
    const pending = new Map<VolumeId, Generation>();
    for (const record of records) {
      const generation = pendingReservation(record);
      if (generation !== null) pending.set(record.id, generation);
    }
    let latest = records;
    while (pending.size > 0) {
      this.counts.phase = 'waiting';
      const present = new Map(latest.map((record) => [record.id, record]));
      for (const [id, generation] of [...pending]) {
        const record = present.get(id);
        if (record === undefined || pendingReservation(record) !== generation) pending.delete(id);
        else this.expectBefore(deadlineMs, `a snapshot of volume '${record.name}' does not come to its end`);
      }
      if (pending.size === 0) break;
      await this.pause(WAIT_STEP_MS);
      latest = await this.options.records();
    }
    return latest;
  }

  private async sweep(kind: CollectedKind, reached: NameSet, open: ReadonlySet<Generation>, superseded: Superseded): Promise<void> {
    const { store } = this.options;
    /** Names of a generation below this one are candidates. */
    const limitOf = (generation: Generation): number => {
      if (generation >= this.begun.nextGeneration) return 0;
      if (!open.has(generation)) return Number.POSITIVE_INFINITY;
      return kind === 'page' ? (superseded.get(generation) ?? 0) : 0;
    };
    for await (const batch of store.list(kind, (generation) => limitOf(generation) > 0)) {
      await this.take(batch.length / NAMES_AN_OPERATION);
      this.counts.listed += batch.length;
      this.seen += batch.length;
      const isDead = ({ generation, index }: ObjectName) =>
        index < limitOf(generation) && reached.covers(generation, index) && !reached.has(generation, index);
      const dead = batch.filter(isDead);
      for (let at = 0; at < dead.length; at += REMOVALS) await this.remove(kind, dead.slice(at, at + REMOVALS));
    }
  }

  private async remove(kind: CollectedKind, names: readonly ObjectName[]): Promise<void> {
    await this.take(names.length);
    const { count, bytes } = await this.options.store.remove(kind, names);
    this.freedObjects += count;
    this.freedBytes += bytes;
  }

  /** A volume's id is never given out again, so one that is not there any more will not come back. */
  private async sweepLogs(records: readonly VolumeRecord[]): Promise<void> {
    const { store } = this.options;
    const present = new Set(records.map(({ id }) => id));
    for await (const batch of store.listLogs()) {
      for (const id of batch) {
        if (id >= this.begun.nextVolumeId || present.has(id)) continue;
        await this.take(LOG_OPERATIONS);
        await store.removeLog(id);
        this.freedObjects++;
      }
    }
  }

  private async take(operations: number): Promise<void> {
    await this.pace.take(operations);
    this.expectRunning();
  }

  private async pause(delayMs: number): Promise<void> {
    await new Promise<void>((resolve) => void this.options.clock.setTimer(delayMs, resolve));
    this.expectRunning();
  }

  private expectRunning(): void {
    if (!this.stopped) return;
    throw new ArchipelagoError('unavailable', `cycle ${this.begun.cycle} was stopped`, { hint: 'another node goes on' });
  }

  private deadlineMs(): number {
    return this.options.clock.nowMs() + WAIT_TIMEOUT_MS;
  }

  private expectBefore(deadlineMs: number, what: string): void {
    if (this.options.clock.nowMs() < deadlineMs) return;
    throw new ArchipelagoError('timeout', `nothing was collected: ${what}`, { hint: 'see `archipelago cluster status`; the next cycle tries again' });
  }
}

function supersededBy(logs: Iterable<ReadLog>): Superseded {
  const superseded = new Map<Generation, number>();
  for (const { header } of logs) if (header !== null) superseded.set(header.namingGeneration, header.nextPageSequence);
  return superseded;
}

/** What a map that cannot be read refers to is not known, and may still be wanted when the map was restored. */
function unreadable({ kind, name }: VolumeRecord, error: unknown): ArchipelagoError {
  if (error instanceof ArchipelagoError && error.code !== 'corrupt' && error.code !== 'not-found') return error;
  const { message } = ArchipelagoError.from(error, 'reading a map');
  return new ArchipelagoError('corrupt', `nothing can be collected: the map of ${kind} '${name}' cannot be read: ${message}`, {
    cause: error,
    hint: `restore its pages, or remove '${name}'`,
  });
}
