/** Pages of maps in memory: what clones share is read once, within its bytes, and damage does not stay. */
import { describe, expect, it } from 'vitest';
import { crc32, type Generation } from '../../src/base/index.ts';
import { BlockMap } from '../../src/mapper/core/block-map.ts';
import { END, PageCache, PagedTree, type PageRef } from '../../src/mapper/index.ts';

const GENERATION = 1 as Generation;
const LEAVES = 20;

/** A store of pages that answers when it is told to, or in the next turn, and counts. */
class CountingStore {
  readonly pages = new Map<number, Uint8Array>();
  readonly reads: number[] = [];
  held: (() => void)[] | null = null;

  async readPage(_: Generation, sequence: number): Promise<Uint8Array> {
    this.reads.push(sequence);
    if (this.held) await new Promise<void>((resolve) => this.held?.push(resolve));
    return (this.pages.get(sequence) as Uint8Array).slice();
  }
}

/** The map of an image: a root, and leaves with a block each. */
function makeImage(): { store: CountingStore; root: PageRef } {
  const store = new CountingStore();
  const map = new BlockMap(null);
  for (let leaf = 0; leaf < LEAVES; leaf++) map.apply({ kind: 'plain', index: leaf * 1024, generation: GENERATION });
  const fold = map.fold(GENERATION, 1);
  for (const { sequence, bytes } of fold.pages) store.pages.set(sequence, bytes);
  return { store, root: fold.root as PageRef };
}

const open = (store: CountingStore, root: PageRef, cache: PageCache) => new PagedTree(store as never, root, cache);

async function readAll(tree: PagedTree): Promise<number> {
  let blocks = 0;
  for (let at = await tree.nextAllocated(0); at !== END; at = await tree.nextAllocated(at + 1)) blocks++;
  return blocks;
}

function page(number: number, byteLength: number) {
  const bytes = new Uint8Array(byteLength).fill(number);
  return { bytes, ref: { generation: GENERATION, sequence: number, checksum: crc32(bytes), blocks: 1 } };
}

describe('the cache of pages', () => {
  it('lets 32 clones of one image read each page of its map once, be they opened together or later', async () => {
    const { store, root } = makeImage();
    const cache = new PageCache();
    const clones = Array.from({ length: 32 }, () => open(store, root, cache));
    expect(await Promise.all(clones.map(readAll))).toEqual(Array(32).fill(LEAVES));
    expect(store.reads.length).toBe(LEAVES + 1);
    expect(new Set(store.reads).size).toBe(LEAVES + 1);
    for (const clone of clones) clone.close();
    expect(await readAll(open(store, root, cache))).toBe(LEAVES);
    expect(store.reads.length).toBe(LEAVES + 1);
  });

  it('makes one read of misses that meet', async () => {
    const { store, root } = makeImage();
    store.held = [];
    const cache = new PageCache();
    const reads = Array.from({ length: 32 }, () => cache.read(store, root));
    expect(store.reads).toEqual([root.sequence]);
    for (const answer of store.held) answer();
    for (const bytes of await Promise.all(reads)) expect(bytes).toEqual(store.pages.get(root.sequence));
  });

  it('has changes of one clone in no other', async () => {
    const { store, root } = makeImage();
    const cache = new PageCache();
    const [mine, other] = [open(store, root, cache), open(store, root, cache)];
    for (let leaf = 0; leaf < LEAVES; leaf++) await mine.apply({ kind: 'absent', index: leaf * 1024 });
    expect(await readAll(mine)).toBe(0);
    expect(await readAll(other)).toBe(LEAVES);
    expect(await readAll(open(store, root, cache))).toBe(LEAVES);
  });

  it('stays within its bytes and drops what was used longest ago', async () => {
    const store = new CountingStore();
    const cache = new PageCache(1000);
    const [first, second, third, large] = [page(1, 400), page(2, 400), page(3, 300), page(4, 1001)];
    for (const { ref, bytes } of [first, second, third, large]) store.pages.set(ref.sequence, bytes);
    for (const { ref } of [first, second, first, third]) await cache.read(store, ref);
    expect(cache.bytes).toBe(700);
    await cache.read(store, first.ref);
    expect(store.reads).toEqual([1, 2, 3]);
    await cache.read(store, second.ref);
    expect(store.reads).toEqual([1, 2, 3, 2]);
    expect(cache.bytes).toBe(800);
    await cache.read(store, large.ref);
    expect(cache.bytes).toBe(0);
  });

  it('asks the store again for a page that was damaged or could not be read', async () => {
    const { store, root } = makeImage();
    const cache = new PageCache();
    const whole = store.pages.get(root.sequence) as Uint8Array;
    store.pages.set(root.sequence, whole.with(30, (whole[30] as number) ^ 1));
    const tree = open(store, root, cache);
    await expect(tree.load(0)).rejects.toMatchObject({ code: 'corrupt' });
    store.pages.delete(root.sequence);
    await expect(tree.load(0)).rejects.toThrow();
    store.pages.set(root.sequence, whole);
    await tree.load(0);
    expect(tree.generationOf(0)).toBe(GENERATION);
  });
});
