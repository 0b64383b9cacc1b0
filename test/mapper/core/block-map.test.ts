import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockMap, END, LAYERED, MISSING } from '../../../src/mapper/core/block-map.ts';
import { LoadedPages } from '../../../src/mapper/core/loaded-pages.ts';
import { INDEX_LIMIT } from '../../../src/mapper/core/page.ts';
import type { EntryChange, PageRef } from '../../../src/mapper/core/types.ts';
import { absent, codeOf, generation, layered, layeredEntry, NaiveMap, PageStore, plain, truncate } from './support.ts';

describe('a map', () => {
  it('is empty at first and after everything in it was dropped', () => {
    const store = new PageStore();
    const map = new BlockMap(null);
    expect(map.generationOf(0)).toBe(0);
    expect(map.nextAllocated(0)).toBe(END);
    expect(map.hasDirty).toBe(false);
    store.apply(map, absent(5), truncate(0), truncate(77));
    expect(map.hasDirty).toBe(false);
    expect(store.fold(map)).toEqual({ pages: [], root: null, nextSequence: 1 });
    store.apply(map, plain(3, 9), absent(3));
    const fold = store.fold(map);
    expect(fold.root).toBeNull();
    expect(fold.pages).toEqual([]);
    expect(map.bytes).toBe(0);
  });

  it('holds plain and layered entries, before and after a fold, and loaded again', () => {
    const store = new PageStore();
    const map = new BlockMap(null);
    store.apply(
      map,
      plain(0, 4),
      layered(1, 5, 4, 0xffff_ffff, 0x8000_0000),
      plain(1023, 2 ** 53 - 1),
      layered(1024, 6, 0),
      plain(INDEX_LIMIT - 1, 7),
    );
    const check = (at: BlockMap) => {
      expect(store.get(at, 0)).toBe(4);
      expect(store.get(at, 1)).toEqual(layeredEntry(5, 4, 0xffff_ffff, 0x8000_0000));
      expect(at.generationOf(1)).toBe(LAYERED);
      expect(store.get(at, 2)).toBe(0);
      expect(store.get(at, 1023)).toBe(2 ** 53 - 1);
      expect(store.get(at, 1024)).toEqual(layeredEntry(6, 0));
      expect(store.get(at, INDEX_LIMIT - 1)).toBe(7);
      expect(at.blocks).toBe(5);
    };
    check(map);
    const fold = store.fold(map);
    check(map);
    expect(map.hasDirty).toBe(false);
    check(new BlockMap(fold.root));
  });

  it('says which pages are missing, from the root down, and reads no more than a path', () => {
    const store = new PageStore();
    const first = new BlockMap(null);
    for (let index = 0; index < 300; index++) store.apply(first, plain(index * 1024, index + 1));
    const { root } = store.fold(first);
    const map = new BlockMap(root);
    const levels: (number | null)[] = [];
    while (map.generationOf(200 * 1024) === MISSING) {
      const missing = map.missing(200 * 1024);
      levels.push(missing.level);
      store.load(map, missing);
    }
    expect(map.generationOf(200 * 1024)).toBe(201);
    expect(levels).toEqual([null, 1, 0]);
    expect(store.reads).toBe(3);
    expect(map.generationOf(200 * 1024 + 1)).toBe(0);
    expect(map.generationOf(2 ** 40)).toBe(0);
    expect(map.blocks).toBe(300);
  });

  it('changes nothing where a page is missing', () => {
    const store = new PageStore();
    const first = new BlockMap(null);
    store.apply(first, plain(0, 1), plain(5000, 1), plain(2 ** 30, 1));
    const { root } = store.fold(first);
    const map = new BlockMap(root);
    expect(map.apply(plain(0, 2))).toMatchObject({ level: null, ...root });
    expect(map.apply(truncate(100))).toMatchObject({ level: null });
    expect(map.hasDirty).toBe(false);
    expect(map.apply(truncate(0))).toBeNull();
    expect(map.blocks).toBe(0);
    expect(map.hasDirty).toBe(true);
    expect(store.fold(map).root).toBeNull();
  });

  it('grows a level at a time, and is lowered when it shrinks', () => {
    const store = new PageStore();
    const map = new BlockMap(null);
    const pagesOf = (...changes: EntryChange[]) => {
      store.apply(map, ...changes);
      return store.fold(map).pages.length;
    };
    expect(pagesOf(plain(0, 1))).toBe(1);
    expect(pagesOf(plain(1024, 1))).toBe(2);
    expect(pagesOf(plain(2 ** 18, 1))).toBe(3);
    expect(pagesOf(plain(2 ** 26, 1))).toBe(4);
    expect(pagesOf(plain(2 ** 34, 1))).toBe(5);
    expect(pagesOf(plain(2 ** 34, 2))).toBe(5);
    expect(pagesOf(plain(0, 2))).toBe(5);
    expect(map.blocks).toBe(5);
    expect(pagesOf(truncate(2000))).toBe(0);
    expect(pagesOf(plain(1, 1))).toBe(2);
    expect(pagesOf(truncate(1000))).toBe(0);
    expect(pagesOf(plain(1, 2))).toBe(1);
    expect(store.entries(new BlockMap(map.cleanRoot))).toEqual(
      new Map([
        [0, 2],
        [1, 2],
      ]),
    );
  });

  it('truncates without reading what it drops', () => {
    const store = new PageStore();
    const first = new BlockMap(null);
    for (let leaf = 0; leaf < 600; leaf++) store.apply(first, plain(leaf * 1024, 1), plain(leaf * 1024 + 7, 1));
    const { root } = store.fold(first);
    const map = new BlockMap(root);
    store.apply(map, truncate(300 * 1024 + 5));
    expect(store.reads).toBe(3);
    expect(map.blocks).toBe(601);
    expect(map.generationOf(300 * 1024)).toBe(1);
    expect(map.generationOf(300 * 1024 + 7)).toBe(0);
    expect(map.generationOf(599 * 1024)).toBe(0);
    store.apply(map, truncate(256 * 1024));
    expect(store.reads).toBe(3);
    expect(map.blocks).toBe(512);
    // The leaf that begins there goes unread; only the page above it is needed.
    store.apply(map, truncate(200 * 1024));
    expect(store.reads).toBe(4);
    expect(map.blocks).toBe(400);
  });

  it('forgets a leaf that was just read when it is dropped', () => {
    const store = new PageStore();
    const map = new BlockMap(null);
    for (const cut of [1024, 0]) {
      store.apply(map, plain(0, 1), plain(5000, 1));
      expect(map.generationOf(5000)).toBe(1);
      store.apply(map, truncate(cut));
      expect(map.generationOf(5000)).toBe(0);
    }
    store.apply(map, plain(0, 1));
    expect(map.generationOf(0)).toBe(1);
    store.apply(map, absent(0));
    store.fold(map);
    expect(map.generationOf(0)).toBe(0);
  });

  it('folds what changed, and nothing twice', () => {
    const store = new PageStore();
    const map = new BlockMap(null);
    for (let leaf = 0; leaf < 600; leaf++) store.apply(map, plain(leaf * 1024, 1));
    expect(store.fold(map).pages.length).toBe(600 + 3 + 1);
    expect(store.fold(map).pages.length).toBe(0);
    store.apply(map, plain(5 * 1024, 1));
    expect(map.hasDirty).toBe(false);
    store.apply(map, plain(5 * 1024, 2));
    expect(store.fold(map).pages.length).toBe(3);
    store.apply(map, plain(5 * 1024, 3), plain(6 * 1024, 3), plain(500 * 1024, 3));
    expect(store.fold(map).pages.length).toBe(6);
    store.apply(map, absent(5 * 1024));
    const fold = store.fold(map);
    expect(fold.pages.length).toBe(2);
    expect(fold.root?.blocks).toBe(599);
  });

  it('counts a change made while the pages of a fold are being written for the next one', () => {
    const store = new PageStore();
    const map = new BlockMap(null);
    store.apply(map, plain(0, 1), plain(5000, 1));
    const first = map.fold(generation(1), 1);
    store.apply(map, plain(1, 1));
    expect(map.hasDirty).toBe(true);
    const second = map.fold(generation(1), first.nextSequence);
    store.write(first);
    store.write(second);
    expect(map.evict(0)).toBeGreaterThan(0);
    map.written(second);
    map.written(first);
    expect(map.evict(0)).toBe(0);
    expect([...store.entries(new BlockMap(first.root)).keys()]).toEqual([0, 5000]);
    expect([...store.entries(map).keys()]).toEqual([0, 1, 5000]);
  });

  it('costs 16 bytes or less for a block written in order, and is small before it is used', () => {
    const store = new PageStore();
    const map = new BlockMap(null);
    for (let index = 0; index < 100_000; index++) map.apply(plain(index, 1 + (index >>> 10)));
    const { root } = store.fold(map);
    expect(store.bytesWritten / 100_000).toBeLessThan(8.5);
    const opened = new BlockMap(root);
    expect(opened.blocks).toBe(100_000);
    expect(opened.bytes).toBe(0);
  });
});

