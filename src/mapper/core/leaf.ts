/**
 * The entries of one leaf page in memory: 1024 slots, each absent, a plain generation, or a row of the table of layered entries. A leaf
 * with few entries holds them as sorted (slot, value) pairs, because a huge volume written here and there touches many leaves and fills
 * none; one with many is an array.
 */
import { assert } from '../../base/index.ts';
import type { LayeredEntry } from './types.ts';

/** Blocks that one leaf page covers. */
export const LEAF_FANOUT = 1024;
/** What `get` answers for a layered entry; `layered` has the rest. */
export const LAYERED = -1;

/** Above this many pairs an array of all slots is hardly larger, and faster. */
const PAIRS_MAX = 256;
const PAIRS_MIN = 8;

/** Memory of the objects around the entries, and of one row of the table, as measured. */
const LEAF_BYTES = 760;
const ROW_BYTES = 80;

export class Leaf {
  readonly level = 0;
  /** Index of the block of slot 0. */
  readonly first: number;
  /** Entries that are not absent. */
  count = 0;
  /** Ascending slots of the first `count` values; null when `values` has one for each slot. */
  private slots: Uint16Array | null;
  /** Absent 0, plain: its generation, layered: -1 - row. */
  private values: Float64Array;
  private rows: (LayeredEntry | null)[] = [];
  private freeRows: number[] = [];

  /** `expected` entries will follow; it only chooses the first size. */
  constructor(first: number, expected = 0) {
    assert(first % LEAF_FANOUT === 0, `a leaf starts at a multiple of its fan-out: ${first}`);
    this.first = first;
    let capacity = PAIRS_MIN;
    while (capacity < expected) capacity *= 2;
    const pairs = capacity <= PAIRS_MAX;
    this.slots = pairs ? new Uint16Array(capacity) : null;
    this.values = new Float64Array(pairs ? capacity : LEAF_FANOUT);
  }

  /** Memory in use, estimated. */
  get bytes(): number {
    return LEAF_BYTES + this.values.byteLength + (this.slots?.byteLength ?? 0) + this.rows.length * ROW_BYTES;
  }

  /** Layered entries. */
  get layeredCount(): number {
    return this.rows.length - this.freeRows.length;
  }

  /** 0 when absent, the generation of a plain entry, else `LAYERED`. */
  get(slot: number): number {
    const value = this.raw(slot);
    return value < 0 ? LAYERED : value;
  }

  layered(slot: number): LayeredEntry {
    const value = this.raw(slot);
    assert(value < 0, `slot ${slot} of the leaf at ${this.first} is not layered`);
    const row = this.rows[-1 - value];
    assert(row !== undefined && row !== null, 'a layered entry has a row');
    return row;
  }

  /** Makes the slot absent (0) or plain. False when it was that already. */
  set(slot: number, generation: number): boolean {
    const before = this.raw(slot);
    if (before === generation) return false;
    if (before < 0) this.releaseRow(-1 - before);
    if (generation === 0) this.delete(slot);
    else this.put(slot, generation);
    return true;
  }

  /** Makes the slot layered. False when it was the same already. */
  setLayered(slot: number, entry: LayeredEntry): boolean {
    const before = this.raw(slot);
    if (before < 0) {
      const row = -1 - before;
      if (sameLayered(this.layered(slot), entry)) return false;
      this.rows[row] = copyOf(entry);
      return true;
    }
    const row = this.freeRows.pop() ?? this.rows.length;
    this.rows[row] = copyOf(entry);
    this.put(slot, -1 - row);
    return true;
  }

  /** The first slot at or after `slot` that is not absent, or `LEAF_FANOUT`. */
  next(slot: number): number {
    if (this.slots !== null) {
      const at = this.lowerBound(slot);
      return at < this.count ? (this.slots[at] as number) : LEAF_FANOUT;
    }
    let at = slot;
    while (at < LEAF_FANOUT && this.values[at] === 0) at++;
    return at;
  }

  /** The first slot at or after `slot` that is layered, or `LEAF_FANOUT`. */
  nextLayered(slot: number): number {
    if (this.layeredCount === 0) return LEAF_FANOUT;
    let at = this.next(slot);
    while (at < LEAF_FANOUT && this.raw(at) >= 0) at = this.next(at + 1);
    return at;
  }

  /** Makes all slots from `slot` on absent. */
  truncate(slot: number): void {
    if (this.slots === null) {
      for (let at = this.next(slot); at < LEAF_FANOUT; at = this.next(at + 1)) this.set(at, 0);
      return;
    }
    const kept = this.lowerBound(slot);
    for (let at = kept; at < this.count; at++) {
      const value = this.values[at] as number;
      if (value < 0) this.releaseRow(-1 - value);
    }
    this.count = kept;
  }

  private raw(slot: number): number {
    if (this.slots === null) return this.values[slot] as number;
    const at = this.lowerBound(slot);
    return at < this.count && this.slots[at] === slot ? (this.values[at] as number) : 0;
  }

  /** The position of the first pair at or after `slot`. */
  private lowerBound(slot: number): number {
    const slots = this.slots as Uint16Array;
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((slots[middle] as number) < slot) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private put(slot: number, value: number): void {
    if (this.slots !== null) {
      const at = this.lowerBound(slot);
      if (at < this.count && this.slots[at] === slot) {
        this.values[at] = value;
        return;
      }
      if (this.count < PAIRS_MAX) {
        this.insert(at, slot, value);
        return;
      }
      this.spread();
    }
    if (this.values[slot] === 0) this.count++;
    this.values[slot] = value;
  }

  private insert(at: number, slot: number, value: number): void {
    if (this.count === this.values.length) this.grow();
    const slots = this.slots as Uint16Array;
    slots.copyWithin(at + 1, at, this.count);
    this.values.copyWithin(at + 1, at, this.count);
    slots[at] = slot;
    this.values[at] = value;
    this.count++;
  }

  private grow(): void {
    const slots = new Uint16Array(this.values.length * 2);
    const values = new Float64Array(this.values.length * 2);
    slots.set(this.slots as Uint16Array);
    values.set(this.values);
    this.slots = slots;
    this.values = values;
  }

  /** Turns the pairs into an array of all slots. */
  private spread(): void {
    const slots = this.slots as Uint16Array;
    const values = new Float64Array(LEAF_FANOUT);
    for (let at = 0; at < this.count; at++) values[slots[at] as number] = this.values[at] as number;
    this.slots = null;
    this.values = values;
  }

  private delete(slot: number): void {
    if (this.slots === null) {
      this.values[slot] = 0;
      this.count--;
      return;
    }
    const at = this.lowerBound(slot);
    this.slots.copyWithin(at, at + 1, this.count);
    this.values.copyWithin(at, at + 1, this.count);
    this.count--;
  }

  private releaseRow(row: number): void {
    this.rows[row] = null;
    this.freeRows.push(row);
  }
}

function sameLayered(a: LayeredEntry, b: LayeredEntry): boolean {
  return a.generation === b.generation && a.base === b.base && a.presenceLow === b.presenceLow && a.presenceHigh === b.presenceHigh;
}

/** A copy without the fields that a journal record has besides, so that the caller's object is not kept alive. */
function copyOf(entry: LayeredEntry): LayeredEntry {
  const { generation, base, presenceLow, presenceHigh } = entry;
  return { generation, base, presenceLow, presenceHigh };
}
