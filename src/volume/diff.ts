/** What has to be done to one snapshot to make it what another one, or a volume, is: told from the maps alone, no data is read. */
import { ArchipelagoError } from '../base/index.ts';
import type { BlockStore } from '../blocker/index.ts';
import { type DiffStep, diffMaps, type PageRef, SUB_BLOCKS } from '../mapper/index.ts';

/** Extents in one answer. */
const PAGE_EXTENTS = 1000;

export interface DiffRequest {
  readonly from: PageRef | null;
  readonly to: PageRef | null;
  /** Of the newer side. Where the older one is shorter it counts as zeros. */
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  /** In sub-blocks: where the answer before ended; 0 at first. */
  readonly start: number;
}

/** A run of bytes that may differ. Those outside of all extents are equal. */
export interface DiffExtent {
  readonly offset: number;
  readonly length: number;
  /** It reads as zeros on the newer side; else there is something to read. */
  readonly zero: boolean;
}

export interface DiffPage {
  readonly extents: DiffExtent[];
  /** For the next request's `start`; null at the end. */
  readonly next: number | null;
}

/** The next extents, ascending, neighbours joined. Takes as much memory as the maps are high, however much differs. */
export async function diffPage(store: BlockStore, { from, to, sizeBytes, blockSizeBytes, start }: DiffRequest): Promise<DiffPage> {
  const subBlockBytes = blockSizeBytes / SUB_BLOCKS;
  const extents: DiffExtent[] = [];
  const steps = diffMaps(from, to, start);
  for (let step = steps.next(); step.done !== true; ) {
    const { value } = step;
    if (value.kind === 'page') {
      step = steps.next(await readPage(store, value));
      continue;
    }
    const offset = value.first * subBlockBytes;
    // What the older side had beyond is cut off with the size.
    if (offset >= sizeBytes) break;
    extents.push({ offset, length: Math.min(value.end * subBlockBytes, sizeBytes) - offset, zero: value.zero });
    if (extents.length === PAGE_EXTENTS) return { extents, next: value.end };
    step = steps.next();
  }
  return { extents, next: null };
}

async function readPage(store: BlockStore, { page }: Extract<DiffStep, { kind: 'page' }>): Promise<Uint8Array> {
  try {
    return await store.readPage(page.generation, page.sequence);
  } catch (error) {
    if (!(error instanceof ArchipelagoError) || error.code !== 'not-found') throw error;
    // A snapshot's map stays; of a volume's, collection removes what the volume does not refer to any more.
    throw new ArchipelagoError('unavailable', `the map of that moment is gone: ${error.message}`, {
      cause: error,
      hint: 'begin again, or compare with a snapshot; if it says so every time, see `archipelago volume check`',
    });
  }
}
