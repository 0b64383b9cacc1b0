/**
 * Node leases. A node may answer for what it owns until its lease is over, and only then the cluster gives it to others. A lease is counted
 * on two clocks that are never compared: the node counts from when it *sent* the heartbeat, the leader from when the heartbeat *came*, which is
 * later, and waits for the drift allowance besides. So the node's lease is over first.
 */
import { assert, type LivenessEpoch } from '../../../base/index.ts';

export interface LeaseTiming {
  readonly leaseMs: number;
  /** More than two clocks can differ over one lease. */
  readonly driftMs: number;
}

export function checkTiming({ leaseMs, driftMs }: LeaseTiming): void {
  assert(leaseMs > 0 && driftMs > 0 && driftMs < leaseMs, 'a lease has a length, and an allowance that is shorter');
}

/** What a leader answers to a heartbeat. */
export interface HeartbeatAnswer {
  readonly livenessEpoch: LivenessEpoch;
  readonly leaseMs: number;
  /** The lease counts once the node has applied this: it knows by then what was taken from it. */
  readonly appliedIndex: number;
}
