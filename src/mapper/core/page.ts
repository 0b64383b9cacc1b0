/**
 * Codec of map pages. The map is a radix tree: a leaf page (level 0) covers 1024 blocks, an inner page of level n has up to 256 children
 * of level n - 1. The root is a page of any level, so that the tree is only as high as its largest index asks for; it grows by putting a
 * new root above the old one. Inner pages have fewer children than leaves have entries because a child takes 30 bytes and each fold
 * rewrites the whole path: a full inner page is then no larger than a full leaf.
 *
 * A page, version 1, all integers big-endian:
 *
 *      0  4  magic 'ArPg'
 *      4  2  version
 *      6  1  level
 *      7  1  form: 0 all slots in order (leaves only), 1 pairs in ascending order of slots
 *      8  8  index of the first block that the page covers
 *     16  2  count of entries that are not absent
 *     18  2  rows of the table of layered entries (leaves only)
 *     20  4  zero
 *     24     body
 *
 * Body of a leaf: form 0 has 1024 values of 8 bytes, form 1 has `count` times slot (2) and value (8); a leaf takes the smaller form, so
 * a block costs at most 10 bytes and a share of the header. Then come the rows, 24 bytes each: generation (8), base (8, zero means that
 * what is not present reads as zeros), presence (4 high, 4 low); in the order of their slots.
 *
 * A value has its kind in the two highest bits: 0 plain (the rest is the generation; all zero is absent), 1 layered (the rest is the
 * row), 2 is reserved for hashed entries, 3 for what comes after.
 *
 * Body of an inner page: `count` times slot (2), generation (8), sequence (8), checksum (4), blocks (8). Children below which nothing is
 * allocated do not exist.
 *
 * The checksum of a page is not in it but in the reference that leads to it: a parent vouches for its children, the volume's header or
 * the registry for the root. So a page that was written well but to another's name does not pass either.
 */
import { ArchipelagoError, assert, crc32, type Generation, viewOf, writeCounter } from '../../base/index.ts';
import { LAYERED, LEAF_FANOUT, Leaf } from './leaf.ts';
import type { PageRef } from './types.ts';

const PAGE_VERSION = 1;
export const INNER_FANOUT = 256;
/** Level 4 reaches 2^42 blocks: 2^64 bytes in blocks of 4 MiB, 256 PiB in blocks of 64 KiB. */
export const MAX_LEVEL = 4;
/** Blocks covered by a page of each level. */
const SPANS = [LEAF_FANOUT, 2 ** 18, 2 ** 26, 2 ** 34, 2 ** 42] as const;
/** Indexes are below this. */
export const INDEX_LIMIT = 2 ** 42;

const MAGIC = 0x41725067;
const HEADER_BYTES = 24;
const VALUE_BYTES = 8;
const PAIR_BYTES = 10;
const ROW_BYTES = 24;
const CHILD_BYTES = 30;
const FORM_ALL = 0;
const FORM_PAIRS = 1;
const KIND_PLAIN = 0;
const KIND_LAYERED = 1;
const TWO_TO_32 = 0x1_0000_0000;

assert(SPANS.length === MAX_LEVEL + 1 && SPANS[MAX_LEVEL] === INDEX_LIMIT, 'the highest level reaches the largest index');
assert(SPANS[1] === LEAF_FANOUT * INNER_FANOUT && SPANS[2] === SPANS[1] * INNER_FANOUT, 'a level covers its children');

/** Blocks covered by a page of `level`. */
export function spanOf(level: number): number {
  const span = SPANS[level];
  assert(span !== undefined, `no page has level ${level}`);
  return span;
}

/** An inner page: which pages are below it. */
export class Inner {
  readonly level: number;
  readonly first: number;
  /** Blocks that one child covers. */
  readonly childSpan: number;
  readonly children: (PageRef | null)[];

  constructor(level: number, first: number) {
    assert(level > 0 && first % spanOf(level) === 0, `no inner page of level ${level} starts at ${first}`);
    this.level = level;
    this.first = first;
    this.childSpan = spanOf(level - 1);
    this.children = new Array<PageRef | null>(INNER_FANOUT).fill(null);
  }

  slotOf(index: number): number {
    return Math.floor((index - this.first) / this.childSpan);
  }

  firstOf(slot: number): number {
    return this.first + slot * this.childSpan;
  }
}

export type Page = Leaf | Inner;

/** Two references to the same page; what is in it never changes, so they lead to the same entries. */
export function samePage(a: PageRef | null, b: PageRef | null): boolean {
  if (a === null || b === null) return a === b;
  return a.generation === b.generation && a.sequence === b.sequence;
}

/** A page's name for people. */
function pageName(ref: PageRef): string {
  return `map page ${ref.generation.toString(16)}.${ref.sequence.toString(16)}`;
}