describe('the page cache', () => {
  it('lets go of what was used longest ago, never of changes, and shares its limit among maps', () => {
    const store = new PageStore();
    const cache = new LoadedPages();
    const map = new BlockMap(null, cache);
    for (let leaf = 0; leaf < 10; leaf++) store.apply(map, plain(leaf * 1024, 1));
    const before = map.evict(0);
    expect(before).toBe(map.bytes);
    const other = new BlockMap(store.fold(map).root, cache);
    expect(store.get(other, 0)).toBe(1);
    expect(cache.bytes).toBe(map.bytes + other.bytes);
    for (let leaf = 9; leaf >= 0; leaf--) map.generationOf(leaf * 1024);
    const ofLeaf = (map.bytes - other.bytes) / 9;
    cache.evict(cache.bytes - 6 * ofLeaf);
    // The leaf of the other map was used before these, and with it its root goes only when nothing older is left.
    expect([0, 1, 2, 3, 4].map((leaf) => map.generationOf(leaf * 1024))).toEqual([1, 1, 1, 1, 1]);
    expect(map.generationOf(9 * 1024)).toBe(MISSING);
    store.apply(map, plain(3 * 1024, 2));
    cache.evict(0);
    expect(other.bytes).toBe(0);
    expect(map.generationOf(3 * 1024)).toBe(2);
    expect(map.generationOf(4 * 1024)).toBe(MISSING);
    const last = map.fold(generation(1), 100);
    map.close();
    expect(cache.bytes).toBe(0);
    map.written(last);
    expect(cache.bytes).toBe(0);
  });

  it('keeps a page that only memory has, whatever goes from below it', () => {
    const store = new PageStore();
    const first = new BlockMap(null);
    for (let leaf = 0; leaf < 3; leaf++) store.apply(first, plain(leaf * 1024, 1));
    const map = new BlockMap(store.fold(first).root);
    store.apply(map, absent(0));
    const fold = map.fold(generation(1), store.nextSequence);
    expect(store.get(map, 1024)).toBe(1);
    expect(map.evict(0)).toBeGreaterThan(0);
    expect(map.generationOf(0)).toBe(0);
    expect(map.missing(1024).level).toBe(0);
    store.write(fold);
    map.written(fold);
    expect(map.evict(0)).toBe(0);
    expect(store.get(map, 2048)).toBe(1);
  });

  it('ignores a page that was asked for before it was replaced', () => {
    const store = new PageStore();
    const first = new BlockMap(null);
    for (let leaf = 0; leaf < 3; leaf++) store.apply(first, plain(leaf * 1024, 1));
    const map = new BlockMap(store.fold(first).root);
    store.load(map, map.missing(0));
    const old = map.missing(0);
    store.apply(map, plain(0, 2));
    store.fold(map);
    map.evict(0);
    expect(store.get(map, 1024)).toBe(1);
    store.load(map, old);
    expect(map.generationOf(0)).toBe(MISSING);
    expect(store.get(map, 0)).toBe(2);
  });

  it('forgets the memory of what a truncation drops', () => {
    const store = new PageStore();
    const map = new BlockMap(null);
    for (let leaf = 0; leaf < 300; leaf++) store.apply(map, plain(leaf * 1024, 1));
    store.fold(map);
    const one = new BlockMap(null);
    one.apply(plain(0, 1));
    store.apply(map, truncate(1));
    store.fold(map);
    expect(map.bytes).toBe(one.bytes);
    expect(map.evict(0)).toBe(0);
  });

  it('refuses a page that is damaged or in the wrong place, and ignores one that is not needed', () => {
    const store = new PageStore();
    const first = new BlockMap(null);
    store.apply(first, plain(0, 1), plain(1024, 2), plain(2048, 1));
    const { root } = store.fold(first);
    const map = new BlockMap(root);
    expect(map.generationOf(0)).toBe(MISSING);
    const rootMissing = map.missing(0);
    const bytes = store.read(rootMissing).slice();
    bytes[30] = 1 ^ (bytes[30] as number);
    expect(codeOf(() => map.install(rootMissing, bytes))).toBe('corrupt');
    expect(codeOf(() => map.install(rootMissing, new Uint8Array(0)))).toBe('corrupt');
    store.load(map, rootMissing);
    store.load(map, rootMissing);
    const leaf = map.missing(0);
    const other = map.missing(1024);
    expect(codeOf(() => map.install({ ...other, level: leaf.level, first: leaf.first }, store.read(other)))).toBe('corrupt');
    store.load(map, leaf);
    store.load(map, leaf);
    store.apply(map, truncate(1024));
    store.load(map, other);
    expect(map.generationOf(1024)).toBe(0);
    expect(map.generationOf(0)).toBe(1);
  });
});

