/**
 * An exact set of names (generation, index), of objects or pages, in bounded memory. Within a generation the indexes are kept in containers
 * of 65,536, each a sorted array or, where it is dense, a bitmap: ten million objects of full volumes take little more than a megabyte.
 *
 * When the memory does not suffice, the highest names are forgotten, and from then on the set only knows names below its `limit`. Whoever
 * needs the others makes another set, from that limit on.
 */
import { assert, type Generation } from '../../base/index.ts';

export interface Name {
  readonly generation: Generation;
  readonly index: number;
}

const SPAN = 65_536;
/** Above this many a bitmap is smaller than an array. */
const ARRAY_MAX = 4096;
const BITMAP_BYTES = SPAN / 8;
const ARRAY_MIN = 8;
/** Memory of the objects around the numbers, as measured, rounded up. */
const CONTAINER_BYTES = 256;
const GENERATION_BYTES = 256;
/** A set that is full is brought down to this part of its memory, so that the next names do not each cost a search for the highest. */
const KEPT_WHEN_FULL = 0.75;
/** So that one container and what is around it always fits. */
export const NAME_SET_MIN_BYTES = 65_536;

export class NameSet {
  private readonly budgetBytes: number;
  private readonly from: Name | null;
  private readonly generations = new Map<number, Map<number, Container>>();
  private usedBytes = 0;
  private end: Name | null = null;

  /** Names before `from` are not of interest. */
  constructor(budgetBytes: number, from: Name | null = null) {
    assert(budgetBytes >= NAME_SET_MIN_BYTES, 'a set of names has room for some');
    this.budgetBytes = budgetBytes;
    this.from = from;
  }

  get bytes(): number {
    return this.usedBytes;
  }

  /** The first name that the set knows nothing about; null when it knows all. */
  get limit(): Name | null {
    return this.end;
  }

  /** Whether the set can say of a name that it is not in it. */
  covers(generation: Generation, index: number): boolean {
    return (this.from === null || !isBefore(generation, index, this.from)) && (this.end === null || isBefore(generation, index, this.end));
  }

  /** False when the name was in the set. Of a name that the set does not cover it remembers nothing. */
  add(generation: Generation, index: number): boolean {
    if (!this.covers(generation, index)) return true;
    let containers = this.generations.get(generation);
    if (containers === undefined) {
      containers = new Map();
      this.generations.set(generation, containers);
      this.usedBytes += GENERATION_BYTES;
    }
    const high = Math.floor(index / SPAN);
    let container = containers.get(high);
    if (container === undefined) {
      container = new Container();
      containers.set(high, container);
      this.usedBytes += container.bytes;
    }
    const before = container.bytes;
    if (!container.add(index % SPAN)) return false;
    this.usedBytes += container.bytes - before;
    if (this.usedBytes > this.budgetBytes) this.forgetHighest();
    return true;
  }

  has(generation: Generation, index: number): boolean {
    return (
      this.generations
        .get(generation)
        ?.get(Math.floor(index / SPAN))
        ?.has(index % SPAN) ?? false
    );
  }

  private forgetHighest(): void {
    const target = this.budgetBytes * KEPT_WHEN_FULL;
    const generations = [...this.generations.keys()].sort((a, b) => b - a);
    for (const [place, generation] of generations.entries()) {
      const containers = this.generations.get(generation) as Map<number, Container>;
      for (const high of [...containers.keys()].sort((a, b) => b - a)) {
        // Whatever the budget: each set gets a little further than the one before.
        const isLast = place === generations.length - 1 && containers.size === 1;
        if (this.usedBytes <= target || isLast) return;
        this.usedBytes -= (containers.get(high) as Container).bytes;
        containers.delete(high);
        this.end = { generation: generation as Generation, index: high * SPAN };
      }
      this.generations.delete(generation);
      this.usedBytes -= GENERATION_BYTES;
    }
  }
}

function isBefore(generation: number, index: number, other: Name): boolean {
  return generation < other.generation || (generation === other.generation && index < other.index);
}

class Container {
  /** The first `count`, ascending; null once there is a bitmap. */
  private values: Uint16Array | null = new Uint16Array(ARRAY_MIN);
  private bitmap: Uint8Array | null = null;
  private count = 0;

  get bytes(): number {
    return CONTAINER_BYTES + (this.values?.byteLength ?? BITMAP_BYTES);
  }

  has(low: number): boolean {
    if (this.bitmap !== null) return (((this.bitmap[low >>> 3] as number) >>> (low & 7)) & 1) === 1;
    const at = this.place(low);
    return at < this.count && this.values?.[at] === low;
  }

  /** False when it was there. */
  add(low: number): boolean {
    if (this.bitmap !== null) return setBit(this.bitmap, low);
    let values = this.values as Uint16Array;
    // Most come in ascending order.
    const at = this.count > 0 && (values[this.count - 1] as number) < low ? this.count : this.place(low);
    if (at < this.count && values[at] === low) return false;
    if (this.count === ARRAY_MAX) {
      this.spread(values);
      return this.add(low);
    }
    if (this.count === values.length) {
      values = new Uint16Array(this.count * 2);
      values.set(this.values as Uint16Array);
      this.values = values;
    }
    values.copyWithin(at + 1, at, this.count);
    values[at] = low;
    this.count++;
    return true;
  }

  private spread(values: Uint16Array): void {
    this.bitmap = new Uint8Array(BITMAP_BYTES);
    for (const low of values) setBit(this.bitmap, low);
    this.values = null;
  }

  /** Where the first value at or above `low` is. */
  private place(low: number): number {
    const values = this.values as Uint16Array;
    let from = 0;
    let to = this.count;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if ((values[middle] as number) < low) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}

function setBit(bitmap: Uint8Array, low: number): boolean {
  const bit = 1 << (low & 7);
  const before = bitmap[low >>> 3] as number;
  if ((before & bit) !== 0) return false;
  bitmap[low >>> 3] = before | bit;
  return true;
}
