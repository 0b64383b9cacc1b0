/** What the two processes of a node say to each other over their `Channel`. JSON, so there are no bytes and no undefined in it. */
import type { ErrorBody, LivenessEpoch, VolumeId } from '../base/index.ts';
import type { StoreStatus } from '../blocker/index.ts';
import type { Freed, NodeRecord, VolumeRecord } from '../mapper/index.ts';
import type { DiffRequest } from '../volume/index.ts';
import type { NodeConfig } from './config.ts';

/** First of all: control to data. The answer is `DataStarted`. */
export interface StartData {
  readonly config: NodeConfig;
  readonly bootId: string;
  /** The store was made before: a directory without one is not where it is. */
  readonly storeExists: boolean;
}

export interface DataStarted {
  /** Where the data process listens for other nodes. */
  readonly addresses: string[];
  readonly store: StoreStatus;
}

/** Everything that the registry says; sent at activation, and when Raft has replaced its state. */
export interface RegistryTable {
  readonly volumes: VolumeRecord[];
  readonly nodes: NodeRecord[];
}

export interface Activate extends RegistryTable {
  readonly livenessEpoch: LivenessEpoch;
}

export type RegistryNotice =
  | { readonly volume: VolumeRecord }
  | { readonly removed: VolumeId }
  | { readonly node: NodeRecord }
  | { readonly removedNode: string };

/** Until when, on the host's monotonic clock in ms, this node's lease holds for what is owned under the liveness epoch. */
export interface LeaseNotice {
  readonly livenessEpoch: LivenessEpoch;
  readonly deadlineMs: number;
}

/** The node has a new liveness epoch, and owns nothing. Comes after the notices of what it has lost. */
export interface LivenessNotice {
  readonly livenessEpoch: LivenessEpoch;
}

/** How a cycle of collection has ended: with an error, it was cut short, and what it freed counts all the same. */
export interface Collected extends Freed {
  /** Objects and pages that were looked at. */
  readonly seen: number;
  readonly error: ErrorBody | null;
}

/** What may be asked of a data process, by its own control process or, through that, by another node's. */
export interface DataRequests {
  /** Refused with `stale-epoch` when the volume is not called `volumeName` any more. */
  snapshot: { id: VolumeId; name: string; volumeName: string };
  handOver: { id: VolumeId; to: string };
  /** Becomes the owner, if there is none. */
  own: { id: VolumeId };
  resize: { id: VolumeId; sizeBytes: number; shrink: boolean };
  remove: { id: VolumeId };
  check: { id: VolumeId };
  stats: Record<string, never>;
  storedBlocks: { ids: VolumeId[] };
  /** Where the map of this moment begins; answered by the owner. */
  root: { id: VolumeId };
  diff: DiffRequest;
  /** How far the cycle of collection is that runs here; null when there is none. */
  collection: Record<string, never>;
}

export const DATA_REQUESTS: readonly (keyof DataRequests)[] = [
  'snapshot',
  'handOver',
  'own',
  'resize',
  'remove',
  'check',
  'stats',
  'storedBlocks',
  'root',
  'diff',
  'collection',
];
