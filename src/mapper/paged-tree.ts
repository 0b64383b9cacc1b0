/** A map tree whose pages are read from the store on demand; a missing page is loaded once however many ask. */
import type { BlockStore } from '../blocker/index.ts';
import { BlockMap, MISSING, type MissingPage } from './core/block-map.ts';
import { LEAF_FANOUT } from './core/leaf.ts';
import { samePage } from './core/page.ts';
import type { EntryChange, LayeredEntry, PageRef } from './core/types.ts';
import type { PageCache } from './page-cache.ts';

/** A volume of 2 TiB with blocks of 4 MiB; some megabytes. */
const MOST_PRELOADED = 512;
/** Pages read at a time for that, so that others' I/O is not held up. */
const PRELOADS = 2;

/** A tree that was loaded for this very root is as good as what the store has, since no page changes; another one is let go. */
export function warmTree(
  { blockStore, cache, warm }: { blockStore: BlockStore; cache: PageCache; warm?: PagedTree | null },
  root: PageRef | null,
): PagedTree {
  if (warm?.isOf(root)) return warm;
  warm?.close();
  return new PagedTree(blockStore, root, cache);
}

export class PagedTree {
  readonly tree: BlockMap;
  private readonly store: BlockStore;
  private readonly cache: PageCache;
  private readonly root: PageRef | null;
  private readonly loads = new Map<string, Promise<void>>();

  /** `cache` is shared by all trees of the process. */
  constructor(store: BlockStore, root: PageRef | null, cache: PageCache) {
    this.store = store;
    this.cache = cache;
    this.root = root;
    this.tree = new BlockMap(root, cache.loaded);
  }

  /** True when this tree began at that root. */
  isOf(root: PageRef | null): boolean {
    return samePage(this.root, root);
  }

  /** Lets go of all pages. What is still being read is thrown away. */
  close(): void {
    this.tree.close();
  }

  /** Loads what leads to the first blocks, `blocks` of them or as many as `MOST_PRELOADED` pages cover. Ends early where a page cannot be read. */
  async preload(blocks: number): Promise<void> {
    const leaves = Math.min(Math.ceil(blocks / LEAF_FANOUT), MOST_PRELOADED);
    let next = 0;
    const work = async (): Promise<void> => {
      while (next < leaves) await this.load(next++ * LEAF_FANOUT);
    };
    await Promise.all(Array.from({ length: PRELOADS }, work));
  }

  /** Entries that are not absent. */
  get blocks(): number {
    return this.tree.blocks;
  }

  /** The generation of a block's object; 0 for none, `LAYERED`, or `MISSING`: then `load` first. */
  generationOf(index: number): number {
    return this.tree.generationOf(index);
  }

  layered(index: number): LayeredEntry {
    return this.tree.layered(index);
  }

  /** Loads the pages on the way to `index`. Fails with `corrupt` or `not-found` where a page is damaged or gone. */
  async load(index: number): Promise<void> {
    while (this.tree.generationOf(index) === MISSING) await this.loadPage(this.tree.missing(index));
  }

  /** The next entry at or after `index` that is not absent, or `END`. */
  async nextAllocated(index: number): Promise<number> {
    for (;;) {
      const next = this.tree.nextAllocated(index);
      if (next !== MISSING) return next;
      await this.loadPage(this.tree.nextMissing(index));
    }
  }

  /** The next layered entry at or after `index`, `END`, or `MISSING`: then `loadNextLayered` first. */
  nextLayered(index: number): number {
    return this.tree.nextLayered(index);
  }

  /** Loads one page on the way to the next layered entry. */
  async loadNextLayered(index: number): Promise<void> {
    if (this.tree.nextLayered(index) === MISSING) await this.loadPage(this.tree.nextMissing(index, true));
  }

  /** Applies a change, loading what it needs. */
  async apply(change: EntryChange): Promise<void> {
    for (let missing = this.tree.apply(change); missing !== null; missing = this.tree.apply(change)) await this.loadPage(missing);
  }

  private loadPage(ref: MissingPage): Promise<void> {
    const key = `${ref.generation}/${ref.sequence}`;
    const under = this.loads.get(key);
    if (under !== undefined) return under;
    const load = this.cache
      .read(this.store, ref)
      .then((bytes) => {
        this.tree.install(ref, bytes);
        this.cache.shrink();
      })
      .finally(() => this.loads.delete(key));
    this.loads.set(key, load);
    return load;
  }
}
