/** A simulated machine: it can crash, pause, and has a clock that runs a little fast or slow. */
import type { Clock, Timer } from '../../src/base/index.ts';
import type { Scheduler } from './scheduler.ts';

export class Host {
  readonly id: string;
  private readonly scheduler: Scheduler;
  /** How fast its clock runs: 1.1 gains six minutes an hour. */
  private readonly clockRate: number;
  /** Called with every event of the process. */
  private readonly touched: () => void;
  /** Counts the lives of its process; what an earlier life began comes to nothing. */
  private life = 0;
  private pausedUntilMs = 0;

  constructor(id: string, scheduler: Scheduler, clockRate: number, touched: () => void) {
    this.touched = touched;
    this.id = id;
    this.scheduler = scheduler;
    this.clockRate = clockRate;
  }

  get isPaused(): boolean {
    return this.scheduler.nowMs < this.pausedUntilMs;
  }

  /** Ends the current life. */
  crash(): void {
    this.life++;
    this.pausedUntilMs = 0;
  }

  pause(durationMs: number): void {
    this.pausedUntilMs = Math.max(this.pausedUntilMs, this.scheduler.nowMs + durationMs);
  }

  /** Tells at any later time whether the life that is now still goes on. */
  lifeline(): () => boolean {
    const { life } = this;
    return () => this.life === life;
  }

  /** Runs something in this life of the process, after a delay of real time and any pause. */
  in(delayMs: number, run: () => void): Timer {
    let cancelled = false;
    const alive = this.lifeline();
    const attempt = () => {
      if (cancelled || !alive()) return;
      if (this.isPaused) this.scheduler.in(this.pausedUntilMs - this.scheduler.nowMs, attempt);
      else {
        this.touched();
        run();
      }
    };
    this.scheduler.in(delayMs, attempt);
    return {
      cancel: () => {
        cancelled = true;
      },
    };
  }

  readonly clock: Clock = {
    nowMs: () => this.scheduler.nowMs * this.clockRate,
    wallMs: () => this.scheduler.nowMs * this.clockRate,
    setTimer: (delayMs, callback) => this.in(delayMs / this.clockRate, callback),
  };
}