export function encodeLeaf(leaf: Leaf): Uint8Array {
  const rows = leaf.layeredCount;
  const all = leaf.count * PAIR_BYTES >= LEAF_FANOUT * VALUE_BYTES;
  const tableAt = HEADER_BYTES + (all ? LEAF_FANOUT * VALUE_BYTES : leaf.count * PAIR_BYTES);
  const bytes = new Uint8Array(tableAt + rows * ROW_BYTES);
  const view = viewOf(bytes);
  writeHeader(view, 0, all ? FORM_ALL : FORM_PAIRS, leaf.first, leaf.count, rows);
  let row = 0;
  let written = 0;
  for (let slot = leaf.next(0); slot < LEAF_FANOUT; slot = leaf.next(slot + 1)) {
    let at = HEADER_BYTES + slot * VALUE_BYTES;
    if (!all) {
      view.setUint16(HEADER_BYTES + written * PAIR_BYTES, slot);
      at = HEADER_BYTES + written * PAIR_BYTES + 2;
    }
    written++;
    const value = leaf.get(slot);
    if (value !== LAYERED) {
      writeCounter(view, at, value);
      continue;
    }
    view.setUint32(at, (KIND_LAYERED << 30) >>> 0);
    view.setUint32(at + 4, row);
    writeRow(view, tableAt + row * ROW_BYTES, leaf, slot);
    row++;
  }
  assert(written === leaf.count && row === rows, 'a leaf counts its entries rightly');
  return bytes;
}

/** `inner.children` has the references of all children, none of which is empty. */
export function encodeInner(inner: Inner): Uint8Array {
  let count = 0;
  for (const child of inner.children) if (child !== null) count++;
  const bytes = new Uint8Array(HEADER_BYTES + count * CHILD_BYTES);
  const view = viewOf(bytes);
  writeHeader(view, inner.level, FORM_PAIRS, inner.first, count, 0);
  let at = HEADER_BYTES;
  for (let slot = 0; slot < INNER_FANOUT; slot++) {
    const child = inner.children[slot] as PageRef | null;
    if (child === null) continue;
    assert(child.blocks > 0, 'a child page is not empty');
    view.setUint16(at, slot);
    writeCounter(view, at + 2, child.generation);
    writeCounter(view, at + 10, child.sequence);
    view.setUint32(at + 18, child.checksum);
    writeCounter(view, at + 22, child.blocks);
    at += CHILD_BYTES;
  }
  return bytes;
}

/** Verifies `bytes` against the reference that led to them, and decodes them. Where the page belongs is verified by `expectPlace`. */
export function decodePage(ref: PageRef, bytes: Uint8Array): Page {
  if (bytes.byteLength < HEADER_BYTES) throw damaged(ref, `is ${bytes.byteLength} bytes long, less than its header`);
  if (crc32(bytes) !== ref.checksum) throw damaged(ref, 'fails its checksum');
  const view = viewOf(bytes);
  if (view.getUint32(0) !== MAGIC) throw damaged(ref, 'is not a map page');
  const version = view.getUint16(4);
  if (version > PAGE_VERSION) throw newer(ref, `has version ${version}`);
  if (version === 0) throw damaged(ref, 'has version 0');
  const level = view.getUint8(6);
  if (level > MAX_LEVEL) throw damaged(ref, `has level ${level}`);
  const first = counterAt(ref, view, 8);
  if (first % spanOf(level) !== 0 || first >= INDEX_LIMIT) throw damaged(ref, `starts at block ${first}`);
  return level === 0 ? decodeLeaf(ref, view, first) : decodeInner(ref, view, level, first);
}

/** Throws unless the page is the one that its parent's slot is for. */
export function expectPlace(ref: PageRef, page: Page, level: number, first: number): void {
  if (page.level === level && page.first === first) return;
  throw damaged(ref, `has level ${page.level} and first block ${page.first}, where its parent has level ${level} and ${first}`);
}

/** Throws unless the page can be a root. */
export function expectRoot(ref: PageRef, page: Page): void {
  if (page.first !== 0) throw damaged(ref, `is a root that starts at block ${page.first}`);
}

