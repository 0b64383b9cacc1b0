/** Commands about leases and about who may use a volume, and the forms of what they leave behind. */
import { z } from 'zod';
import type { Epoch, LivenessEpoch, VolumeId } from '../../base/index.ts';

/**
 * `shared`: those nodes use the volume, and others may as well. `exclusive`: only that node's clients change it. `locked`: the same, and no
 * other node becomes its owner. A hold counts until it is given up. One whose node has a newer liveness epoch, so that it has died or expired
 * since, is still there, but an `open` of another node takes its place; a lock's place is taken by force only.
 */
export interface Hold {
  readonly mode: 'shared' | 'exclusive' | 'locked';
  /** At least one, in order of names; exactly one unless shared. */
  readonly holders: readonly Holder[];
}

interface Holder {
  readonly node: string;
  readonly livenessEpoch: LivenessEpoch;
}

export type OwnershipCommand =
  /**
   * A leader has waited until the last lease of that liveness epoch was over. `term` is the one in which it waited: it counts only in an entry
   * of that term, so never through a newer leader, which may have renewed the lease.
   */
  | { readonly type: 'expireNode'; readonly node: string; readonly livenessEpoch: LivenessEpoch; readonly term: number }
  /** A node whose processes have lived through its expiry takes a new liveness epoch. They have nothing left of what it owned. */
  | { readonly type: 'reviveNode'; readonly node: string; readonly livenessEpoch: LivenessEpoch }
  /** The owner gives the volume up and does not know what its store holds. */
  | { readonly type: 'releaseUnclean'; readonly id: VolumeId; readonly epoch: Epoch }
  | { readonly type: 'open'; readonly id: VolumeId; readonly node: string; readonly livenessEpoch: LivenessEpoch; readonly shared: boolean }
  | { readonly type: 'close'; readonly id: VolumeId; readonly node: string }
  | { readonly type: 'lock'; readonly id: VolumeId; readonly node: string; readonly livenessEpoch: LivenessEpoch }
  | { readonly type: 'unlock'; readonly id: VolumeId; readonly node: string }
  /** Breaks the lock of `holder`, which changes nothing from here on. Where it is the owner, its consent or a `grant` has to follow. */
  | { readonly type: 'revoke'; readonly id: VolumeId; readonly holder: string }
  /** Ends a revoked ownership: a leader has waited until every lease was over that was granted before. `term` as in `expireNode`. */
  | { readonly type: 'grant'; readonly id: VolumeId; readonly epoch: Epoch; readonly term: number };

const counter = z.int().min(0);
const volumeId = counter as unknown as z.ZodType<VolumeId>;
const epoch = counter as unknown as z.ZodType<Epoch>;
const livenessEpoch = counter as unknown as z.ZodType<LivenessEpoch>;
const node = z.string();

export const hold: z.ZodType<Hold> = z.strictObject({
  mode: z.enum(['shared', 'exclusive', 'locked']),
  holders: z.array(z.strictObject({ node, livenessEpoch })).min(1),
});

export const ownershipCommands = [
  z.strictObject({ type: z.literal('expireNode'), node, livenessEpoch, term: counter }),
  z.strictObject({ type: z.literal('reviveNode'), node, livenessEpoch }),
  z.strictObject({ type: z.literal('releaseUnclean'), id: volumeId, epoch }),
  z.strictObject({ type: z.literal('open'), id: volumeId, node, livenessEpoch, shared: z.boolean() }),
  z.strictObject({ type: z.literal('close'), id: volumeId, node }),
  z.strictObject({ type: z.literal('lock'), id: volumeId, node, livenessEpoch }),
  z.strictObject({ type: z.literal('unlock'), id: volumeId, node }),
  z.strictObject({ type: z.literal('revoke'), id: volumeId, holder: node }),
  z.strictObject({ type: z.literal('grant'), id: volumeId, epoch, term: counter }),
] as const;
