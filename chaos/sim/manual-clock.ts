import type { Clock, Timer } from '../../src/base/index.ts';

interface Pending {
  readonly dueMs: number;
  readonly callback: () => void;
}

/** Time that stands still until a test moves it. */
export class ManualClock implements Clock {
  private now = 0;
  private readonly pending = new Set<Pending>();

  nowMs(): number {
    return this.now;
  }

  wallMs(): number {
    return this.now;
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const pending = { dueMs: this.now + delayMs, callback };
    this.pending.add(pending);
    return { cancel: () => this.pending.delete(pending) };
  }

  /** Moves on by `ms`, running what falls due in order. */
  advance(ms: number): void {
    const end = this.now + ms;
    for (;;) {
      const next = [...this.pending].filter(({ dueMs }) => dueMs <= end).sort((a, b) => a.dueMs - b.dueMs)[0];
      if (next === undefined) break;
      this.pending.delete(next);
      this.now = Math.max(this.now, next.dueMs);
      next.callback();
    }
    this.now = end;
  }
}
