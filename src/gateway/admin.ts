/**
 * What the admin API offers: the operations on volumes and the cluster, in the JSON forms that scripts rely on. The node's control process
 * implements it (`src/node`), the HTTP server exposes it and the CLI calls it through that. All methods fail with `ArchipelagoError`.
 */

import type { ErrorBody } from '../base/index.ts';

/** A volume, snapshot or image as JSON shows it. Ids and epochs are strings, sizes numbers of bytes. */
export interface VolumeView {
  name: string;
  id: string;
  kind: 'volume' | 'snapshot' | 'image';
  size: number;
  blockSize: number;
  /** Name of what it was made of; null for none, or when that was removed. */
  origin: string | null;
  owner: { node: string; epoch: string } | null;
  /** Clients attached on all nodes that answer. */
  clients: number;
  /** What the map refers to, shared included. */
  allocatedBytes: number;
  createdAt: string;
  labels: Record<string, string>;
}

export interface MigrationView {
  name: string;
  from: string;
  to: string;
  epoch: string;
  /** How long the volume admitted no I/O. */
  pauseMs: number;
}

/** Who has a volume open. */
export interface LockView {
  name: string;
  /** `shared`: `nodes` have it open. `exclusive`: only `holder` changes it. `locked`: nor does any other node become its owner. Null: it is not open. */
  mode: 'shared' | 'exclusive' | 'locked' | null;
  /** Null unless exclusive or locked. */
  holder: string | null;
  nodes: string[];
  /** Nodes whose lock was broken: they change nothing until they open the volume again. */
  fenced: string[];
}

export interface NodeView {
  name: string;
  peerId: string;
  role: 'voter' | 'learner';
  up: boolean;
  lease: boolean;
  /** Volumes that the node owns. */
  volumes: number;
  version: string;
  pids: { control: number | null; data: number[] };
}

export interface ClusterView {
  /** Null when none is known. */
  leader: string | null;
  term: number;
  quorum: boolean;
  nodes: NodeView[];
  volumes: number;
  store: { kind: string; location: string; usedBytes: number; availableBytes: number | null };
}

export interface InvitationView {
  /** What `cluster join` takes. It holds a secret, and is of use once. */
  token: string;
  /** ISO 8601. */
  expiresAt: string;
}

/** After a removal: who is left in Raft's configuration, as far as it is carried out. */
export interface MembersView {
  node: string;
  voters: string[];
  learners: string[];
}

export interface TransferView {
  /** Null when there was none. */
  from: string | null;
  to: string;
  term: number;
}

export interface CheckView {
  name: string;
  ok: boolean;
  blocks: number;
  pages: number;
  /** What is wrong, one a line; at most the first thousand. */
  problems: string[];
}

/** Counts begin at 0 where the node that collects does not answer. */
export interface RunningCollectionView {
  cycle: number;
  node: string;
  startedAt: string;
  phase: 'marking' | 'waiting' | 'sweeping' | 'unknown';
  /** From 1. */
  pass: number;
  volumesRead: number;
  volumes: number;
  pagesRead: number;
  /** Objects and pages looked at in this pass. */
  listed: number;
  freedBytes: number;
  freedObjects: number;
}

export interface FinishedCollectionView {
  cycle: number;
  node: string;
  startedAt: string;
  finishedAt: string;
  freedBytes: number;
  freedObjects: number;
  /** Why it was cut short. */
  error: ErrorBody | null;
}

export interface CollectionView {
  running: RunningCollectionView | null;
  last: FinishedCollectionView | null;
  /** All that finished. */
  cycles: number;
  freedBytes: number;
  freedObjects: number;
}

/** What differs between a snapshot and another one, or a volume at one moment. */
export interface DiffView {
  /** Ascending. Bytes outside of all extents are equal; what the older side lacks at its end counts as zeros. */
  extents: { offset: number; length: number; zero: boolean }[];
  /** For the request that follows; null at the end. */
  next: string | null;
}

export interface AdminService {
  createVolume(request: { name: string; size: number; blockSize?: number; labels?: Record<string, string> }): Promise<VolumeView>;
  cloneSnapshot(snapshot: string, request: { name: string; size?: number }): Promise<VolumeView>;
  snapshotVolume(volume: string, request: { name: string }): Promise<VolumeView>;
  listVolumes(filter: { label?: { key: string; value: string } }): Promise<VolumeView[]>;
  volumeInfo(name: string): Promise<VolumeView>;
  resizeVolume(name: string, request: { size: number; shrink: boolean }): Promise<VolumeView>;
  renameVolume(name: string, request: { name: string }): Promise<VolumeView>;
  /** A value of null removes the label. */
  labelVolume(name: string, labels: Record<string, string | null>): Promise<VolumeView>;
  removeVolume(name: string): Promise<VolumeView>;
  /** `node` null: the node that answers. */
  volumeUri(name: string, node: string | null): Promise<{ uri: string }>;
  /** Exclusive use by the node that answers, or, with `shared`, no longer exclusive. */
  openVolume(name: string, request: { shared: boolean }): Promise<LockView>;
  closeVolume(name: string): Promise<LockView>;
  lockVolume(name: string): Promise<LockView>;
  /** `force` breaks another node's lock, and that node can change the volume no longer. */
  unlockVolume(name: string, request: { force: boolean }): Promise<LockView>;
  migrateVolume(name: string, request: { to: string }): Promise<MigrationView>;
  checkVolume(name: string): Promise<CheckView>;
  /** `cursor` null begins, and fixes the moment at which a volume is looked at; else it is what the answer before had as `next`. */
  diffVolume(from: string, to: string, cursor: string | null): Promise<DiffView>;
  /**
   * Begins an import: makes a volume that only this node serves, that lists do not show, and that is removed when `signal` aborts, or this
   * node stops, before `finishImport`.
   */
  beginImport(request: { name: string; size: number; blockSize?: number }, signal: AbortSignal): Promise<VolumeView & { uri: string }>;
  finishImport(name: string): Promise<VolumeView>;
  /** Sees to it that a collection begins now. Resolves to the number of the first cycle that sees all that was removed before the call. */
  collect(): Promise<{ cycle: number }>;
  collectionStatus(): Promise<CollectionView>;
  clusterStatus(): Promise<ClusterView>;
  /** Hands all volumes of this node over to others. Null for `node`: the node that answers. */
  drainNode(node: string | null): Promise<{ node: string; moved: number }>;
  /** Lets one more node join, once, until the time is over; null for an hour. */
  invite(request: { expiresMs: number | null }): Promise<InvitationView>;
  /** For good. One that answers is drained first; `force` gives up what one that does not answer owns. */
  removeNode(name: string, options: { force: boolean }): Promise<MembersView>;
  transferLeader(request: { to: string }): Promise<TransferView>;
}
