/**
 * Changes of a block that change its map entry: the first write to an empty block, writes to what a snapshot shares, and zeros over a whole
 * block. The block is exclusive meanwhile. The order is always: data into the store, record into the journal, then the answer; so the death
 * of this process loses no write that was answered, and one that was not answered leaves an object that no map mentions.
 */
import { ArchipelagoError, assert, concatBytes, isZero } from '../base/index.ts';
import { type BlockObject, storeCall, type WritableBlockObject } from '../blocker/index.ts';
import { type LayeredEntry, type MapChange, type OpenMap, SUB_BLOCKS } from '../mapper/index.ts';
import type { Block } from './block.ts';
import { hasSubBlock, isComplete, NO_SUB_BLOCKS, type Presence, readComposed, withSubBlocks } from './layers.ts';

/** What to do to a range of one block, in bytes from the block's start. */
export interface BlockChange {
  readonly start: number;
  readonly length: number;
  /** Null: zeros. */
  readonly data: Uint8Array | null;
}

/** What a change needs of the volume. */
export interface ChangingVolume {
  readonly owned: { readonly map: OpenMap } | null;
  readonly blockSizeBytes: number;
  /** True when zeros over the range leave nothing else in the block. */
  emptiesBlock(block: Block, start: number, length: number): boolean;
}

const NO_DATA = new Uint8Array(0);

export async function changeEntry(volume: ChangingVolume, block: Block, change: BlockChange): Promise<void> {
  assert(volume.owned !== null && block.exclusive, 'an entry is changed by its owner, with the block to itself');
  const { map } = volume.owned;
  if (map.failed) throw map.failed;
  if (block.object === null) {
    if (change.data !== null && !isZero(change.data)) await firstWrite(map, block, change.start, change.data, volume.blockSizeBytes);
  } else if (change.data === null && volume.emptiesBlock(block, change.start, change.length)) {
    await dropBlock(map, block, volume.blockSizeBytes);
  } else if (block.layered !== null && block.writable === null) {
    await copyWhole(map, block, change, volume.blockSizeBytes);
  } else {
    await addLayer(map, block, change, volume.blockSizeBytes);
  }
}

/** Makes an object of the block's name in the present naming generation, with its first data. */
async function createObject(map: OpenMap, index: number, start: number, data: Uint8Array, blockSizeBytes: number): Promise<WritableBlockObject> {
  const object = map.store.object(map.naming, index);
  try {
    await createOrReuse(object, start, data, blockSizeBytes);
  } catch (error) {
    object.release();
    throw error;
  }
  return object;
}

async function createOrReuse(object: WritableBlockObject, start: number, data: Uint8Array, blockSizeBytes: number): Promise<void> {
  try {
    await storeCall((waiter) => object.create(start, data, waiter));
  } catch (error) {
    if (!(error instanceof ArchipelagoError) || error.code !== 'exists') throw error;
    // A first write that failed half-way, or a block dropped since: the name is this owner's alone, and nothing refers to what it holds.
    await storeCall((waiter) => object.zero(0, blockSizeBytes, waiter));
    await storeCall((waiter) => object.write(start, data, waiter));
  }
}

export function setPlain(block: Block, object: WritableBlockObject | null): void {
  if (block.object !== object) block.object?.release();
  block.base?.release();
  block.base = null;
  block.layered = null;
  block.zeroed = null;
  block.merge = null;
  block.object = object;
  block.writable = object;
}

async function recordOrRelease(map: OpenMap, change: MapChange, created: BlockObject): Promise<void> {
  try {
    await map.recordChange(change);
  } catch (error) {
    created.release();
    throw error;
  }
}

async function firstWrite(map: OpenMap, block: Block, start: number, data: Uint8Array, blockSizeBytes: number): Promise<void> {
  const object = await createObject(map, block.index, start, data, blockSizeBytes);
  await recordOrRelease(map, { kind: 'plain', index: block.index, generation: object.generation }, object);
  setPlain(block, object);
}

/** Zeros over the whole block: the entry goes. An object of our own is emptied at once, which is a change in place and gives the room back. */
async function dropBlock(map: OpenMap, block: Block, blockSizeBytes: number): Promise<void> {
  const { writable } = block;
  if (writable !== null) {
    await storeCall((waiter) => writable.zero(0, blockSizeBytes, waiter));
    // The own object reads as zeros now; a layered entry would still show its base.
  }
  await map.recordChange({ kind: 'absent', index: block.index });
  setPlain(block, null);
}

