/**
 * A volume's map in memory: immutable pages, loaded as they are needed, and over them what has changed since the last fold. All calls are
 * synchronous; where one needs a page that is not loaded it says so, the caller reads that page, installs it and asks again.
 */
import { assert, unreachable } from '../../base/index.ts';
import { ABSENT, END, LAYERED, MISSING, type MissingPage } from './answers.ts';
import { type Fold, foldTree } from './fold.ts';
import { LEAF_FANOUT, Leaf } from './leaf.ts';
import { CachedPage, LoadedPages, type PageHolder } from './loaded-pages.ts';
import { decodePage, expectPlace, expectRoot, INDEX_LIMIT, Inner, MAX_LEVEL, samePage, spanOf } from './page.ts';
import type { EntryChange, LayeredEntry, PageRef } from './types.ts';

export { ABSENT, END, LAYERED, MISSING, type MissingPage } from './answers.ts';

export class BlockMap implements PageHolder {
  private readonly cache: LoadedPages;
  /** The loaded root. When it is null `rootRef` leads to it, which counts only then; when that is null too the map is empty. */
  private root: CachedPage | null = null;
  private rootRef: PageRef | null;
  /** The root of the last fold, which is what the store has. */
  private foldedRoot: PageRef | null;
  /** Folds whose pages are not known to be in the store. */
  private readonly unwritten = new Map<Fold, CachedPage[]>();
  /** The leaf that was found last: neighbours are likely. */
  private lastLeaf: CachedPage | null = null;
  /** The page that the last walk missed. */
  private wanted: MissingPage | null = null;
  private ownBytes = 0;

  /** Maps that are given the same cache share its limit. */
  constructor(root: PageRef | null, cache: LoadedPages = new LoadedPages()) {
    this.cache = cache;
    this.rootRef = root;
    this.foldedRoot = root;
  }

  /** Entries that are not absent. */
  get blocks(): number {
    return this.root?.blocks ?? this.rootRef?.blocks ?? 0;
  }

  /** Memory in use by this map's pages. */
  get bytes(): number {
    return this.ownBytes;
  }

  /** Whether a fold would write anything. */
  get hasDirty(): boolean {
    if (this.root !== null) return this.root.dirty;
    return !samePage(this.rootRef, this.foldedRoot);
  }

  /** The root that describes the map as it is now, when there is nothing to fold. */
  get cleanRoot(): PageRef | null {
    assert(!this.hasDirty, 'a map with changes has no root');
    return this.root?.ref ?? this.rootRef;
  }

  /** A plain entry's generation, `ABSENT`, `LAYERED`, or `MISSING` (then see `missing`). */
  generationOf(index: number): number {
    const last = this.lastLeaf;
    if (last !== null && index >= last.first && index < last.first + LEAF_FANOUT) {
      this.cache.touch(last);
      return (last.leaf as Leaf).get(index - last.first);
    }
    const page = this.find(index);
    if (page === null) return this.wanted === null ? ABSENT : MISSING;
    return (page.leaf as Leaf).get(index - page.first);
  }

  /** The rest of an entry for which `generationOf` has just answered `LAYERED`. */
  layered(index: number): LayeredEntry {
    const page = this.find(index);
    assert(page !== null, `block ${index} is not loaded`);
    return (page.leaf as Leaf).layered(index - page.first);
  }

  /** The page to load next when `generationOf(index)` has just answered `MISSING`. */
  missing(index: number): MissingPage {
    const page = this.find(index);
    assert(page === null && this.wanted !== null, `no page is missing for block ${index}`);
    return this.wanted;
  }

  /** The index of the first entry at or after `index` that is not absent; `END`, or `MISSING` (then see `nextMissing`). */
  nextAllocated(index: number): number {
    return this.nextEntry(index, false);
  }

  /** As `nextAllocated`, for layered entries only. */
  nextLayered(index: number): number {
    return this.nextEntry(index, true);
  }

  private nextEntry(index: number, layered: boolean): number {
    this.wanted = null;
    if (this.root === null) return this.rootRef === null ? END : this.miss(this.rootRef, null, 0);
    return index >= spanOf(this.root.level) ? END : this.seek(this.root, index, layered);
  }

