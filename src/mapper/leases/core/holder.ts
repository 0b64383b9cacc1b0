/** A node's side of its lease: turns answers to its heartbeats into a deadline on its own clock. */
import type { LivenessEpoch } from '../../../base/index.ts';
import type { HeartbeatAnswer } from './types.ts';

/** Answers that wait for their index at a time. Older ones are worth less than newer ones. */
const MAX_WAITING = 8;

interface Waiting {
  readonly answer: HeartbeatAnswer;
  readonly sentMs: number;
}

export class LeaseHolder {
  private livenessEpoch: LivenessEpoch | null = null;
  private deadlineMs = Number.NEGATIVE_INFINITY;
  private waiting: Waiting[] = [];

  /** The registry has given this node a liveness epoch, or (null) it has none that counts: there is no lease until a heartbeat is answered. */
  begin(livenessEpoch: LivenessEpoch | null): void {
    this.livenessEpoch = livenessEpoch;
    this.deadlineMs = Number.NEGATIVE_INFINITY;
    this.waiting = [];
  }

  /**
   * An answer came to the heartbeat that was sent at `sentMs`, perhaps late, twice or out of order. True when the deadline has moved;
   * `appliedIndex` is what this node has applied.
   */
  answered(answer: HeartbeatAnswer, sentMs: number, appliedIndex: number): boolean {
    this.waiting.push({ answer, sentMs });
    if (this.waiting.length > MAX_WAITING) this.waiting.shift();
    return this.applied(appliedIndex);
  }

  /** This node has applied everything up to `index`. True when the deadline has moved. */
  applied(index: number): boolean {
    let moved = false;
    this.waiting = this.waiting.filter(({ answer, sentMs }) => {
      if (answer.appliedIndex > index) return true;
      // Granted to what this node was before: what it owns now it did not own then.
      if (answer.livenessEpoch !== this.livenessEpoch) return false;
      const deadlineMs = sentMs + answer.leaseMs;
      moved ||= deadlineMs > this.deadlineMs;
      this.deadlineMs = Math.max(this.deadlineMs, deadlineMs);
      return false;
    });
    return moved;
  }

  /** Until when what is owned under `begin`'s liveness epoch may be answered for; minus infinity before the first answer. */
  get deadline(): number {
    return this.deadlineMs;
  }
}