/** A layered block that is shared again is copied whole, so that depth never exceeds one. Sub-blocks of zeros are left out. */
async function copyWhole(map: OpenMap, block: Block, change: BlockChange, blockSizeBytes: number): Promise<void> {
  const { object, base, layered } = block;
  assert(object !== null && base !== null && layered !== null, 'a layered block has both objects');
  const bytes = new Uint8Array(blockSizeBytes);
  await readComposed(object, base, layered, 0, bytes, blockSizeBytes);
  if (change.data) bytes.set(change.data, change.start);
  else bytes.fill(0, change.start, change.start + change.length);
  const [first, ...others] = dataRuns(bytes, blockSizeBytes / SUB_BLOCKS);
  if (first === undefined) {
    await map.recordChange({ kind: 'absent', index: block.index });
    setPlain(block, null);
    return;
  }
  const created = await createObject(map, block.index, first.start, first.data, blockSizeBytes);
  try {
    for (const { start, data } of others) await storeCall((waiter) => created.write(start, data, waiter));
    await map.recordChange({ kind: 'plain', index: block.index, generation: created.generation });
  } catch (error) {
    created.release();
    throw error;
  }
  setPlain(block, created);
}

/** The runs of pieces that are not all zeros. */
export function dataRuns(bytes: Uint8Array, pieceBytes: number): { start: number; data: Uint8Array }[] {
  const runs: { start: number; data: Uint8Array }[] = [];
  let start = -1;
  for (let at = 0; at < bytes.byteLength; at += pieceBytes) {
    const zero = isZero(bytes.subarray(at, at + pieceBytes));
    if (!zero && start < 0) start = at;
    if (zero && start >= 0) {
      runs.push({ start, data: bytes.subarray(start, at) });
      start = -1;
    }
  }
  if (start >= 0) runs.push({ start, data: bytes.subarray(start) });
  return runs;
}

/** Makes whole sub-blocks the block's own, in its own object, made where there is none yet, and adds them to the presence bitmap. */
async function addLayer(map: OpenMap, block: Block, change: BlockChange, blockSizeBytes: number): Promise<void> {
  const present = block.layered ?? NO_SUB_BLOCKS;
  const base = block.layered ? block.base : block.object;
  assert(base !== null, 'a shared block has an object to read from');
  const subBlockBytes = blockSizeBytes / SUB_BLOCKS;
  const end = change.start + change.length;
  const first = Math.floor(change.start / subBlockBytes);
  const last = Math.floor((end - 1) / subBlockBytes);
  // The edges of sub-blocks that are not our own yet come from the base.
  const head = await readEdge(base, hasSubBlock(present, first) ? change.start : first * subBlockBytes, change.start);
  const tail = await readEdge(base, end, hasSubBlock(present, last) ? end : (last + 1) * subBlockBytes);
  const own = await putWithEdges(map, block, change, head, tail, blockSizeBytes);
  await recordLayer(map, block, own, base, withSubBlocks(present, first, last)).catch((error: unknown) => {
    if (own !== block.writable) own.release();
    throw error;
  });
}

async function readEdge(base: BlockObject, from: number, to: number): Promise<Uint8Array> {
  if (from === to) return NO_DATA;
  const bytes = new Uint8Array(to - from);
  await storeCall((waiter) => base.read(from, bytes, waiter));
  return bytes;
}

/** Data is written in one piece with its edges. Zeros are a hole between them; what lies there of a change that failed goes. */
async function putWithEdges(
  map: OpenMap,
  block: Block,
  { start, length, data }: BlockChange,
  head: Uint8Array,
  tail: Uint8Array,
  blockSizeBytes: number,
): Promise<WritableBlockObject> {
  const { writable } = block;
  const from = start - head.byteLength;
  if (data !== null) {
    const bytes = head.byteLength + tail.byteLength === 0 ? data : concatBytes([head, data, tail]);
    if (writable === null) return createObject(map, block.index, from, bytes, blockSizeBytes);
    await storeCall((waiter) => writable.write(from, bytes, waiter));
    return writable;
  }
  const own = writable ?? (await createObject(map, block.index, from, head, blockSizeBytes));
  try {
    if (writable !== null) await storeCall((waiter) => own.zero(start, length, waiter));
    if (writable !== null && head.byteLength > 0) await storeCall((waiter) => own.write(from, head, waiter));
    if (tail.byteLength > 0) await storeCall((waiter) => own.write(start + length, tail, waiter));
  } catch (error) {
    if (writable === null) own.release();
    throw error;
  }
  return own;
}

async function recordLayer(map: OpenMap, block: Block, own: WritableBlockObject, base: BlockObject, presence: Presence): Promise<void> {
  if (isComplete(presence)) {
    await map.recordChange({ kind: 'plain', index: block.index, generation: own.generation });
    if (base === block.object) block.base = base;
    block.object = own;
    setPlain(block, own);
    return;
  }
  const entry: LayeredEntry = { generation: own.generation, base: base.generation, ...presence };
  await map.recordChange({ kind: 'layered', index: block.index, ...entry });
  block.layered = entry;
  block.base = base;
  block.object = own;
  block.writable = own;
}