/** Indexes that crowd around the borders of leaves and of levels. */
const indexes = fc.oneof(
  fc.nat(40),
  fc.nat(3000),
  fc
    .tuple(fc.constantFrom(1024, 2048, 2 ** 18, 2 ** 26, 2 ** 34, 2 ** 41), fc.integer({ min: -3, max: 3 }))
    .map(([border, offset]) => border + offset),
);
const changes: fc.Arbitrary<EntryChange> = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(indexes, fc.integer({ min: 1, max: 9 })).map(([index, value]) => plain(index, value)) },
  { weight: 3, arbitrary: fc.tuple(indexes, fc.nat(9), fc.nat(3)).map(([index, base, presence]) => layered(index, 9, base, presence)) },
  { weight: 3, arbitrary: indexes.map(absent) },
  { weight: 1, arbitrary: indexes.map(truncate) },
);
type Step = { do: 'change'; change: EntryChange } | { do: 'fold' | 'evict' | 'reload' | 'startFold' | 'endFold' } | { do: 'read'; index: number };
const steps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 12, arbitrary: changes.map((change): Step => ({ do: 'change', change })) },
  { weight: 4, arbitrary: indexes.map((index): Step => ({ do: 'read', index })) },
  { weight: 4, arbitrary: fc.constantFrom<Step>({ do: 'fold' }, { do: 'evict' }, { do: 'reload' }, { do: 'startFold' }, { do: 'endFold' }) },
);

