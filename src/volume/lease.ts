/** Until when this process may answer for the volumes it owns. The control process moves the deadline; lateness only shortens service. */
import type { Clock } from '../base/index.ts';

export class Lease {
  private deadlineMs = 0;
  private readonly clock: Clock;
  private waiting: (() => void)[] = [];

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** Extends the lease; an older deadline than the present one changes nothing. Infinity: nobody can take over from this process. */
  extend(deadlineMs: number): void {
    if (deadlineMs <= this.deadlineMs) return;
    this.deadlineMs = deadlineMs;
    const waiting = this.waiting;
    this.waiting = [];
    for (const callback of waiting) callback();
  }

  /** Asked after the store has answered and before a client hears of it. */
  get valid(): boolean {
    return this.deadlineMs === Number.POSITIVE_INFINITY || this.clock.nowMs() < this.deadlineMs;
  }

  /** Calls back once, at the next extension. */
  whenExtended(callback: () => void): void {
    this.waiting.push(callback);
  }
}
