/** What a world of volumes is made of: its sizes, its options, the volumes and snapshots that it knows, and the processes that own them. */
import type { ArchipelagoError, VolumeId } from '../../../src/base/index.ts';
import type { Collection } from '../../../src/mapper/collection/collector.ts';
import { type OpenMap, type PageRef, SUB_BLOCKS } from '../../../src/mapper/index.ts';
import { VolumeIo } from '../../../src/volume/device.ts';
import { Lease } from '../../../src/volume/lease.ts';
import type { ServedVolume } from '../../../src/volume/served-volume.ts';
import { SECTOR_BYTES } from '../../checkers/never-torn-nor-foreign.ts';
import { ManualClock } from '../manual-clock.ts';
import type { SimStore } from './store.ts';
import type { Twin } from './twin.ts';

export const BLOCK_BYTES = 64 * 1024;
export const BLOCK_SECTORS = BLOCK_BYTES / SECTOR_BYTES;
export const SUB_BLOCK_SECTORS = BLOCK_SECTORS / SUB_BLOCKS;
/** The blocks that are used: neighbours, and some that are far away in the map's tree. */
export const USED_BLOCKS = [0, 1, 2, 700, 701, 90_000];
/** The last block is cut short. */
export const SIZE_BYTES = 90_000 * BLOCK_BYTES + 37 * SECTOR_BYTES;
export const MAX_IN_FLIGHT = 12;
export const MAX_VOLUMES = 4;
export const MAX_SNAPSHOTS = 5;
export const MAX_STALE = 3;
export const LEASE_END_MS = 1e9;
/** Time that passes in a step. */
export const STEP_MS = 0.5;

/** What a planted bug may replace. */
export interface Hooks {
  readonly map?: (map: OpenMap) => void;
  readonly served?: (served: ServedVolume) => void;
  readonly collection?: (collection: Collection) => void;
}

export interface WorldOptions {
  readonly seed: number;
  readonly steps: number;
  readonly faults: boolean;
  readonly hooks?: Hooks;
  /** How often, in a step. */
  readonly deaths?: number;
  /** The same, for an owner that is only paused: what it has under way lands later. */
  readonly failovers?: number;
  readonly handOvers?: number;
  readonly collections?: number;
}

/** What a crash may cut short. */
export type CutShort = 'write' | 'flush' | 'snapshot' | 'clone' | 'remove' | 'fold' | 'merge' | 'handOver' | 'collect';

export class WorldIo extends VolumeIo {
  readonly finished: (error: ArchipelagoError | null) => void;

  constructor(finished: (error: ArchipelagoError | null) => void) {
    super();
    this.finished = finished;
  }

  override done(error: ArchipelagoError | null): void {
    this.finished(error);
  }
}

export class Disk {
  readonly id: VolumeId;
  readonly initialRoot: PageRef | null;
  readonly twin: Twin;
  map: OpenMap | null = null;
  served: ServedVolume | null = null;
  inFlight = 0;
  maintained = false;

  constructor(id: VolumeId, initialRoot: PageRef | null, twin: Twin) {
    this.id = id;
    this.initialRoot = initialRoot;
    this.twin = twin;
  }
}

export interface Snapshot {
  readonly id: VolumeId;
  readonly root: PageRef | null;
  /** Null until it was read for the first time. */
  values: Map<number, number> | null;
  readonly possible: Map<number, number[]>;
}

/** A process: its lease is over when its clock says so. */
export class Process {
  readonly store: SimStore;
  readonly clock = new ManualClock();
  readonly lease = new Lease(this.clock);

  constructor(store: SimStore) {
    this.store = store;
    this.lease.extend(LEASE_END_MS);
  }

  /** Paused until its lease was over, it goes on with what it has under way, and answers nobody. */
  expire(): void {
    this.clock.advance(LEASE_END_MS);
  }
}

export function* usedSectors(): IterableIterator<number> {
  for (const block of USED_BLOCKS) {
    for (let sector = block * BLOCK_SECTORS; sector < Math.min((block + 1) * BLOCK_SECTORS, SIZE_BYTES / SECTOR_BYTES); sector++) yield sector;
  }
}
