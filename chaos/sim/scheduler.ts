/** Simulated time: events in the order of their times, those of one moment in the order in which they were made. */
interface Scheduled {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
}

export class Scheduler {
  private now = 0;
  private made = 0;
  /** A binary heap. */
  private readonly heap: Scheduled[] = [];

  get nowMs(): number {
    return this.now;
  }

  in(delayMs: number, run: () => void): void {
    this.made++;
    this.push({ atMs: this.now + Math.max(0, delayMs), order: this.made, run });
  }

  /** Runs the next event; false when none is left at or before `untilMs`, and then that is the time. */
  step(untilMs: number): boolean {
    const next = this.heap[0];
    if (next === undefined || next.atMs > untilMs) {
      this.now = untilMs;
      return false;
    }
    this.pop();
    this.now = next.atMs;
    next.run();
    return true;
  }

  private push(item: Scheduled): void {
    const { heap } = this;
    let at = heap.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(item, heap[parent] as Scheduled)) break;
      heap[at] = heap[parent] as Scheduled;
      at = parent;
    }
    heap[at] = item;
  }

  private pop(): void {
    const { heap } = this;
    const item = heap.pop() as Scheduled;
    const { length } = heap;
    if (length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= length) break;
      if (child + 1 < length && before(heap[child + 1] as Scheduled, heap[child] as Scheduled)) child++;
      if (!before(heap[child] as Scheduled, item)) break;
      heap[at] = heap[child] as Scheduled;
      at = child;
    }
    heap[at] = item;
  }
}

function before(a: Scheduled, b: Scheduled): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
