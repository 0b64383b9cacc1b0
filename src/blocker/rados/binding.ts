/** The native binding to librados (`native/addon.cc`): its functions as JavaScript sees them, and how it is found. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { ArchipelagoError } from '../../base/index.ts';

/** An open cluster as the binding knows it. */
export type NativeCluster = { readonly brand: 'NativeCluster' };

/** What a mutation consists of, in the order in which it is done. The numbers are those of the binding. */
export const CREATE_EXCLUSIVE = 1;
/** The stored epoch must be the one that is given as the length. */
export const SUCCEED = 2;
/** The stored epoch must not be above the given one. A missing object fails with ENOENT, whatever else the mutation would do. */
export const GUARD = 4;
/** Stores the epoch. */
export const STAMP = 8;
/** Says how large the object will get. */
export const HINT = 16;
/** Truncates to the offset before anything is written. */
export const CUT = 32;
export const WRITE = 64;
export const WRITE_FULL = 128;
export const ZERO = 256;
export const REMOVE = 512;
/** Stores the data as the attribute `segments`. */
export const SET_SEGMENTS = 1024;

/** Kinds of objects; two numbers name one. */
export const BLOCK = 0;
export const PAGE = 1;
export const HEADER = 2;
export const JOURNAL = 3;
/** The first number says of which pool. */
export const SUPERBLOCK = 4;

/** Attributes of a header. */
export const EPOCH_ATTRIBUTE = 0;
export const SEGMENTS_ATTRIBUTE = 1;

export const MAPS_POOL = 0;
export const BLOCKS_POOL = 1;

export interface NativeBinding {
  /** `completed` is called on the main thread after pairs of slot and result were put into `results`. */
  open(results: Int32Array, completed: (count: number) => void): NativeCluster;
  /** The slot's text names the step that failed: `configuration`, `connection` or a pool. */
  connect(cluster: NativeCluster, slot: number, user: string, conf: string, mapsPool: string, blocksPool: string, namespace: string): void;
  mutate(
    cluster: NativeCluster,
    slot: number,
    kind: number,
    first: number,
    second: number,
    steps: number,
    epoch: number,
    offset: number,
    length: number,
    data: Uint8Array | null,
    expectedBytes: number,
  ): void;
  /** Completes with the number of bytes that are in `into`. */
  read(cluster: NativeCluster, slot: number, kind: number, first: number, second: number, offset: number, into: Uint8Array): void;
  /** Completes with the length of an attribute of the volume's header, which is in `into`. */
  readAttribute(cluster: NativeCluster, slot: number, volume: number, attribute: number, into: Uint8Array): void;
  /** Completes with the size in bytes. */
  stat(cluster: NativeCluster, slot: number, kind: number, first: number, second: number): void;
  /**
   * Completes with the number of names in the slot's text, one a line. A listing is a number of the caller's choice; it begins with its first
   * call, and ends with a batch that is not full, or when `limit` is 0.
   */
  list(cluster: NativeCluster, slot: number, pool: number, listing: number, limit: number): void;
  /** The slot's text is the bytes used by the pools, available in the cluster, and of the whole cluster, with blanks between. */
  poolStatus(cluster: NativeCluster, slot: number): void;
  takeText(cluster: NativeCluster, slot: number): string;
  /** After every other operation has completed. */
  close(cluster: NativeCluster, slot: number): void;
  /** After `close` has completed. */
  dispose(cluster: NativeCluster): void;
}

const PATH = fileURLToPath(new URL('../../../build/archipelago_rados.node', import.meta.url));

/** Loaded only by who uses the store, so that nobody else needs librados. */
export function loadBinding(): NativeBinding {
  try {
    return createRequire(import.meta.url)(PATH) as NativeBinding;
  } catch (cause) {
    const reason = existsSync(PATH) ? (cause as Error).message.split('\n')[0] : 'it has not been built';
    throw new ArchipelagoError('unavailable', `the store 'rados' cannot be used, because its binding to librados does not load: ${reason}`, {
      cause,
      hint: 'install librados-dev and g++, then run `npm run build:rados`',
    });
  }
}
