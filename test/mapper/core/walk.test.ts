import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockMap } from '../../../src/mapper/core/block-map.ts';
import { type DiffRange, diffMaps } from '../../../src/mapper/core/diff.ts';
import { type EntryChange, type LayeredEntry, type PageRef, SUB_BLOCKS } from '../../../src/mapper/core/types.ts';
import { PageWalk } from '../../../src/mapper/core/walk.ts';
import { absent, codeOf, layered, NaiveMap, PageStore, plain, truncate } from './support.ts';

function diff(store: PageStore, older: PageRef | null, newer: PageRef | null, start = 0): DiffRange[] {
  const ranges: DiffRange[] = [];
  const steps = diffMaps(older, newer, start);
  for (let step = steps.next(); !step.done; ) {
    if (step.value.kind === 'range') {
      ranges.push(step.value);
      step = steps.next();
    } else step = steps.next(store.read(step.value.page));
  }
  return ranges;
}

/** Pages and objects that the roots lead to, with how often a page was read. */
function walk(store: PageStore, roots: readonly (PageRef | null)[]): { pages: string[]; objects: Set<string>; walk: PageWalk } {
  const pages: string[] = [];
  const objects = new Set<string>();
  const walked = new PageWalk({
    page: (ref) => pages.push(`${ref.generation}.${ref.sequence}`),
    object: (generation, index) => objects.add(`${generation}.${index}`),
  });
  for (const root of roots) walked.add(root);
  while (!walked.done) {
    // Two at a time, in the other order.
    const first = walked.next();
    const second = walked.next();
    if (second !== null) walked.supply(second, store.read(second));
    if (first !== null) walked.supply(first, store.read(first));
  }
  return { pages, objects, walk: walked };
}

/** The generation that a sub-block is in; 0 for none. */
function sourceOf(entry: number | LayeredEntry | undefined, sub: number): number {
  if (entry === undefined || typeof entry === 'number') return entry ?? 0;
  const word = sub < 32 ? entry.presenceLow : entry.presenceHigh;
  return ((word >>> (sub & 31)) & 1) === 1 ? entry.generation : entry.base;
}

const subBlocksOf = ({ first, end, zero }: DiffRange) => Array.from({ length: end - first }, (_, at): [number, boolean] => [first + at, zero]);

const indexes = fc.oneof(
  fc.nat(20),
  fc.nat(3000),
  fc.tuple(fc.constantFrom(1024, 2 ** 18, 2 ** 26, 2 ** 41), fc.integer({ min: -2, max: 2 })).map(([border, offset]) => border + offset),
);
const change: fc.Arbitrary<EntryChange> = fc.oneof(
  { weight: 5, arbitrary: fc.tuple(indexes, fc.integer({ min: 1, max: 4 })).map(([index, value]) => plain(index, value)) },
  { weight: 2, arbitrary: fc.tuple(indexes, fc.nat(2), fc.nat(2)).map(([index, base, presence]) => layered(index, 9, base, presence)) },
  { weight: 2, arbitrary: indexes.map(absent) },
  { weight: 1, arbitrary: indexes.map(truncate) },
);
const versions = fc.array(fc.array(change, { maxLength: 12 }), { minLength: 2, maxLength: 5 });

interface Version {
  readonly root: PageRef | null;
  readonly entries: NaiveMap['entries'];
}

function build(store: PageStore, changes: readonly EntryChange[][]): Version[] {
  const map = new BlockMap(null);
  const twin = new NaiveMap();
  return changes.map((list) => {
    for (const one of list) {
      store.apply(map, one);
      twin.apply(one);
    }
    return { root: store.fold(map).root, entries: twin.sorted() };
  });
}

