/** Spreads work over time: so many operations a second, and never a burst that others would feel. */
import type { Clock } from '../../base/index.ts';

/** What may be done at once after a pause, as the time that it would take. */
const BURST_MS = 10;

export class Pace {
  private readonly clock: Clock;
  private readonly millisecondsEach: number;
  /** When everything taken so far has had its time. */
  private readyMs = 0;

  constructor(clock: Clock, operationsPerSecond: number) {
    this.clock = clock;
    this.millisecondsEach = 1000 / operationsPerSecond;
  }

  /** Resolves when so many operations may be begun. */
  take(operations: number): Promise<void> {
    const nowMs = this.clock.nowMs();
    const startMs = Math.max(this.readyMs, nowMs - BURST_MS);
    this.readyMs = startMs + operations * this.millisecondsEach;
    const delayMs = startMs - nowMs;
    if (delayMs <= 0) return Promise.resolve();
    return new Promise((resolve) => void this.clock.setTimer(delayMs, resolve));
  }
}
