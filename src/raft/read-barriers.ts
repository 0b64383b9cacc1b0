/** Read barriers that wait. One question to the leader is under way at a time; barriers that come meanwhile share the next one. */
import { ArchipelagoError, type Clock } from '../base/index.ts';
import type { ReadState } from './core/types.ts';

interface Waiting {
  readonly deadlineMs: number;
  readonly resolve: () => void;
  readonly reject: (error: ArchipelagoError) => void;
}

export class ReadBarriers {
  /** Came after the question was asked: its answer would say nothing about them. */
  private queued: Waiting[] = [];
  private asked: { readonly context: number; readonly atMs: number; waiting: Waiting[] } | null = null;
  /** Confirmed, and waiting for the state machine to get there. */
  private confirmed: { readonly index: number; readonly waiting: Waiting[] }[] = [];
  private readonly clock: Clock;
  private readonly ask: (context: number) => void;
  private readonly nextContext: () => number;
  private readonly retryMs: number;

  /** `nextContext` gives numbers that are never used again, not even after a restart: else an old answer could come for a new question. */
  constructor(clock: Clock, ask: (context: number) => void, nextContext: () => number, retryMs: number) {
    this.clock = clock;
    this.ask = ask;
    this.nextContext = nextContext;
    this.retryMs = retryMs;
  }

  add(timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.queued.push({ deadlineMs: this.clock.nowMs() + timeoutMs, resolve, reject });
    });
  }

  /** Asks for what is queued, unless a question is under way. */
  submit(): void {
    if (this.asked !== null || this.queued.length === 0) return;
    this.asked = { context: this.nextContext(), atMs: this.clock.nowMs(), waiting: this.queued };
    this.queued = [];
    this.ask(this.asked.context);
  }

  answer(read: ReadState, appliedIndex: number): void {
    if (this.asked?.context !== read.context) return;
    const { waiting } = this.asked;
    this.asked = null;
    // A refusal is tried again at the next tick.
    if (read.refused) this.queued = [...waiting, ...this.queued];
    else {
      this.confirmed.push({ index: read.index, waiting });
      this.applied(appliedIndex);
      this.submit();
    }
  }

  applied(index: number): void {
    if (this.confirmed.length === 0) return;
    const still: typeof this.confirmed = [];
    for (const read of this.confirmed) {
      if (read.index > index) still.push(read);
      else for (const waiting of read.waiting) waiting.resolve();
    }
    this.confirmed = still;
  }

  tick(): void {
    const now = this.clock.nowMs();
    if (this.asked !== null && now - this.asked.atMs >= this.retryMs) this.askAgain();
    if (this.asked !== null) this.asked.waiting = withoutOverdue(this.asked.waiting, now);
    this.queued = withoutOverdue(this.queued, now);
    this.confirmed = this.confirmed.map(({ index, waiting }) => ({ index, waiting: withoutOverdue(waiting, now) }));
    this.submit();
  }

  /** The question may be lost with the leader that it went to. */
  askAgain(): void {
    if (this.asked === null) return;
    this.queued = [...this.asked.waiting, ...this.queued];
    this.asked = null;
  }

  failAll(reason: string): void {
    this.askAgain();
    const waiting = [...this.queued, ...this.confirmed.flatMap((read) => read.waiting)];
    this.queued = [];
    this.confirmed = [];
    for (const { reject } of waiting) reject(new ArchipelagoError('unavailable', reason));
  }
}

function withoutOverdue(waiting: Waiting[], now: number): Waiting[] {
  return waiting.filter(({ deadlineMs, reject }) => {
    if (deadlineMs > now) return true;
    reject(new ArchipelagoError('unavailable', 'no leader confirmed a read in time', { hint: 'check that a majority of the nodes runs' }));
    return false;
  });
}
