/** Arithmetic of sub-blocks, and reading of layered blocks: an own object that holds some sub-blocks over a base that holds the rest. */
import { assert } from '../base/index.ts';
import { type BlockObject, storeCall } from '../blocker/index.ts';
import { type LayeredEntry, SUB_BLOCKS } from '../mapper/index.ts';

/** A set of the sub-blocks of one block. */
export type Presence = Pick<LayeredEntry, 'presenceLow' | 'presenceHigh'>;

export const NO_SUB_BLOCKS: Presence = { presenceLow: 0, presenceHigh: 0 };

export function hasSubBlock(presence: Presence, subBlock: number): boolean {
  const word = subBlock < 32 ? presence.presenceLow : presence.presenceHigh;
  return ((word >>> (subBlock & 31)) & 1) === 1;
}

/** True when the own object holds the whole range. */
export function isPresent(presence: Presence, start: number, length: number, blockSizeBytes: number): boolean {
  const subBlockBytes = blockSizeBytes / SUB_BLOCKS;
  const last = Math.floor((start + length - 1) / subBlockBytes);
  for (let subBlock = Math.floor(start / subBlockBytes); subBlock <= last; subBlock++) {
    if (!hasSubBlock(presence, subBlock)) return false;
  }
  return true;
}

/** The presence with sub-blocks `first` to `last` added. */
export function withSubBlocks(presence: Presence, first: number, last: number): Presence {
  let { presenceLow, presenceHigh } = presence;
  for (let subBlock = first; subBlock <= last; subBlock++) {
    if (subBlock < 32) presenceLow |= 1 << subBlock;
    else presenceHigh |= 1 << (subBlock - 32);
  }
  return { presenceLow: presenceLow >>> 0, presenceHigh: presenceHigh >>> 0 };
}

/** The set without sub-blocks `first` to `last`. */
function withoutSubBlocks(presence: Presence, first: number, last: number): Presence {
  const { presenceLow, presenceHigh } = withSubBlocks(NO_SUB_BLOCKS, first, last);
  return { presenceLow: (presence.presenceLow & ~presenceLow) >>> 0, presenceHigh: (presence.presenceHigh & ~presenceHigh) >>> 0 };
}

export function isComplete(presence: Presence): boolean {
  return presence.presenceLow === 0xffff_ffff && presence.presenceHigh === 0xffff_ffff;
}

/**
 * A plain block's zeroed sub-blocks with those that zeros from `start` on cover whole. Null: none are known. `end` is the end of the block, or
 * of the volume within it.
 */
export function withZeroed(zeroed: Presence | null, start: number, length: number, subBlockBytes: number, end: number): Presence {
  const stop = start + length;
  const subBlocks = Math.ceil(end / subBlockBytes);
  // What is behind the end of the volume was never written.
  const known = zeroed ?? withSubBlocks(NO_SUB_BLOCKS, subBlocks, SUB_BLOCKS - 1);
  return withSubBlocks(known, Math.ceil(start / subBlockBytes), (stop >= end ? subBlocks : Math.floor(stop / subBlockBytes)) - 1);
}

/** The zeroed sub-blocks without those that a write touches. */
export function withoutWritten(zeroed: Presence, start: number, length: number, subBlockBytes: number): Presence {
  return withoutSubBlocks(zeroed, Math.floor(start / subBlockBytes), Math.floor((start + length - 1) / subBlockBytes));
}

/** Fills `into` with the block's bytes from `start` on, each run of sub-blocks from the object that holds it. */
export async function readComposed(
  own: BlockObject,
  base: BlockObject,
  presence: Presence,
  start: number,
  into: Uint8Array,
  blockSizeBytes: number,
): Promise<void> {
  const subBlockBytes = blockSizeBytes / SUB_BLOCKS;
  const end = start + into.byteLength;
  assert(end <= blockSizeBytes, 'a read stays within its block');
  const reads: Promise<void>[] = [];
  for (let at = start; at < end; ) {
    const present = hasSubBlock(presence, Math.floor(at / subBlockBytes));
    let to = at;
    while (to < end && hasSubBlock(presence, Math.floor(to / subBlockBytes)) === present) to = (Math.floor(to / subBlockBytes) + 1) * subBlockBytes;
    to = Math.min(to, end);
    const [from, piece] = [at, into.subarray(at - start, to - start)];
    reads.push(storeCall((waiter) => (present ? own : base).read(from, piece, waiter)));
    at = to;
  }
  await Promise.all(reads);
}