describe('a map and its naive twin', () => {
  it('agree after any sequence of changes, folds, evictions and reloads; old roots never change', () => {
    fc.assert(
      fc.property(fc.array(steps, { maxLength: 120 }), (sequence) => {
        const store = new PageStore();
        const twin = new NaiveMap();
        const roots: { root: PageRef | null; entries: NaiveMap['entries'] }[] = [];
        const unwritten: ReturnType<BlockMap['fold']>[] = [];
        let map = new BlockMap(null);
        const settle = () => {
          for (const fold of unwritten.splice(0)) map.written(fold);
        };
        const startFold = () => {
          const fold = map.fold(generation(1), store.nextSequence);
          expect(map.hasDirty).toBe(false);
          store.write(fold);
          unwritten.push(fold);
          roots.push({ root: fold.root, entries: twin.sorted() });
        };
        for (const step of sequence) {
          if (step.do === 'change') {
            store.apply(map, step.change);
            twin.apply(step.change);
          } else if (step.do === 'read') expect(store.get(map, step.index)).toEqual(twin.entries.get(step.index) ?? 0);
          else if (step.do === 'evict') map.evict(0);
          else if (step.do === 'startFold') startFold();
          else if (step.do === 'endFold') settle();
          else {
            startFold();
            settle();
            if (step.do === 'reload') map = new BlockMap(roots.at(-1)?.root ?? null);
          }
          expect(map.blocks).toBe(twin.entries.size);
        }
        expect(store.entries(map)).toEqual(twin.sorted());
        for (const { root, entries } of roots) {
          const old = new BlockMap(root);
          expect(old.blocks).toBe(entries.size);
          expect(store.entries(old)).toEqual(entries);
        }
        startFold();
        settle();
        expect(map.evict(0)).toBe(0);
        expect(map.bytes).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  it('agree on leaves that fill up and empty', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(1023), fc.nat(5), fc.boolean()), { minLength: 200, maxLength: 1500 }), fc.nat(1023), (writes, cut) => {
        const store = new PageStore();
        const twin = new NaiveMap();
        const map = new BlockMap(null);
        for (const [index, value, deep] of writes) {
          const change = value === 0 ? absent(index) : deep ? layered(index, 1, 1, 7, value) : plain(index, value);
          store.apply(map, change);
          twin.apply(change);
        }
        expect(store.entries(map)).toEqual(twin.sorted());
        const { root } = store.fold(map);
        expect(store.entries(new BlockMap(root))).toEqual(twin.sorted());
        store.apply(map, truncate(cut));
        twin.apply(truncate(cut));
        expect(store.entries(map)).toEqual(twin.sorted());
        expect(map.blocks).toBe(twin.entries.size);
      }),
      { numRuns: 40 },
    );
  });
});
