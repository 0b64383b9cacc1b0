/** A simulated machine: it can crash, pause, and has a clock that runs a little fast or slow. */
import type { Clock, Timer } from '../../src/base/index.ts';
import { type Scheduler, Task } from './scheduler.ts';

export class Host {
  readonly id: string;
  readonly scheduler: Scheduler;
  /** How fast its clock runs: 1.1 gains six minutes an hour. */
  private readonly clockRate: number;
  /** Called before every event of the process. */
  readonly touched: () => void;
  /** Counts the lives of its process; what an earlier life began comes to nothing. */
  life = 0;
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

  get pauseLeftMs(): number {
    return this.pausedUntilMs - this.scheduler.nowMs;
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
    const task = new LifeTask(this, run);
    this.scheduler.add(delayMs, task);
    return task;
  }

  readonly clock: Clock = {
    nowMs: () => this.scheduler.nowMs * this.clockRate,
    wallMs: () => this.scheduler.nowMs * this.clockRate,
    setTimer: (delayMs, callback) => this.in(delayMs / this.clockRate, callback),
  };
}

class LifeTask extends Task implements Timer {
  private readonly host: Host;
  private readonly life: number;
  private readonly callback: () => void;
  private cancelled = false;

  constructor(host: Host, callback: () => void) {
    super();
    this.host = host;
    this.life = host.life;
    this.callback = callback;
  }

  run(): void {
    const { host } = this;
    if (this.cancelled || host.life !== this.life) return;
    if (host.isPaused) {
      host.scheduler.add(host.pauseLeftMs, this);
      return;
    }
    host.touched();
    this.callback();
  }

  cancel(): void {
    this.cancelled = true;
  }
}