function decodeLeaf(ref: PageRef, view: DataView, first: number): Leaf {
  const form = view.getUint8(7);
  const count = view.getUint16(16);
  const rows = view.getUint16(18);
  if (form > FORM_PAIRS) throw newer(ref, `has form ${form}`);
  if (count === 0 || count > LEAF_FANOUT || rows > count) throw damaged(ref, `has ${count} entries and ${rows} rows`);
  const tableAt = HEADER_BYTES + (form === FORM_ALL ? LEAF_FANOUT * VALUE_BYTES : count * PAIR_BYTES);
  if (view.byteLength !== tableAt + rows * ROW_BYTES) throw damaged(ref, `is ${view.byteLength} bytes long`);
  if (count !== ref.blocks) throw damaged(ref, `has ${count} entries, where its parent has ${ref.blocks}`);
  const leaf = new Leaf(first, count);
  const steps = form === FORM_ALL ? LEAF_FANOUT : count;
  let row = 0;
  let last = -1;
  for (let step = 0; step < steps; step++) {
    const slot = form === FORM_ALL ? step : view.getUint16(HEADER_BYTES + step * PAIR_BYTES);
    const at = form === FORM_ALL ? HEADER_BYTES + step * VALUE_BYTES : HEADER_BYTES + step * PAIR_BYTES + 2;
    if (slot <= last || slot >= LEAF_FANOUT) throw damaged(ref, `has slot ${slot} after ${last}`);
    last = slot;
    const kind = view.getUint32(at) >>> 30;
    if (kind === KIND_PLAIN) {
      const generation = counterAt(ref, view, at);
      if (generation !== 0) leaf.set(slot, generation);
    } else if (kind === KIND_LAYERED) {
      if (view.getUint32(at) !== KIND_LAYERED << 30 || view.getUint32(at + 4) !== row || row >= rows)
        throw damaged(ref, `has a wrong row in slot ${slot}`);
      readRow(ref, view, tableAt + row * ROW_BYTES, leaf, slot);
      row++;
    } else throw newer(ref, `has an entry of kind ${kind} in slot ${slot}`);
  }
  if (leaf.count !== count || row !== rows) throw damaged(ref, `has ${leaf.count} entries and ${row} rows, not as many as it says`);
  return leaf;
}

function decodeInner(ref: PageRef, view: DataView, level: number, first: number): Inner {
  const count = view.getUint16(16);
  if (view.getUint8(7) !== FORM_PAIRS || view.getUint16(18) !== 0) throw newer(ref, 'has an unknown form');
  if (count === 0 || count > INNER_FANOUT) throw damaged(ref, `has ${count} children`);
  if (view.byteLength !== HEADER_BYTES + count * CHILD_BYTES) throw damaged(ref, `is ${view.byteLength} bytes long`);
  const inner = new Inner(level, first);
  let last = -1;
  let blocks = 0;
  for (let at = HEADER_BYTES; at < view.byteLength; at += CHILD_BYTES) {
    const slot = view.getUint16(at);
    if (slot <= last || slot >= INNER_FANOUT) throw damaged(ref, `has child ${slot} after ${last}`);
    last = slot;
    const child: PageRef = {
      generation: counterAt(ref, view, at + 2) as Generation,
      sequence: counterAt(ref, view, at + 10),
      checksum: view.getUint32(at + 18),
      blocks: counterAt(ref, view, at + 22),
    };
    if (child.blocks === 0 || child.blocks > inner.childSpan) throw damaged(ref, `has a child with ${child.blocks} blocks`);
    blocks += child.blocks;
    inner.children[slot] = child;
  }
  if (blocks !== ref.blocks) throw damaged(ref, `has ${blocks} blocks below it, where its parent has ${ref.blocks}`);
  return inner;
}

function writeHeader(view: DataView, level: number, form: number, first: number, count: number, rows: number): void {
  view.setUint32(0, MAGIC);
  view.setUint16(4, PAGE_VERSION);
  view.setUint8(6, level);
  view.setUint8(7, form);
  writeCounter(view, 8, first);
  view.setUint16(16, count);
  view.setUint16(18, rows);
}

function writeRow(view: DataView, at: number, leaf: Leaf, slot: number): void {
  const entry = leaf.layered(slot);
  writeCounter(view, at, entry.generation);
  writeCounter(view, at + 8, entry.base);
  view.setUint32(at + 16, entry.presenceHigh);
  view.setUint32(at + 20, entry.presenceLow);
}

function readRow(ref: PageRef, view: DataView, at: number, leaf: Leaf, slot: number): void {
  const generation = counterAt(ref, view, at) as Generation;
  if (generation === 0) throw damaged(ref, `has a layered entry without an object in slot ${slot}`);
  const base = counterAt(ref, view, at + 8) as Generation;
  leaf.setLayered(slot, { generation, base, presenceHigh: view.getUint32(at + 16), presenceLow: view.getUint32(at + 20) });
}

/** Reads a counter of checked bytes; one that is too large was written by nobody. */
function counterAt(ref: PageRef, view: DataView, at: number): number {
  const value = view.getUint32(at) * TWO_TO_32 + view.getUint32(at + 4);
  if (!Number.isSafeInteger(value)) throw damaged(ref, `has an impossible number at byte ${at}`);
  return value;
}

function damaged(ref: PageRef, what: string): ArchipelagoError {
  return new ArchipelagoError('corrupt', `${pageName(ref)} ${what}`, { hint: 'restore the page, or the volume from a snapshot' });
}

function newer(ref: PageRef, what: string): ArchipelagoError {
  return new ArchipelagoError('unsupported-version', `${pageName(ref)} ${what}; this program knows ${PAGE_VERSION}`, { hint: 'update this node' });
}
