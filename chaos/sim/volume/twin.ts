/**
 * What a naive disk would hold. For each sector it keeps the writes that may still be seen: a write is out of the question once another one,
 * which began after it had ended, is known to have taken effect; after a power failure, once another one like that is known to be durable.
 * A write that failed, or whose process died, may have taken effect or not.
 */
import { lostAtDeath } from '../../checkers/acknowledged-survives-death.ts';
import { lostWithPower } from '../../checkers/flushed-survives-power-loss.ts';
import { SECTOR_BYTES, sectorId } from '../../checkers/never-torn-nor-foreign.ts';
import { staleRead } from '../../checkers/reads-are-current.ts';

const NEVER = Number.POSITIVE_INFINITY;

interface Candidate {
  /** Zero: the sector reads as zeros. */
  readonly id: number;
  readonly start: number;
  end: number;
  /** From when on it is known to have taken effect. */
  visibleBy: number;
  durable: boolean;
  /** From when on it is known that another value took its place, or that it never took effect. */
  hiddenBy: number;
}

/** A write or zero under way. */
export interface PendingChange {
  readonly first: number;
  readonly candidates: Candidate[];
}

/** A read under way: what it may show is remembered until it has ended. */
export interface PendingRead {
  readonly start: number;
}

export class Twin {
  /** Changes begun so far. */
  changes = 0;
  acknowledged = 0;
  private time = 0;
  private readonly sectors = new Map<number, Candidate[]>();
  /** Answered and not flushed. */
  private unflushed: Candidate[] = [];
  private readonly pending = new Set<PendingChange>();
  private readonly reading = new Set<PendingRead>();

  now(): number {
    return ++this.time;
  }

  /** True while a change is under way. */
  get changing(): boolean {
    return this.pending.size > 0;
  }

  beginChange(first: number, count: number, id: number): PendingChange {
    this.changes++;
    const start = this.now();
    const candidates: Candidate[] = [];
    for (let sector = first; sector < first + count; sector++) {
      const candidate = { id, start, end: NEVER, visibleBy: NEVER, durable: false, hiddenBy: NEVER };
      candidates.push(candidate);
      this.list(sector).push(candidate);
    }
    const change = { first, candidates };
    this.pending.add(change);
    return change;
  }

  endChange(change: PendingChange, succeeded: boolean, durable: boolean): void {
    const now = this.now();
    this.pending.delete(change);
    if (succeeded) this.acknowledged++;
    change.candidates.forEach((candidate, place) => {
      candidate.end = now;
      if (succeeded) candidate.visibleBy = Math.min(candidate.visibleBy, now);
      if (succeeded && !durable) this.unflushed.push(candidate);
      if (succeeded && durable) {
        candidate.durable = true;
        this.prune(change.first + place);
      }
    });
  }

  /** To be ended, whether it succeeded, failed or will never be answered. */
  beginRead(): PendingRead {
    const read = { start: this.now() };
    this.reading.add(read);
    return read;
  }

  endRead(read: PendingRead): void {
    this.reading.delete(read);
  }

  /** Checks what a read that began at `start`, and has not ended yet, has found. */
  checkRead(first: number, words: Uint32Array, start: number): void {
    const now = this.now();
    for (let place = 0; place * (SECTOR_BYTES / 4) < words.length; place++) {
      const sector = first + place;
      const id = sectorId(words, place, sector);
      const list = this.list(sector);
      const seen = this.visible(list, start).find((candidate) => candidate.id === id);
      if (seen === undefined) throw staleRead(sector, id, `${this.describe(sector)} at ${start}`);
      seen.visibleBy = Math.min(seen.visibleBy, now);
      // What had ended before the read has taken effect by then or never will: also where nobody knows, as after a death or a failover.
      for (const other of list) if (other.id !== id && other.end < start) other.hiddenBy = Math.min(other.hiddenBy, now);
    }
  }

