/**
 * Changes of a block that change its map entry: the first write to an empty block, writes to what a snapshot shares, and zeros over a whole
 * block. The block is exclusive meanwhile. The order is always: data into the store, record into the journal, then the answer; so the death
 * of this process loses no write that was answered, and one that was not answered leaves an object that no map mentions.
 */
import { ArchipelagoError, assert } from '../base/index.ts';
import { type BlockObject, storeCall, type WritableBlockObject } from '../blocker/index.ts';
import { type LayeredEntry, type MapChange, type OpenMap, SUB_BLOCKS } from '../mapper/index.ts';
import type { Block } from './block.ts';
import { hasSubBlock, isComplete, readComposed, withSubBlocks } from './layers.ts';

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
  coversBlock(index: number, start: number, length: number): boolean;
}

const ZEROS = new Uint8Array(1 << 20);

/** True when all bytes are zero. Costs next to nothing where the first is not. */
function isZero(data: Uint8Array): boolean {
  for (let at = 0; at < data.byteLength; at += ZEROS.byteLength) {
    const piece = data.subarray(at, at + ZEROS.byteLength);
    if (Buffer.compare(piece, ZEROS.subarray(0, piece.byteLength)) !== 0) return false;
  }
  return true;
}

export async function changeEntry(volume: ChangingVolume, block: Block, change: BlockChange): Promise<void> {
  assert(volume.owned !== null && block.exclusive, 'an entry is changed by its owner, with the block to itself');
  const { map } = volume.owned;
  if (map.failed) throw map.failed;
  if (block.object === null) {
    if (change.data !== null && !isZero(change.data)) await firstWrite(map, block, change.start, change.data, volume.blockSizeBytes);
  } else if (change.data === null && volume.coversBlock(block.index, change.start, change.length)) {
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

function setPlain(block: Block, object: WritableBlockObject | null): void {
  if (block.object !== object) block.object?.release();
  block.base?.release();
  block.base = null;
  block.layered = null;
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

/** A layered block that is shared again is copied whole, so that depth never exceeds one. */
async function copyWhole(map: OpenMap, block: Block, change: BlockChange, blockSizeBytes: number): Promise<void> {
  const { object, base, layered } = block;
  assert(object !== null && base !== null && layered !== null, 'a layered block has both objects');
  const bytes = new Uint8Array(blockSizeBytes);
  await readComposed(object, base, layered, 0, bytes, blockSizeBytes);
  if (change.data) bytes.set(change.data, change.start);
  else bytes.fill(0, change.start, change.start + change.length);
  const created = await createObject(map, block.index, 0, bytes, blockSizeBytes);
  await recordOrRelease(map, { kind: 'plain', index: block.index, generation: created.generation }, created);
  setPlain(block, created);
}

/** Writes whole sub-blocks to the block's own object, made where there is none yet, and adds them to the presence bitmap. */
async function addLayer(map: OpenMap, block: Block, change: BlockChange, blockSizeBytes: number): Promise<void> {
  const present = block.layered ?? { presenceLow: 0, presenceHigh: 0 };
  const base = block.layered ? block.base : block.object;
  assert(base !== null, 'a shared block has an object to read from');
  const subBlockBytes = blockSizeBytes / SUB_BLOCKS;
  const end = change.start + change.length;
  const first = Math.floor(change.start / subBlockBytes);
  const last = Math.floor((end - 1) / subBlockBytes);
  // The edges of sub-blocks that are not our own yet come from the base.
  const from = hasSubBlock(present, first) ? change.start : first * subBlockBytes;
  const to = hasSubBlock(present, last) ? end : (last + 1) * subBlockBytes;
  let bytes = change.data ?? new Uint8Array(change.length);
  if (from < change.start || to > end) {
    bytes = new Uint8Array(to - from);
    const head = bytes.subarray(0, change.start - from);
    const tail = bytes.subarray(end - from);
    if (head.byteLength > 0) await storeCall((waiter) => base.read(from, head, waiter));
    if (tail.byteLength > 0) await storeCall((waiter) => base.read(end, tail, waiter));
    if (change.data) bytes.set(change.data, change.start - from);
  }
  const presence = withSubBlocks(present, first, last);
  if (block.writable !== null) {
    const { writable } = block;
    await storeCall((waiter) => writable.write(from, bytes, waiter));
    await recordLayer(map, block, writable, base, presence);
  } else {
    const created = await createObject(map, block.index, from, bytes, blockSizeBytes);
    await recordLayer(map, block, created, base, presence).catch((error: unknown) => {
      created.release();
      throw error;
    });
  }
}

async function recordLayer(
  map: OpenMap,
  block: Block,
  own: WritableBlockObject,
  base: BlockObject,
  presence: Pick<LayeredEntry, 'presenceLow' | 'presenceHigh'>,
): Promise<void> {
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
