/** I/O that nobody serves now, in order, until somebody does or it has waited for too long. */
import type { Clock, Timer } from '../base/index.ts';
import type { VolumeIo } from './device.ts';
import { IoQueue } from './io-queue.ts';

export class HeldIo {
  private readonly queue = new IoQueue();
  private readonly clock: Clock;
  private readonly timeoutMs: number;
  private readonly waitedInVain: () => void;
  private timer: Timer | null = null;

  constructor(clock: Clock, timeoutMs: number, waitedInVain: () => void) {
    this.clock = clock;
    this.timeoutMs = timeoutMs;
    this.waitedInVain = waitedInVain;
  }

  push(io: VolumeIo): void {
    this.queue.push(io);
    this.startTimer();
  }

  /** What came before everything that is held. */
  putBack(ios: readonly VolumeIo[]): void {
    if (ios.length === 0) return;
    this.queue.unshiftAll(ios);
    this.startTimer();
  }

  /** Somebody serves again, and takes what is held. */
  stopTimer(): void {
    this.timer?.cancel();
    this.timer = null;
  }

  shift(): VolumeIo | null {
    return this.queue.shift();
  }

  private startTimer(): void {
    this.timer ??= this.clock.setTimer(this.timeoutMs, () => {
      this.timer = null;
      this.waitedInVain();
    });
  }
}
