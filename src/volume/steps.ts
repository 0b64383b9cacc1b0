/** Runs one step at a time whenever something has changed, and again at a pace while it fails. */
import { ArchipelagoError, AssertionFailure, type Clock, type Timer } from '../base/index.ts';

/** Pause before a step that failed is tried again; it doubles up to the second one. */
const MIN_RETRY_MS = 20;
export const MAX_RETRY_MS = 500;

export class Steps {
  private readonly clock: Clock;
  private readonly step: () => Promise<void>;
  private readonly ended: (error: ArchipelagoError | null) => void;
  private changed = false;
  private running = false;
  private retryTimer: Timer | null = null;
  private retryMs = MIN_RETRY_MS;

  /** `ended` is told of the outcome of each step. */
  constructor(clock: Clock, step: () => Promise<void>, ended: (error: ArchipelagoError | null) => void) {
    this.clock = clock;
    this.step = step;
    this.ended = ended;
  }

  /** Another step is to be taken, after the one that runs. */
  want(): void {
    this.changed = true;
    if (this.running) return;
    this.running = true;
    this.retryTimer?.cancel();
    this.retryTimer = null;
    void this.run();
  }

  private async run(): Promise<void> {
    while (this.changed) {
      this.changed = false;
      try {
        await this.step();
        this.retryMs = MIN_RETRY_MS;
        this.ended(null);
      } catch (error) {
        if (error instanceof AssertionFailure) throw error;
        if (!this.changed) this.retryTimer = this.clock.setTimer(this.retryMs, () => this.want());
        this.retryMs = Math.min(this.retryMs * 2, MAX_RETRY_MS);
        this.ended(ArchipelagoError.from(error, 'serving a volume'));
      }
    }
    this.running = false;
  }
}
