/** Commands about who belongs to the cluster, and the forms of what they leave behind. */
import { z } from 'zod';

/** Permission for one node to join. The token that people pass on holds the secret; here is only its hash. */
export interface Invitation {
  readonly id: string;
  /** SHA-256 of the secret, as hex. */
  readonly secretHash: string;
  /** Wall clock, ms. */
  readonly expiresAtMs: number;
}

/** Kept for ever: a name is a member's identity in Raft, and must never come back with another directory behind it. */
export interface RemovedNode {
  readonly name: string;
  readonly peerId: string;
  readonly controlAddresses: readonly string[];
}

export type MembershipCommand =
  | { readonly type: 'invite'; readonly invitation: Invitation; readonly nowMs: number }
  /** A node that holds an invitation becomes a member. The same node asking again is answered the same, until it has been started. */
  | {
      readonly type: 'redeem';
      readonly invitationId: string;
      readonly secretHash: string;
      readonly nowMs: number;
      readonly name: string;
      readonly peerId: string;
      readonly controlAddresses: readonly string[];
      readonly dataAddresses: readonly string[];
      readonly version: string;
    }
  /**
   * `peerId` and `controlAddresses` count for a first member that has never been started, which the registry does not know. Without `force`
   * it is refused while the node holds volumes; with it they are void, as after the death of the node's processes, which the sender vouches for.
   */
  | {
      readonly type: 'removeNode';
      readonly name: string;
      readonly peerId: string;
      readonly controlAddresses: readonly string[];
      readonly force: boolean;
    };

const counter = z.int().min(0);

export const invitation: z.ZodType<Invitation> = z.strictObject({ id: z.string(), secretHash: z.string(), expiresAtMs: counter });

export const removedNode: z.ZodType<RemovedNode> = z.strictObject({
  name: z.string(),
  peerId: z.string(),
  controlAddresses: z.array(z.string()),
});

export const membershipCommands = [
  z.strictObject({ type: z.literal('invite'), invitation, nowMs: counter }),
  z.strictObject({
    type: z.literal('redeem'),
    invitationId: z.string(),
    secretHash: z.string(),
    nowMs: counter,
    name: z.string(),
    peerId: z.string(),
    controlAddresses: z.array(z.string()),
    dataAddresses: z.array(z.string()),
    version: z.string(),
  }),
  z.strictObject({
    type: z.literal('removeNode'),
    name: z.string(),
    peerId: z.string(),
    controlAddresses: z.array(z.string()),
    force: z.boolean(),
  }),
] as const;