  endFlush(start: number): void {
    const rest: Candidate[] = [];
    for (const candidate of this.unflushed) {
      if (candidate.end < start) candidate.durable = true;
      else rest.push(candidate);
    }
    this.unflushed = rest;
    for (const sector of this.sectors.keys()) this.prune(sector);
  }

  /** Nothing of what is under way will happen later. */
  processDied(): void {
    this.reading.clear();
    for (const change of [...this.pending]) this.endChange(change, false, false);
  }

  /**
   * Takes what a sector shows while nothing is under way, after the process (or the power) has died, for what it holds from here on.
   */
  settle(first: number, words: Uint32Array, powerFailed: boolean): void {
    const now = this.now();
    for (let place = 0; place * (SECTOR_BYTES / 4) < words.length; place++) {
      const sector = first + place;
      const id = sectorId(words, place, sector);
      const list = this.list(sector);
      const possible = powerFailed ? this.surviving(list) : this.visible(list, now);
      const seen = possible.find((candidate) => candidate.id === id);
      if (seen === undefined) throw powerFailed ? lostWithPower(sector, id, this.describe(sector)) : lostAtDeath(sector, id, this.describe(sector));
      if (powerFailed) {
        this.sectors.set(sector, [{ id, start: -1, end: now, visibleBy: now, durable: true, hiddenBy: NEVER }]);
        continue;
      }
      for (const other of list) other.hiddenBy = other === seen ? NEVER : now;
      if (seen.visibleBy === NEVER) this.unflushed.push(seen);
      seen.visibleBy = Math.min(seen.visibleBy, now);
    }
    if (powerFailed) this.unflushed = [];
  }

  /** What each sector may show now that nothing is under way. */
  possibleNow(sectors: Iterable<number>): Map<number, number[]> {
    const now = this.now();
    const possible = new Map<number, number[]>();
    for (const sector of sectors)
      possible.set(
        sector,
        Array.from(this.visible(this.list(sector), now), ({ id }) => id),
      );
    return possible;
  }

  /** A disk that holds `values`, durably. */
  static of(values: ReadonlyMap<number, number>): Twin {
    const twin = new Twin();
    const time = twin.now();
    for (const [sector, id] of values) {
      if (id !== 0) twin.sectors.set(sector, [{ id, start: -1, end: time, visibleBy: time, durable: true, hiddenBy: NEVER }]);
    }
    return twin;
  }

  private visible(list: readonly Candidate[], start: number): Candidate[] {
    return list.filter((candidate) => candidate.hiddenBy >= start && !list.some((other) => other.visibleBy < start && other.start > candidate.end));
  }

  private surviving(list: readonly Candidate[]): Candidate[] {
    return list.filter((candidate) => !list.some((other) => other.durable && other.start > candidate.end));
  }

  private list(sector: number): Candidate[] {
    let list = this.sectors.get(sector);
    if (list === undefined) {
      list = [{ id: 0, start: -1, end: 0, visibleBy: 0, durable: true, hiddenBy: NEVER }];
      this.sectors.set(sector, list);
    }
    return list;
  }

  /** Drops what neither a read under way nor a power failure can show any more. */
  private prune(sector: number): void {
    const list = this.sectors.get(sector);
    if (list === undefined || list.length < 4) return;
    let oldest = this.time;
    for (const change of this.pending) oldest = Math.min(oldest, change.candidates[0]?.start ?? oldest);
    for (const { start } of this.reading) oldest = Math.min(oldest, start);
    const gone = (candidate: Candidate) => list.some((other) => other.durable && other.visibleBy < oldest && other.start > candidate.end);
    this.sectors.set(
      sector,
      list.filter((candidate) => !gone(candidate)),
    );
  }

  private describe(sector: number): string {
    const text = this.list(sector).map(
      ({ id, start, end, visibleBy, durable, hiddenBy }) =>
        `${id}[${start}-${end} seen ${visibleBy}${durable ? ' durable' : ''}${hiddenBy === NEVER ? '' : ` hidden ${hiddenBy}`}]`,
    );
    return `of ${text.join(', ')}`;
  }
}
