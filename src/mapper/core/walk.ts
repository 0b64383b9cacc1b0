/**
 * Visits all that a set of roots leads to, each page once, however many roots share it: for collection, which must not remove what is
 * reached, and for verification. It only says what to read; pages may be read several at a time and handed in in any order.
 */
import { assert, type Generation } from '../../base/index.ts';
import type { MissingPage } from './answers.ts';
import { LAYERED, LEAF_FANOUT, Leaf } from './leaf.ts';
import { NameSet } from './name-set.ts';
import { decodePage, expectPlace, expectRoot } from './page.ts';
import type { PageRef } from './types.ts';

export interface WalkVisitor {
  /** A page that is reached; called once for each, before it is read. */
  page(ref: PageRef): void;
  /** A block object that is reached, once for each page that mentions it. The base of a layered entry is one too. */
  object(generation: Generation, index: number): void;
}

export class PageWalk {
  private readonly visitor: WalkVisitor;
  private readonly seen: NameSet;
  /** Pages to read; the last one first, so that the list stays as short as the trees are high times their fan-out. */
  private readonly waiting: MissingPage[] = [];
  private underWay = 0;

  /** `seen` remembers which pages were reached; what it forgets is visited again with the next root that leads there. */
  constructor(visitor: WalkVisitor, seen = new NameSet(Number.POSITIVE_INFINITY)) {
    this.visitor = visitor;
    this.seen = seen;
  }

  /** Adds a root; at any time, and again if need be. */
  add(root: PageRef | null): void {
    if (root !== null) this.reach(root, null, 0);
  }

  /** The next page to read, to be answered by `supply` or `skip`. Null when there is none now. */
  next(): MissingPage | null {
    const page = this.waiting.pop();
    if (page === undefined) return null;
    this.underWay++;
    return page;
  }

  /** True when everything was visited. */
  get done(): boolean {
    return this.waiting.length === 0 && this.underWay === 0;
  }

  /** Visits what is in a page. Throws `corrupt` for wrong bytes; the page then counts as skipped. */
  supply(page: MissingPage, bytes: Uint8Array): void {
    this.skip();
    const decoded = decodePage(page, bytes);
    if (page.level === null) expectRoot(page, decoded);
    else expectPlace(page, decoded, page.level, page.first);
    if (decoded instanceof Leaf) {
      this.visitLeaf(decoded);
      return;
    }
    for (const [slot, child] of decoded.children.entries()) if (child !== null) this.reach(child, decoded.level - 1, decoded.firstOf(slot));
  }

  /** Goes on without a page that could not be read. */
  skip(): void {
    assert(this.underWay > 0, 'a page is supplied once');
    this.underWay--;
  }

  /** Whether a page was reached. */
  has(generation: Generation, sequence: number): boolean {
    return this.seen.has(generation, sequence);
  }

  private reach(ref: PageRef, level: number | null, first: number): void {
    if (!this.seen.add(ref.generation, ref.sequence)) return;
    this.visitor.page(ref);
    this.waiting.push({ ...ref, level, first });
  }

  private visitLeaf(leaf: Leaf): void {
    for (let slot = leaf.next(0); slot < LEAF_FANOUT; slot = leaf.next(slot + 1)) {
      const value = leaf.get(slot);
      if (value !== LAYERED) {
        this.visitor.object(value as Generation, leaf.first + slot);
        continue;
      }
      const { generation, base } = leaf.layered(slot);
      this.visitor.object(generation, leaf.first + slot);
      if (base !== 0) this.visitor.object(base, leaf.first + slot);
    }
  }
}