  /** The page to load next when `nextAllocated(index)`, or `nextLayered(index)`, has just answered `MISSING`. */
  nextMissing(index: number, layered = false): MissingPage {
    const answer = this.nextEntry(index, layered);
    assert(answer === MISSING && this.wanted !== null, `no page is missing after block ${index}`);
    return this.wanted;
  }

  /** Adds a page that was missing. One that the map no longer needs, or has already, is ignored. Throws `corrupt` for wrong bytes. */
  install(missing: MissingPage, bytes: Uint8Array): void {
    const decoded = decodePage(missing, bytes);
    if (missing.level === null) expectRoot(missing, decoded);
    else expectPlace(missing, decoded, missing.level, missing.first);
    if (missing.level === null) {
      if (this.root === null && samePage(this.rootRef, missing)) this.root = this.adopt(decoded, this.rootRef, null);
      return;
    }
    let parent = this.root;
    while (parent !== null && parent.level > decoded.level + 1) parent = this.childAt(parent, decoded.first);
    if (parent === null || parent.level !== decoded.level + 1 || decoded.first >= parent.first + spanOf(parent.level)) return;
    const inner = parent.inner as Inner;
    const slot = inner.slotOf(decoded.first);
    const ref = inner.children[slot] as PageRef | null;
    if (ref === null || !samePage(ref, missing) || parent.loaded[slot] !== null) return;
    this.adopt(decoded, ref, parent);
  }

  /** Makes a change, on loaded pages; else changes nothing and returns the page to load before it is tried again. */
  apply(change: EntryChange): MissingPage | null {
    switch (change.kind) {
      case 'absent':
        return this.set(change.index, ABSENT, null);
      case 'plain':
        assert(change.generation > 0, 'a plain entry has a generation');
        return this.set(change.index, change.generation, null);
      case 'layered':
        assert(change.generation > 0, 'a layered entry has a generation');
        return this.set(change.index, LAYERED, change);
      case 'truncate':
        return this.truncate(change.index);
      default:
        return unreachable(change, 'map change');
    }
  }

  /**
   * Turns everything that is dirty into new pages, named (generation, firstSequence and up), and goes on from them as the clean state.
   * The caller writes the pages, in any order, and then whatever refers to the root, and reports with `written` that the pages can be
   * read. Until then they stay in memory. On failure it writes the same pages again.
   */
  fold(generation: PageRef['generation'], firstSequence: number): Fold {
    const before = this.root;
    const tree = foldTree(before, this.rootRef, generation, firstSequence, (page) => this.drop(page));
    this.root = tree.root;
    this.rootRef = tree.fold.root;
    this.foldedRoot = tree.fold.root;
    for (const page of tree.written) {
      page.pins++;
      this.ownBytes += this.cache.recount(page);
    }
    this.unwritten.set(tree.fold, tree.written);
    return tree.fold;
  }

  /** Notes that all pages of a fold can be read from the store, so that memory may let them go. */
  written(fold: Fold): void {
    const pages = this.unwritten.get(fold);
    assert(pages !== undefined, 'a fold of this map is written once');
    this.unwritten.delete(fold);
    for (const page of pages) {
      page.pins--;
      // One that was dropped in between has no memory counted any more and must not be listed again.
      if (page.countedBytes > 0) this.cache.update(page);
    }
  }

  /** Lets go of the least recently used pages of all maps that share the cache, until they take at most `targetBytes`. Returns what they take. */
  evict(targetBytes: number): number {
    return this.cache.evict(targetBytes);
  }

  /** Lets go of all pages, dirty ones included. The map cannot be used afterwards. */
  close(): void {
    if (this.root !== null) this.drop(this.root);
    this.root = null;
    this.rootRef = null;
    this.foldedRoot = null;
  }

  /** For the cache: forgets a clean page without loaded children. */
  forget(page: CachedPage): void {
    assert(!page.dirty && page.pins === 0 && page.loadedCount === 0, 'only a clean page is forgotten');
    const parent = page.parent;
    if (parent === null) {
      assert(this.root === page, 'a page without a parent is the root');
      this.rootRef = page.ref;
      this.root = null;
    } else {
      const slot = (parent.inner as Inner).slotOf(page.first);
      assert(samePage((parent.inner as Inner).children[slot] ?? null, page.ref), 'a parent can find the page again');
      parent.loaded[slot] = null;
      parent.loadedCount--;
    }
    this.drop(page);
    if (parent !== null) this.cache.update(parent);
  }

