/**
 * Pages of maps in memory, decoded. All maps of a process share them, so that one number bounds them together. In the list, least recently used
 * first, is only what can go at any time: pages that are clean, durable and without loaded children. A dirty page has dirty ancestors, so
 * nothing above a dirty page is in the list either.
 */
import { assert } from '../../base/index.ts';
import type { Leaf } from './leaf.ts';
import { INNER_FANOUT, type Inner } from './page.ts';
import type { PageRef } from './types.ts';

/** Estimated memory of an inner page: two arrays of its fan-out, and its references. */
const INNER_BYTES = 4608;
const CHILD_REF_BYTES = 72;

/** Whoever holds a page, and has to forget it. */
export interface PageHolder {
  forget(page: CachedPage): void;
}

/** A page in memory and its place in the tree. */
export class CachedPage {
  readonly holder: PageHolder;
  /** Exactly one of `leaf` and `inner` is there. */
  readonly leaf: Leaf | null;
  readonly inner: Inner | null;
  readonly first: number;
  readonly level: number;
  parent: CachedPage | null = null;
  /** What the page is called in the store; null while it has changes that no page has. */
  ref: PageRef | null = null;
  /** Entries below that are not absent, now. */
  blocks = 0;
  /** Loaded children by slot, for an inner page. One that is dirty has no reference in `inner.children`. */
  readonly loaded: (CachedPage | null)[];
  loadedCount = 0;
  /** Folds whose copy of this page is not yet known to be in the store: until then only memory has it. */
  pins = 0;
  /** What `LoadedPages` has counted for this page. */
  countedBytes = 0;
  listed = false;
  older: CachedPage | null = null;
  newer: CachedPage | null = null;

  constructor(holder: PageHolder, page: Leaf | Inner) {
    this.holder = holder;
    this.leaf = page.level === 0 ? (page as Leaf) : null;
    this.inner = page.level === 0 ? null : (page as Inner);
    this.first = page.first;
    this.level = page.level;
    this.loaded = this.inner === null ? [] : new Array<CachedPage | null>(INNER_FANOUT).fill(null);
  }

  get dirty(): boolean {
    return this.ref === null;
  }

  /** Memory in use, estimated. */
  measure(): number {
    if (this.leaf !== null) return this.leaf.bytes;
    let references = 0;
    for (const child of (this.inner as Inner).children) if (child !== null) references++;
    return INNER_BYTES + references * CHILD_REF_BYTES;
  }
}

export class LoadedPages {
  private total = 0;
  private oldest: CachedPage | null = null;
  private newest: CachedPage | null = null;

  /** Memory in use by all pages, dirty ones included. */
  get bytes(): number {
    return this.total;
  }

  /** Counts a page's memory, after it was loaded or changed. Returns by how much it grew. */
  recount(page: CachedPage): number {
    const bytes = page.measure();
    const growth = bytes - page.countedBytes;
    page.countedBytes = bytes;
    this.total += growth;
    return growth;
  }

  /** Lists the page as used just now if it can go, else takes it off the list. */
  update(page: CachedPage): void {
    this.unlink(page);
    if (page.dirty || page.pins > 0 || page.loadedCount > 0) return;
    page.listed = true;
    page.older = this.newest;
    if (this.newest === null) this.oldest = page;
    else this.newest.newer = page;
    this.newest = page;
  }

  /** Notes that a page was used. */
  touch(page: CachedPage): void {
    if (page.listed && page !== this.newest) this.update(page);
  }

  /** Ends the counting of a page that its holder has dropped. */
  remove(page: CachedPage): void {
    this.unlink(page);
    this.total -= page.countedBytes;
    page.countedBytes = 0;
    assert(this.total >= 0, 'cached pages do not take less than nothing');
  }

  /** Drops the least recently used pages until all take at most `targetBytes`, or nothing more can go. Returns what they take then. */
  evict(targetBytes: number): number {
    while (this.total > targetBytes && this.oldest !== null) {
      const page = this.oldest;
      page.holder.forget(page);
      assert(!page.listed, 'a page that was forgotten is off the list');
    }
    return this.total;
  }

  private unlink(page: CachedPage): void {
    if (!page.listed) return;
    if (page.older === null) this.oldest = page.newer;
    else page.older.newer = page.newer;
    if (page.newer === null) this.newest = page.older;
    else page.newer.older = page.older;
    page.listed = false;
    page.older = null;
    page.newer = null;
  }
}
