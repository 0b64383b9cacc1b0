/** Lets those who wait for a change of state look again. */
import type { Clock } from '../base/index.ts';

export class ChangeSignal {
  private readonly clock: Clock;
  private readonly waiters = new Set<() => void>();

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** Resolves at the next change, or when the time has come. */
  next(deadlineMs: number): Promise<void> {
    return new Promise((resolve) => {
      const changed = (): void => {
        timer.cancel();
        this.waiters.delete(changed);
        resolve();
      };
      const timer = this.clock.setTimer(Math.max(1, deadlineMs - this.clock.nowMs()), changed);
      this.waiters.add(changed);
    });
  }

  notify(): void {
    for (const waiter of [...this.waiters]) waiter();
  }
}