  /** The loaded leaf that has `index`. Null when there is none, and then `wanted` is set if one has to be loaded. */
  private find(index: number): CachedPage | null {
    assert(index >= 0 && index < INDEX_LIMIT, `block index out of range: ${index}`);
    this.wanted = null;
    let page = this.root;
    if (page === null) {
      if (this.rootRef !== null) this.miss(this.rootRef, null, 0);
      return null;
    }
    if (index >= spanOf(page.level)) return null;
    while (page.inner !== null) {
      const slot = page.inner.slotOf(index);
      const child: CachedPage | null = page.loaded[slot] as CachedPage | null;
      if (child === null) {
        const ref = page.inner.children[slot] as PageRef | null;
        if (ref !== null) this.miss(ref, page.level - 1, page.inner.firstOf(slot));
        return null;
      }
      page = child;
    }
    this.lastLeaf = page;
    this.cache.touch(page);
    return page;
  }

  private seek(page: CachedPage, index: number, layered: boolean): number {
    if (page.leaf !== null) {
      const from = Math.max(index - page.first, 0);
      const slot = layered ? page.leaf.nextLayered(from) : page.leaf.next(from);
      this.cache.touch(page);
      return slot === LEAF_FANOUT ? END : page.first + slot;
    }
    const inner = page.inner as Inner;
    for (let slot = Math.max(inner.slotOf(index), 0); slot < inner.children.length; slot++) {
      const child = page.loaded[slot] as CachedPage | null;
      if (child === null) {
        const ref = inner.children[slot] as PageRef | null;
        if (ref !== null) return this.miss(ref, page.level - 1, inner.firstOf(slot));
        continue;
      }
      const found = child.blocks === 0 ? END : this.seek(child, index, layered);
      if (found !== END) return found;
    }
    return END;
  }

  private miss(ref: PageRef, level: number | null, first: number): typeof MISSING {
    this.wanted = { generation: ref.generation, sequence: ref.sequence, checksum: ref.checksum, blocks: ref.blocks, level, first };
    return MISSING;
  }

  private set(index: number, value: number, layered: LayeredEntry | null): MissingPage | null {
    let page = this.find(index);
    if (page === null) {
      if (this.wanted !== null) return this.wanted;
      if (value === ABSENT) return null;
      page = this.makeLeaf(index);
    }
    const leaf = page.leaf as Leaf;
    const before = leaf.count;
    const changed = layered === null ? leaf.set(index - page.first, value) : leaf.setLayered(index - page.first, layered);
    if (changed) this.noteChange(page, leaf.count - before);
    return null;
  }

  /** Makes the leaf for `index` and what is missing above it. Nothing on the way waits to be loaded. */
  private makeLeaf(index: number): CachedPage {
    let level = this.root?.level ?? 0;
    while (index >= spanOf(level)) level++;
    assert(level <= MAX_LEVEL, 'an index below the limit has a level');
    let page = this.root;
    while (page === null || page.level < level) {
      const above = this.adopt(page === null ? newPage(level, 0) : new Inner(page.level + 1, 0), null, null);
      if (page !== null) {
        (above.inner as Inner).children[0] = page.ref;
        above.blocks = page.blocks;
        this.attach(above, page);
      }
      this.root = above;
      page = above;
    }
    while (page.inner !== null) {
      const slot: number = page.inner.slotOf(index);
      assert(page.loaded[slot] !== null || page.inner.children[slot] === null, 'a leaf is made where nothing is stored');
      page = page.loaded[slot] ?? this.adopt(newPage(page.level - 1, page.inner.firstOf(slot)), null, page);
    }
    return page;
  }

  /** Takes a page into the map: loaded under its `ref`, or new. */
  private adopt(decoded: Leaf | Inner, ref: PageRef | null, parent: CachedPage | null): CachedPage {
    const page = new CachedPage(this, decoded);
    page.ref = ref;
    page.blocks = ref?.blocks ?? 0;
    this.ownBytes += this.cache.recount(page);
    if (parent !== null) this.attach(parent, page);
    this.cache.update(page);
    return page;
  }

