/**
 * The leader's side: who has a lease, and whose is over. A table belongs to one term of one leader and is thrown away with it.
 *
 * Why a table that knows nothing of earlier terms is right after a whole lease and the allowance: an earlier leader answered a heartbeat
 * only after a round of a quorum that began after the heartbeat came. One of that quorum voted for this leader, and did so later. So every lease
 * of an earlier term was asked for before this term began, and is over one lease later.
 *
 * Time in which this process stood still does not count: heartbeats that came then lie unread, and nobody died of that. So the table has a time of its
 * own, which never runs faster than the clock and goes on by an allowance at most between two ticks. To wait by it is to wait long enough.
 */
import type { Epoch, LivenessEpoch, VolumeId } from '../../../base/index.ts';
import { checkTiming, type HeartbeatAnswer, type LeaseTiming } from './types.ts';

/** A node as the registry has it. */
export interface RegisteredNode {
  readonly name: string;
  readonly livenessEpoch: LivenessEpoch;
  readonly alive: boolean;
}

/** A volume whose owner has to give it up. */
export interface RevokedVolume {
  readonly id: VolumeId;
  readonly epoch: Epoch;
}

/** What to propose now. It counts in an entry of this table's term only. */
export interface Ended {
  readonly nodes: readonly { readonly node: string; readonly livenessEpoch: LivenessEpoch }[];
  readonly volumes: readonly RevokedVolume[];
}

interface Lease {
  readonly livenessEpoch: LivenessEpoch;
  /** In the table's time: when the latest heartbeat came that was answered, or when the table first met the node. */
  lastMs: number;
  /** The end was proposed. Whatever becomes of that, this liveness epoch has no lease any more. */
  ended: boolean;
}

export class LeaseTable {
  readonly term: number;
  private readonly timing: LeaseTiming;
  private readonly leases = new Map<string, Lease>();
  /** By volume and epoch: when this leader first saw that the owner has to give it up, in the table's time. */
  private readonly revoked = new Map<string, number>();
  /** The table's time, and the clock's, at the last tick. */
  private timeMs = 0;
  private tickMs: number;

  constructor(term: number, timing: LeaseTiming, nowMs: number) {
    checkTiming(timing);
    this.term = term;
    this.timing = timing;
    this.tickMs = nowMs;
  }

  /**
   * Answers a heartbeat that came at `cameMs`, of a node that the registry has as `node`. Only after leadership was confirmed, for this term, by
   * a round that began after `cameMs`, and from state that has everything up to the index of that round. Null: no lease.
   */
  answer(node: RegisteredNode | null, livenessEpoch: LivenessEpoch, cameMs: number, appliedIndex: number): HeartbeatAnswer | null {
    if (node === null || !node.alive || node.livenessEpoch !== livenessEpoch) return null;
    const lease = this.leaseOf(node);
    if (lease.ended) return null;
    // Confirmed late, it counts from when it came: the node counts from before that.
    lease.lastMs = Math.max(lease.lastMs, this.timeMs + cameMs - this.tickMs);
    return { livenessEpoch, leaseMs: this.timing.leaseMs, appliedIndex };
  }

  /** What is over by now. To be called with the registry's state of now, at least a few times in the time of a drift allowance. */
  tick(nowMs: number, nodes: readonly RegisteredNode[], revoked: readonly RevokedVolume[]): Ended {
    this.timeMs += Math.min(nowMs - this.tickMs, this.timing.driftMs);
    this.tickMs = nowMs;
    return { nodes: this.endedNodes(nodes), volumes: this.endedVolumes(revoked) };
  }

  private endedNodes(nodes: readonly RegisteredNode[]): Ended['nodes'] {
    const ended: { node: string; livenessEpoch: LivenessEpoch }[] = [];
    for (const node of nodes) {
      if (!node.alive) continue;
      const lease = this.leaseOf(node);
      if (!lease.ended && !this.isOver(lease.lastMs)) continue;
      // Again with each tick, until the registry says so: a proposal may get lost.
      lease.ended = true;
      ended.push({ node: node.name, livenessEpoch: node.livenessEpoch });
    }
    return ended;
  }

  private endedVolumes(volumes: readonly RevokedVolume[]): RevokedVolume[] {
    const keys = new Set(volumes.map(keyOf));
    for (const key of this.revoked.keys()) if (!keys.has(key)) this.revoked.delete(key);
    return volumes.filter((volume) => {
      const key = keyOf(volume);
      // From here on this leader answers from a state in which it is revoked, so a lease that is granted later says nothing about it.
      const sinceMs = this.revoked.get(key) ?? this.timeMs;
      this.revoked.set(key, sinceMs);
      return this.isOver(sinceMs);
    });
  }

  /** A liveness epoch that this table has not met began before now, and has a whole lease from now on. */
  private leaseOf({ name, livenessEpoch }: RegisteredNode): Lease {
    const known = this.leases.get(name);
    if (known?.livenessEpoch === livenessEpoch) return known;
    const lease = { livenessEpoch, lastMs: this.timeMs, ended: false };
    this.leases.set(name, lease);
    return lease;
  }

  private isOver(sinceMs: number): boolean {
    return this.timeMs - sinceMs > this.timing.leaseMs + this.timing.driftMs;
  }
}

function keyOf({ id, epoch }: RevokedVolume): string {
  return `${id}/${epoch}`;
}
