/** Until when this process may answer for the volumes it owns. The control process moves the deadline; lateness only shortens service. */
import type { Clock, LivenessEpoch, Timer } from '../base/index.ts';

export class Lease {
  private deadlineMs = 0;
  private readonly clock: Clock;
  private readonly holdMs: number;
  private waiting: ((extended: boolean) => void)[] = [];
  private timer: Timer | null = null;

  /** `holdMs`: how long whoever needs the lease waits for its extension. */
  constructor(clock: Clock, holdMs = Number.POSITIVE_INFINITY) {
    this.clock = clock;
    this.holdMs = holdMs;
  }

  /** Extends the lease; an older deadline than the present one changes nothing. */
  extend(deadlineMs: number): void {
    if (deadlineMs <= this.deadlineMs) return;
    this.deadlineMs = deadlineMs;
    this.tellWaiting(true);
  }

  get deadline(): number {
    return this.deadlineMs;
  }

  /** Asked after the store has answered and before a client hears of it. */
  get valid(): boolean {
    return this.deadlineMs === Number.POSITIVE_INFINITY || this.clock.nowMs() < this.deadlineMs;
  }

  /** Calls back once: with true at the next extension, with false when that takes too long. */
  whenExtended(callback: (extended: boolean) => void): void {
    this.waiting.push(callback);
    if (this.holdMs === Number.POSITIVE_INFINITY) return;
    this.timer ??= this.clock.setTimer(this.holdMs, () => this.tellWaiting(false));
  }

  private tellWaiting(extended: boolean): void {
    this.timer?.cancel();
    this.timer = null;
    const { waiting } = this;
    this.waiting = [];
    for (const callback of waiting) callback(extended);
  }
}

/** What whoever answers for a volume asks of a lease. */
export interface ServingLease {
  readonly valid: boolean;
  whenExtended(callback: (extended: boolean) => void): void;
  /** The ownership is to be given up. */
  revoke?(): void;
}

/**
 * The node's lease as it counts for one ownership. Once the ownership is revoked, only what was granted before counts: the leader gives the volume
 * to others when that is over, though this node goes on renewing its lease, and may hear of it late.
 */
export class OwnershipLease implements ServingLease {
  private readonly lease: Lease;
  private readonly clock: Clock;
  private lastMs = Number.POSITIVE_INFINITY;

  /** One that begins revoked does not know which of the node's leases was granted before, so none counts. */
  constructor(lease: Lease, clock: Clock, isRevoked: boolean) {
    this.lease = lease;
    this.clock = clock;
    if (isRevoked) this.lastMs = Number.NEGATIVE_INFINITY;
  }

  /** To be called in the step in which this process hears of it. */
  revoke(): void {
    this.lastMs = Math.min(this.lastMs, this.lease.deadline);
  }

  get valid(): boolean {
    return this.lease.valid && (this.lastMs === Number.POSITIVE_INFINITY || this.clock.nowMs() < this.lastMs);
  }

  whenExtended(callback: (extended: boolean) => void): void {
    this.lease.whenExtended(callback);
  }
}

/**
 * The lease of this node, for one liveness epoch after the other. What is owned keeps the lease of the liveness epoch that it was acquired
 * under: that one is never extended again once the node has another, so what has expired stays so.
 */
export class NodeLease {
  private readonly clock: Clock;
  private readonly holdMs: number;
  private livenessEpoch: LivenessEpoch | null = null;
  current: Lease;

  constructor(clock: Clock, holdMs: number) {
    this.clock = clock;
    this.holdMs = holdMs;
    this.current = new Lease(clock, holdMs);
  }

  begin(livenessEpoch: LivenessEpoch): void {
    if (this.livenessEpoch === livenessEpoch) return;
    this.livenessEpoch = livenessEpoch;
    this.current = new Lease(this.clock, this.holdMs);
  }

  /** A deadline for another liveness epoch than the present one counts for nothing that is owned now. */
  extend(livenessEpoch: LivenessEpoch, deadlineMs: number): void {
    if (livenessEpoch === this.livenessEpoch) this.current.extend(deadlineMs);
  }
}
