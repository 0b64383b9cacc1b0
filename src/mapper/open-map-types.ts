/** What an open map is made from, and what it tells and keeps. */
import type { ArchipelagoError, Epoch, Generation, Log, VolumeId } from '../base/index.ts';
import type { BlockStore, Takeover } from '../blocker/index.ts';
import type { Fold } from './core/fold.ts';
import type { FrameWriter } from './core/journal.ts';
import type { MapChange, PageRef, VolumeHeader } from './core/types.ts';
import type { PageCache } from './page-cache.ts';
import type { PagedTree } from './paged-tree.ts';

/** Told once a recorded change is in the journal and in the tree; with an error, it is in neither. */
export interface RecordWaiter {
  recorded(error: ArchipelagoError | null): void;
}

export interface OpenMapOptions {
  readonly blockStore: BlockStore;
  readonly takeover: Takeover;
  readonly volume: VolumeId;
  readonly epoch: Epoch;
  /** Where the map starts when there is no header: a clone's snapshot. */
  readonly initialRoot: PageRef | null;
  /** Pages that were loaded in advance; they belong to the map from then on. */
  readonly warm?: PagedTree | null;
  /**
   * How new objects and pages are named: by a generation given out with this epoch, or, after a clean handover, as the owner before did,
   * who tells how many pages it has named.
   */
  readonly naming: { readonly generation: Generation } | { readonly nextPageSequence: number };
  /** Tells whether unsynced journal frames can be trusted: they count under the boot that wrote them. */
  readonly bootId: string;
  /** Of the process: bounds the memory that the pages of all its maps take. */
  readonly cache: PageCache;
  readonly log: Log;
}

/** What a snapshot's cut yields. */
export interface Cut {
  readonly root: PageRef | null;
  /** Resolves when the root, all it refers to and the header are durable. */
  readonly durable: Promise<void>;
}

export interface UnfinishedFold {
  readonly fold: Fold;
  readonly header: VolumeHeader;
}

/** What goes into one journal frame. */
export interface Batch {
  readonly changes: MapChange[];
  readonly waiters: (RecordWaiter | null)[];
  mark: Mark | null;
}

/** Asks for a mark: the first `covered` frames of `writer`'s segment, and all segments before it, were synced with what they speak of. */
export interface Mark {
  readonly writer: FrameWriter;
  readonly covered: number;
  readonly waiter: RecordWaiter;
}

export const newBatch = (): Batch => ({ changes: [], waiters: [], mark: null });
