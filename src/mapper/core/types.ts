/** The vocabulary of maps: what a block index can lead to, and how pages are named. Pure data. */
import type { Generation } from '../../base/index.ts';

/** Sub-blocks of a block: presence bitmaps have one bit each, so a 4 MiB block is tracked in pieces of 64 KiB. */
export const SUB_BLOCKS = 64;

/**
 * Names an immutable page and carries the checksum of its bytes, so that a parent vouches for its children. `blocks` is the number of
 * entries below it, so that the size of a map is known from its root alone.
 */
export interface PageRef {
  readonly generation: Generation;
  readonly sequence: number;
  /** CRC-32 of the page's bytes. */
  readonly checksum: number;
  /** Entries that are not absent, in all pages below. */
  readonly blocks: number;
}

/**
 * A block whose object holds only some sub-blocks; the others are read from the object of the same index in `base`, which nobody changes.
 * Bit i of the bitmap, counted from the least significant bit of `presenceLow`, stands for sub-block i.
 */
export interface LayeredEntry {
  readonly generation: Generation;
  readonly base: Generation;
  readonly presenceLow: number;
  readonly presenceHigh: number;
}

/** The volume's header in the store: where its map starts. */
export interface VolumeHeader {
  readonly root: PageRef | null;
  /** The first journal segment that is not folded into `root`. */
  readonly segment: number;
  /** New objects are named by this generation. */
  readonly namingGeneration: Generation;
  /** Generations since the last snapshot, the naming one included: their objects may be written in place. Ascending. */
  readonly liveGenerations: readonly Generation[];
  /** Generations in which an earlier owner may still have writes under way. */
  readonly uncleanGenerations: readonly Generation[];
  /** The sequence number of the next page named by `namingGeneration`. */
  readonly nextPageSequence: number;
}

/** One change of the map, as the journal records it. */
export type MapChange =
  | { readonly kind: 'absent'; readonly index: number }
  | { readonly kind: 'plain'; readonly index: number; readonly generation: Generation }
  | ({ readonly kind: 'layered'; readonly index: number } & LayeredEntry)
  /** All entries from `index` on become absent. */
  | { readonly kind: 'truncate'; readonly index: number }
  /** A snapshot's cut or a clean takeover: from here on only `generation` is live, or it joins the live ones. */
  | { readonly kind: 'naming'; readonly generation: Generation; readonly closeOthers: boolean }
  /** A takeover from an owner that may still be writing: what was live is unclean, and `generation` joins it. */
  | { readonly kind: 'takeover'; readonly generation: Generation }
  /** All objects of unclean generations that the map mentions were claimed: nothing is unclean any more. */
  | { readonly kind: 'claimed' };

/** What changes the generations and no entry. */
export type GenerationChange = Extract<MapChange, { readonly kind: 'naming' | 'takeover' | 'claimed' }>;
/** What changes entries. */
export type EntryChange = Exclude<MapChange, GenerationChange>;

export function changesGenerations(change: MapChange): change is GenerationChange {
  return change.kind === 'naming' || change.kind === 'takeover' || change.kind === 'claimed';
}
