/**
 * What Raft replicates about volumes and nodes. A command names what it expects (volume id and epoch); applying it refuses anything else,
 * so that an entry that commits late does no harm. Encoded as one version byte and JSON; see `codec.ts`.
 */
import type { Epoch, ErrorBody, Generation, LivenessEpoch, VolumeId } from '../../base/index.ts';
import type { PageRef } from '../core/types.ts';
import type { BegunCycle, CollectionCommand, CollectionRecord } from './collection-types.ts';
import type { Invitation, MembershipCommand, RemovedNode } from './membership-types.ts';
import type { Hold, OwnershipCommand } from './ownership-types.ts';

export interface Owner {
  readonly node: string;
  readonly epoch: Epoch;
}

export interface VolumeRecord {
  readonly id: VolumeId;
  readonly name: string;
  readonly kind: 'volume' | 'snapshot';
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  /** The snapshot that a clone was made of, or the volume that a snapshot was made of. It may have been removed since. */
  readonly originId: VolumeId | null;
  /** Null also while the epoch's owner is gone: `epoch` keeps the last one given out. */
  readonly owner: Owner | null;
  readonly epoch: Epoch;
  /** The last owner left by a release: all is synced and nothing is under way in the store. True before the first owner. */
  readonly clean: boolean;
  /** The owner has to give the volume up: a lock of its node was broken. It does so by itself, or its lease ends. */
  readonly revoked: boolean;
  /** Which nodes have the volume open. Null: nobody has asked for anything. */
  readonly hold: Hold | null;
  /** Nodes whose lock was broken: their clients change nothing until the volume is opened there again. */
  readonly fenced: readonly string[];
  /** A snapshot's map, or where a clone's map starts until its header is written. Null for an empty map. */
  readonly root: PageRef | null;
  /** By which the volume's map may still come to name something; see `collection.ts`. Ascending. */
  readonly openGenerations: readonly Generation[];
  /** The last one for a snapshot, and by which owner: until it is resolved, that snapshot may refer to what the log does not show any more. */
  readonly reservation: { readonly generation: Generation; readonly epoch: Epoch } | null;
  /** Set by a shrink until the owner has dropped the blocks beyond: from this byte on everything has to read as zeros. */
  readonly zeroFromBytes: number | null;
  /** The node that runs the import this volume is made by; it is removed when that node goes away before the end. */
  readonly importer: string | null;
  readonly labels: Readonly<Record<string, string>>;
  /** ISO 8601. */
  readonly createdAt: string;
}

export interface NodeRecord {
  readonly name: string;
  readonly peerId: string;
  /** Multiaddrs of the control process and of the data process. */
  readonly controlAddresses: readonly string[];
  readonly dataAddresses: readonly string[];
  /** 0 for a node that has joined and was never started. */
  readonly livenessEpoch: LivenessEpoch;
  /** False once the liveness epoch has expired: the node owns nothing, and nothing can be given to it, until it has a new one. */
  readonly alive: boolean;
  /** The program's version. */
  readonly version: string;
}

