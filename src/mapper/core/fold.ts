/** Turns the changed part of a map's tree into new immutable pages, bottom up. The cost follows what is dirty, not the size of the map. */
import { assert, crc32, type Generation } from '../../base/index.ts';
import type { CachedPage } from './loaded-pages.ts';
import { encodeInner, encodeLeaf, type Inner } from './page.ts';
import type { PageRef } from './types.ts';

export interface FoldedPage {
  readonly generation: Generation;
  readonly sequence: number;
  readonly bytes: Uint8Array;
}

/** What one fold has to write. */
export interface Fold {
  /** Children before their parents. */
  readonly pages: readonly FoldedPage[];
  /** The map's root from here on; null when the map is empty. */
  readonly root: PageRef | null;
  /** The sequence number for the next fold under the same generation. */
  readonly nextSequence: number;
}

interface FoldedTree {
  readonly fold: Fold;
  /** The loaded root, null when there is none. */
  readonly root: CachedPage | null;
  /** The pages in memory that `fold.pages` are copies of. */
  readonly written: CachedPage[];
}

interface Folding {
  readonly generation: Generation;
  nextSequence: number;
  readonly pages: FoldedPage[];
  readonly written: CachedPage[];
  /** Ends the accounting of a page and of all below it. */
  readonly drop: (page: CachedPage) => void;
}

/** `root` is the loaded root; when it is null, `rootRef` is the root, unloaded. */
export function foldTree(
  root: CachedPage | null,
  rootRef: PageRef | null,
  generation: Generation,
  firstSequence: number,
  drop: (page: CachedPage) => void,
): FoldedTree {
  const folding: Folding = { generation, nextSequence: firstSequence, pages: [], written: [], drop };
  let top = root;
  let topRef = root === null ? rootRef : root.ref;
  if (top?.dirty) {
    const lowered = lowerRoot(top, drop);
    top = lowered.root;
    topRef = lowered.ref;
    if (top?.dirty) topRef = foldPage(top, folding);
    if (topRef === null) top = null;
  }
  const fold = { pages: folding.pages, root: topRef, nextSequence: folding.nextSequence };
  return { fold, root: top, written: folding.written };
}

/** Takes off roots that have nothing but a first child, as a shrunk volume leaves them: each is a page more on every path. */
function lowerRoot(root: CachedPage, drop: (page: CachedPage) => void): { root: CachedPage | null; ref: PageRef | null } {
  let top = root;
  while (top.inner !== null && top.blocks > 0 && onlyFirstChild(top)) {
    const child: CachedPage | null = top.loaded[0] ?? null;
    const ref = top.inner.children[0] ?? null;
    top.loaded[0] = null;
    top.loadedCount = 0;
    drop(top);
    if (child === null) return { root: null, ref };
    child.parent = null;
    top = child;
  }
  return { root: top, ref: top.ref };
}

function onlyFirstChild(page: CachedPage): boolean {
  const inner = page.inner as Inner;
  for (let slot = 1; slot < inner.children.length; slot++) {
    if (inner.children[slot] !== null || (page.loaded[slot]?.blocks ?? 0) > 0) return false;
  }
  return true;
}

/** Makes a dirty page and all that is dirty below it clean. Returns its new name, or null when nothing is left in it. */
function foldPage(page: CachedPage, folding: Folding): PageRef | null {
  assert(page.dirty, 'only dirty pages are folded');
  if (page.blocks === 0) {
    folding.drop(page);
    return null;
  }
  const bytes = page.leaf !== null ? encodeLeaf(page.leaf) : encodeInner(foldChildren(page, folding));
  const ref: PageRef = { generation: folding.generation, sequence: folding.nextSequence, checksum: crc32(bytes), blocks: page.blocks };
  folding.nextSequence++;
  folding.pages.push({ generation: ref.generation, sequence: ref.sequence, bytes });
  folding.written.push(page);
  page.ref = ref;
  return ref;
}

function foldChildren(page: CachedPage, folding: Folding): Inner {
  const inner = page.inner as Inner;
  let blocks = 0;
  for (let slot = 0; slot < inner.children.length; slot++) {
    const child = page.loaded[slot] as CachedPage | null;
    if (child?.dirty) {
      const ref = foldPage(child, folding);
      inner.children[slot] = ref;
      if (ref === null) {
        page.loaded[slot] = null;
        page.loadedCount--;
      }
    }
    blocks += inner.children[slot]?.blocks ?? 0;
  }
  assert(blocks === page.blocks, `a page counts the entries below it rightly: ${page.blocks}, not ${blocks}`);
  return inner;
}