describe('a diff', () => {
  it('tells exactly the blocks that differ, in order, between any two versions', () => {
    fc.assert(
      fc.property(versions, (changes) => {
        const store = new PageStore();
        const built = [{ root: null, entries: new Map() }, ...build(store, changes)];
        for (const older of built) {
          for (const newer of built) {
            const expected: [number, boolean][] = [];
            for (const index of [...new Set([...older.entries.keys(), ...newer.entries.keys()])].sort((a, b) => a - b)) {
              for (let sub = 0; sub < SUB_BLOCKS; sub++) {
                const [before, after] = [sourceOf(older.entries.get(index), sub), sourceOf(newer.entries.get(index), sub)];
                if (before !== after) expected.push([index * SUB_BLOCKS + sub, after === 0]);
              }
            }
            const ranges = diff(store, older.root, newer.root);
            const got = ranges.flatMap(subBlocksOf);
            expect(got).toEqual(expected);
            // Going on from the middle gives the rest.
            const [start] = expected[Math.floor(expected.length / 2)] ?? [0];
            expect(diff(store, older.root, newer.root, start).flatMap(subBlocksOf)).toEqual(expected.filter(([at]) => at >= start));
            for (const [place, range] of ranges.entries()) {
              const before = ranges[place - 1];
              if (before?.end === range.first) expect(before.zero).not.toBe(range.zero);
            }
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  it('reads what changed, not what is shared', () => {
    const store = new PageStore();
    const map = new BlockMap(null);
    for (let leaf = 0; leaf < 1000; leaf++) store.apply(map, plain(leaf * 1024, 1));
    const older = store.fold(map).root;
    expect(diff(store, older, older)).toEqual([]);
    expect(store.reads).toBe(0);
    store.apply(map, plain(700 * 1024 + 1, 2), plain(700 * 1024 + 2, 2), absent(700 * 1024));
    const newer = store.fold(map).root;
    expect(diff(store, older, newer)).toEqual([
      { kind: 'range', first: 700 * 1024 * SUB_BLOCKS, end: (700 * 1024 + 1) * SUB_BLOCKS, zero: true },
      { kind: 'range', first: (700 * 1024 + 1) * SUB_BLOCKS, end: (700 * 1024 + 3) * SUB_BLOCKS, zero: false },
    ]);
    expect(store.reads).toBe(6);
    store.reads = 0;
    store.apply(map, plain(2 ** 30, 1));
    const grown = store.fold(map).root;
    expect(diff(store, newer, grown)).toEqual([{ kind: 'range', first: 2 ** 36, end: 2 ** 36 + SUB_BLOCKS, zero: false }]);
    // Both roots, one page between the new root and the shared one, and the new path.
    expect(store.reads).toBeLessThanOrEqual(6);
  });
});

describe('a walk', () => {
  it('reaches every object of every root, and reads a page once', () => {
    fc.assert(
      fc.property(versions, (changes) => {
        const store = new PageStore();
        const built = build(store, changes);
        const { pages, objects, walk: walked } = walk(store, [...built.map(({ root }) => root), built[0]?.root ?? null]);
        expect(new Set(pages).size).toBe(pages.length);
        expect(pages.length).toBe(store.reads);
        expect(pages.length).toBe(store.pages.size);
        const expected = new Set<string>();
        for (const { entries } of built) {
          for (const [index, entry] of entries) {
            if (typeof entry === 'number') expected.add(`${entry}.${index}`);
            else {
              expected.add(`${entry.generation}.${index}`);
              if (entry.base !== 0) expected.add(`${entry.base}.${index}`);
            }
          }
        }
        expect(objects).toEqual(expected);
        for (const { root } of built) if (root !== null) expect(walked.has(root.generation, root.sequence)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it('goes on behind a page that is damaged or gone', () => {
    const store = new PageStore();
    const map = new BlockMap(null);
    for (let leaf = 0; leaf < 3; leaf++) store.apply(map, plain(leaf * 1024, 1));
    const objects: number[] = [];
    const walked = new PageWalk({ page() {}, object: (_, index) => objects.push(index) });
    walked.add(store.fold(map).root);
    const root = walked.next();
    if (root === null) throw new Error('no root');
    walked.supply(root, store.read(root));
    const [last, middle, first] = [walked.next(), walked.next(), walked.next()];
    if (last === null || middle === null || first === null) throw new Error('too few pages');
    walked.skip();
    expect(codeOf(() => walked.supply(middle, store.read(last)))).toBe('corrupt');
    expect(walked.done).toBe(false);
    walked.supply(first, store.read(first));
    expect(walked.done).toBe(true);
    expect(objects).toEqual([0]);
  });
});
