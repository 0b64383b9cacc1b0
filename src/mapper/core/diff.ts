/**
 * Where two maps differ, found by the identity of pages: what both share is not read. So the cost follows the difference, not the size. A
 * sub-block differs when it is in another object; a background merge also makes such a difference. Positions are counted in sub-blocks.
 */
import { assert } from '../../base/index.ts';
import type { MissingPage } from './answers.ts';
import { LAYERED, LEAF_FANOUT, Leaf } from './leaf.ts';
import { decodePage, expectPlace, expectRoot, Inner, type Page, samePage, spanOf } from './page.ts';
import { type PageRef, SUB_BLOCKS } from './types.ts';

/** The caller reads the page and hands its bytes to the generator's `next`. */
interface PageStep {
  readonly kind: 'page';
  readonly page: MissingPage;
}

/** Sub-blocks `first` up to, not including, `end` differ. */
export interface DiffRange {
  readonly kind: 'range';
  readonly first: number;
  readonly end: number;
  /** Nothing is there in the newer map: it reads as zeros. */
  readonly zero: boolean;
}

export type DiffStep = PageStep | DiffRange;
type Diff<Result = void> = Generator<DiffStep, Result, Uint8Array | undefined>;

/** Collects neighbours of the same kind into one range. */
class RangeJoiner {
  /** Nothing before this sub-block is of interest. */
  readonly start: number;
  private first = 0;
  private end = 0;
  private zero = false;

  constructor(start: number) {
    this.start = start;
  }

  /** Adds sub-blocks, in ascending order. Returns the range before, when they do not continue it. */
  add(from: number, end: number, zero: boolean): DiffRange | null {
    const first = Math.max(from, this.start);
    if (first >= end) return null;
    if (first === this.end && zero === this.zero && this.end > this.first) {
      this.end = end;
      return null;
    }
    const before = this.take();
    this.first = first;
    this.end = end;
    this.zero = zero;
    return before;
  }

  take(): DiffRange | null {
    if (this.end === this.first) return null;
    const range: DiffRange = { kind: 'range', first: this.first, end: this.end, zero: this.zero };
    this.first = this.end;
    return range;
  }
}

/** Yields pages to read, answered with their bytes, and the ranges from `start` on that differ between `older` and `newer`, ascending. */
export function* diffMaps(older: PageRef | null, newer: PageRef | null, start = 0): Diff {
  if (samePage(older, newer)) return;
  const ranges = new RangeJoiner(start);
  const from = older === null ? null : yield* load(older, null, 0);
  const to = newer === null ? null : yield* load(newer, null, 0);
  yield* diffRoots(older, from, to, newer, ranges);
  const last = ranges.take();
  if (last !== null) yield last;
}

/** Brings roots of different height to the same: the lower tree is where the higher one has its first child. */
function* diffRoots(fromRef: PageRef | null, from: Page | null, to: Page | null, toRef: PageRef | null, ranges: RangeJoiner): Diff {
  if (samePage(fromRef, toRef)) return;
  const higher = from instanceof Inner && from.level > (to?.level ?? -1) ? from : to instanceof Inner && to.level > (from?.level ?? -1) ? to : null;
  if (from === null || to === null || higher === null) {
    yield* diffPages(from, to, ranges);
    return;
  }
  const first = higher.children[0] ?? null;
  if (higher === from) {
    const child = first === null || samePage(first, toRef) ? null : yield* load(first, higher.level - 1, 0);
    yield* diffRoots(first, child, to, toRef, ranges);
  } else {
    const child = first === null || samePage(first, fromRef) ? null : yield* load(first, higher.level - 1, 0);
    yield* diffRoots(fromRef, from, child, first, ranges);
  }
  for (let slot = 1; slot < higher.children.length; slot++) {
    const child = higher.children[slot] ?? null;
    yield* diffRefs(higher === from ? child : null, higher === to ? child : null, higher.level - 1, higher.firstOf(slot), ranges);
  }
}

function* diffRefs(fromRef: PageRef | null, toRef: PageRef | null, level: number, first: number, ranges: RangeJoiner): Diff {
  if (samePage(fromRef, toRef) || (first + spanOf(level)) * SUB_BLOCKS <= ranges.start) return;
  const from = fromRef === null ? null : yield* load(fromRef, level, first);
  const to = toRef === null ? null : yield* load(toRef, level, first);
  yield* diffPages(from, to, ranges);
}

/** Two pages of the same place, or one and nothing. */
function* diffPages(from: Page | null, to: Page | null, ranges: RangeJoiner): Diff {
  const one = from ?? to;
  if (one === null) return;
  if (one instanceof Leaf) {
    for (const range of diffLeaves(from as Leaf | null, to as Leaf | null, one.first, ranges)) yield range;
    return;
  }
  for (let slot = 0; slot < one.children.length; slot++) {
    const fromChild = (from as Inner | null)?.children[slot] ?? null;
    const toChild = (to as Inner | null)?.children[slot] ?? null;
    yield* diffRefs(fromChild, toChild, one.level - 1, one.first + slot * spanOf(one.level - 1), ranges);
  }
}

function diffLeaves(from: Leaf | null, to: Leaf | null, first: number, ranges: RangeJoiner): DiffRange[] {
  const done: DiffRange[] = [];
  const next = (slot: number) => Math.min(from?.next(slot) ?? LEAF_FANOUT, to?.next(slot) ?? LEAF_FANOUT);
  for (let slot = next(0); slot < LEAF_FANOUT; slot = next(slot + 1)) {
    const before = from?.get(slot) ?? 0;
    const after = to?.get(slot) ?? 0;
    const at = (first + slot) * SUB_BLOCKS;
    if (before !== LAYERED && after !== LAYERED) {
      if (before !== after) push(done, ranges.add(at, at + SUB_BLOCKS, after === 0));
      continue;
    }
    for (let sub = 0; sub < SUB_BLOCKS; sub++) {
      const source = sourceOf(to, slot, after, sub);
      if (source !== sourceOf(from, slot, before, sub)) push(done, ranges.add(at + sub, at + sub + 1, source === 0));
    }
  }
  return done;
}

function push(list: DiffRange[], range: DiffRange | null): void {
  if (range !== null) list.push(range);
}

/** The generation of the object that holds a sub-block; 0 for none. */
function sourceOf(leaf: Leaf | null, slot: number, value: number, sub: number): number {
  if (value !== LAYERED || leaf === null) return value;
  const { generation, base, presenceLow, presenceHigh } = leaf.layered(slot);
  const word = sub < 32 ? presenceLow : presenceHigh;
  return ((word >>> (sub & 31)) & 1) === 1 ? generation : base;
}

function* load(ref: PageRef, level: number | null, first: number): Diff<Page> {
  const bytes = yield { kind: 'page', page: { ...ref, level, first } };
  assert(bytes !== undefined, 'a page step is answered with the bytes of the page');
  const page = decodePage(ref, bytes);
  if (level === null) expectRoot(ref, page);
  else expectPlace(ref, page, level, first);
  return page;
}
