/** Simulated time: events in the order of their times, those of one moment in the order in which they were made. */

/** Something that happens at a time. It may be scheduled again once it has happened. */
export abstract class Task {
  /** Both are the scheduler's. */
  atMs = 0;
  order = 0;

  abstract run(): void;
}

class Call extends Task {
  private readonly call: () => void;

  constructor(call: () => void) {
    super();
    this.call = call;
  }

  run(): void {
    this.call();
  }
}

export class Scheduler {
  private now = 0;
  private made = 0;
  /** A binary heap. */
  private readonly heap: Task[] = [];

  get nowMs(): number {
    return this.now;
  }

  in(delayMs: number, run: () => void): void {
    this.add(delayMs, new Call(run));
  }

  /** Schedules a task that is not scheduled. */
  add(delayMs: number, task: Task): void {
    task.order = ++this.made;
    task.atMs = delayMs > 0 ? this.now + delayMs : this.now;
    this.push(task);
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

  private push(task: Task): void {
    const { heap } = this;
    let at = heap.push(task) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(task, heap[parent] as Task)) break;
      heap[at] = heap[parent] as Task;
      at = parent;
    }
    heap[at] = task;
  }

  private pop(): void {
    const { heap } = this;
    const task = heap.pop() as Task;
    const { length } = heap;
    if (length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= length) break;
      if (child + 1 < length && before(heap[child + 1] as Task, heap[child] as Task)) child++;
      if (!before(heap[child] as Task, task)) break;
      heap[at] = heap[child] as Task;
      at = child;
    }
    heap[at] = task;
  }
}

function before(a: Task, b: Task): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
