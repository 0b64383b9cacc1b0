/** How fast layered blocks are merged: so many bytes a second for all volumes of a process. Time that nobody used is not saved up. */
import type { Clock } from '../base/index.ts';
import type { MergePace } from './merge.ts';

/** Between two walks over a map's layered blocks; one that gets no new sub-block for this long is merged. */
const PAUSE_MS = 10_000;

export class ClockedMergePace implements MergePace {
  private readonly clock: Clock;
  private readonly bytesPerSecond: number;
  private freeFromMs = 0;

  constructor(clock: Clock, bytesPerSecond: number) {
    this.clock = clock;
    this.bytesPerSecond = bytesPerSecond;
  }

  take(bytes: number): Promise<void> {
    const nowMs = this.clock.nowMs();
    const fromMs = Math.max(nowMs, this.freeFromMs);
    this.freeFromMs = fromMs + (bytes / this.bytesPerSecond) * 1000;
    return fromMs === nowMs ? Promise.resolve() : this.after(fromMs - nowMs);
  }

  pause(): Promise<void> {
    return this.after(PAUSE_MS);
  }

  private after(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.clock.setTimer(ms, resolve);
    });
  }
}