  private attach(parent: CachedPage, page: CachedPage): void {
    const slot = (parent.inner as Inner).slotOf(page.first);
    assert(parent.loaded[slot] === null, 'a page is loaded once');
    page.parent = parent;
    parent.loaded[slot] = page;
    parent.loadedCount++;
    this.cache.update(parent);
  }

  /** Counts a change in `page` and makes it and all above it dirty. */
  private noteChange(page: CachedPage, growth: number): void {
    this.ownBytes += this.cache.recount(page);
    for (let at: CachedPage | null = page; at !== null; at = at.parent) {
      // A leaf's count is its own; `blocks` of the pages above follow it.
      at.blocks += growth;
      assert(at.blocks >= 0, 'a page has no less than no entries');
      if (at.dirty) continue;
      at.ref = null;
      this.cache.update(at);
      if (at.parent !== null) (at.parent.inner as Inner).children[(at.parent.inner as Inner).slotOf(at.first)] = null;
    }
  }

  private truncate(index: number): MissingPage | null {
    assert(index >= 0 && index <= INDEX_LIMIT, `block index out of range: ${index}`);
    if (index === 0) {
      if (this.root !== null) this.drop(this.root);
      this.root = null;
      this.rootRef = null;
      return null;
    }
    this.wanted = null;
    if (this.root === null) {
      if (this.rootRef !== null) this.miss(this.rootRef, null, 0);
      return this.wanted;
    }
    if (index >= spanOf(this.root.level)) return null;
    // The pages that `index` cuts in two have to be loaded; those behind it go unread.
    let page = this.root;
    while (page.inner !== null && index > page.first) {
      const slot: number = page.inner.slotOf(index);
      const first = page.inner.firstOf(slot);
      if (index === first) break;
      const child: CachedPage | null = page.loaded[slot] as CachedPage | null;
      const ref = page.inner.children[slot] as PageRef | null;
      if (child === null && ref !== null) {
        this.miss(ref, page.level - 1, first);
        return this.wanted;
      }
      if (child === null) break;
      page = child;
    }
    this.cutFrom(this.root, index);
    return null;
  }

  /** Makes all entries of `page` from `index` on absent, where `index` is within the page and not at its start. */
  private cutFrom(page: CachedPage, index: number): void {
    if (page.leaf !== null) {
      const before = page.leaf.count;
      page.leaf.truncate(index - page.first);
      if (page.leaf.count !== before) this.noteChange(page, page.leaf.count - before);
      return;
    }
    const inner = page.inner as Inner;
    let slot = inner.slotOf(index);
    if (index > inner.firstOf(slot)) {
      const child = page.loaded[slot] as CachedPage | null;
      if (child !== null) this.cutFrom(child, index);
      slot++;
    }
    let lost = 0;
    let changed = false;
    for (; slot < inner.children.length; slot++) {
      const child = page.loaded[slot] as CachedPage | null;
      const ref = inner.children[slot] as PageRef | null;
      if (child === null && ref === null) continue;
      lost += child?.blocks ?? ref?.blocks ?? 0;
      changed = true;
      inner.children[slot] = null;
      page.loaded[slot] = null;
      if (child === null) continue;
      page.loadedCount--;
      this.drop(child);
    }
    if (changed) this.noteChange(page, -lost);
  }

  private childAt(page: CachedPage, index: number): CachedPage | null {
    if (index >= page.first + spanOf(page.level)) return null;
    return page.loaded[(page.inner as Inner).slotOf(index)] ?? null;
  }

  /** Ends the accounting of a page that is no longer in the tree, and of all that is loaded below it. */
  private drop(page: CachedPage): void {
    for (const child of page.loaded) if (child !== null) this.drop(child);
    if (this.lastLeaf === page) this.lastLeaf = null;
    this.ownBytes -= page.countedBytes;
    this.cache.remove(page);
  }
}

function newPage(level: number, first: number): Leaf | Inner {
  return level === 0 ? new Leaf(first) : new Inner(level, first);
}