/** Volumes are named by id where the sender has looked at one already, so that a reused name is never hit by mistake. */
export type Command =
  /** A node's processes have (re)started and the ones before are dead: voids every ownership and import of the node. */
  | {
      readonly type: 'startNode';
      readonly name: string;
      readonly peerId: string;
      readonly controlAddresses: readonly string[];
      readonly dataAddresses: readonly string[];
      readonly version: string;
    }
  | {
      readonly type: 'create';
      readonly name: string;
      readonly sizeBytes: number;
      readonly blockSizeBytes: number;
      readonly labels: Readonly<Record<string, string>>;
      /** The node whose import makes the volume. A start of its processes voids it, even one that was applied before this command. */
      readonly importer: { readonly node: string; readonly livenessEpoch: LivenessEpoch } | null;
      readonly createdAt: string;
    }
  | { readonly type: 'finishImport'; readonly id: VolumeId }
  /** `sizeBytes` null: the snapshot's own size. */
  | { readonly type: 'clone'; readonly snapshotId: VolumeId; readonly name: string; readonly sizeBytes: number | null; readonly createdAt: string }
  | { readonly type: 'acquire'; readonly id: VolumeId; readonly node: string; readonly livenessEpoch: LivenessEpoch; readonly epoch: Epoch }
  | { readonly type: 'handOver'; readonly id: VolumeId; readonly epoch: Epoch; readonly to: string; readonly toLivenessEpoch: LivenessEpoch }
  | { readonly type: 'release'; readonly id: VolumeId; readonly epoch: Epoch }
  /** For a snapshot. The one before, if it was not used, will not be. */
  | { readonly type: 'reserveGeneration'; readonly id: VolumeId; readonly epoch: Epoch }
  /** The snapshot that the generation was reserved for will not come; one that comes all the same is refused. */
  | { readonly type: 'cancelReservation'; readonly id: VolumeId; readonly epoch: Epoch; readonly generation: Generation }
  /** `generation` was reserved for it, and names everything since its cut. Refused while `zeroFromBytes` is set: the owner clears it first, so that nothing beyond the end gets into the snapshot. */
  | {
      readonly type: 'snapshot';
      readonly id: VolumeId;
      readonly epoch: Epoch;
      readonly generation: Generation;
      readonly name: string;
      readonly root: PageRef | null;
      readonly createdAt: string;
    }
  /**
   * `epoch` is the last one given out: a volume without an owner is resized by this alone. Growing one whose `zeroFromBytes` is set is
   * refused: the owner clears it first.
   */
  | { readonly type: 'resize'; readonly id: VolumeId; readonly epoch: Epoch; readonly sizeBytes: number; readonly shrink: boolean }
  /** `zeroFromBytes` is the value whose blocks were dropped; after another shrink it is not the record's, and refused. */
  | { readonly type: 'clearZeroFrom'; readonly id: VolumeId; readonly epoch: Epoch; readonly zeroFromBytes: number }
  | { readonly type: 'rename'; readonly id: VolumeId; readonly name: string }
  /** A value of null removes the label. */
  | { readonly type: 'label'; readonly id: VolumeId; readonly labels: Readonly<Record<string, string | null>> }
  /** `epoch` is the last one given out, owner or not. */
  | { readonly type: 'remove'; readonly id: VolumeId; readonly epoch: Epoch }
  | MembershipCommand
  | CollectionCommand
  | OwnershipCommand;

/** What a command's proposer learns once it was applied. */
export type CommandResult<Value = unknown> = { readonly ok: Value } | { readonly error: ErrorBody };

/** The value of each command's result. */
export interface CommandValues {
  startNode: NodeRecord;
  create: VolumeRecord;
  finishImport: VolumeRecord;
  clone: VolumeRecord;
  /** The new epoch is in the record; `generation` is the owner's naming generation. Asking again with the epoch before one's own is answered the same way. */
  acquire: { readonly record: VolumeRecord; readonly generation: Generation; readonly clean: boolean };
  handOver: VolumeRecord;
  release: VolumeRecord;
  reserveGeneration: Generation;
  cancelReservation: VolumeRecord;
  snapshot: VolumeRecord;
  resize: VolumeRecord;
  clearZeroFrom: VolumeRecord;
  rename: VolumeRecord;
  label: VolumeRecord;
  remove: VolumeRecord;
  invite: Invitation;
  redeem: NodeRecord;
  removeNode: RemovedNode;
  requestCollection: number;
  beginCollection: BegunCycle;
  finishCollection: CollectionRecord;
  expireNode: NodeRecord;
  reviveNode: NodeRecord;
  releaseUnclean: VolumeRecord;
  open: VolumeRecord;
  close: VolumeRecord;
  lock: VolumeRecord;
  unlock: VolumeRecord;
  revoke: VolumeRecord;
  grant: VolumeRecord;
}
