/** Work that many callers may share: each of them gets a run that began after it had asked. */
export class SharedRounds {
  private readonly work: () => Promise<void>;
  private running: Promise<void> | null = null;
  private next: Promise<void> | null = null;

  constructor(work: () => Promise<void>) {
    this.work = work;
  }

  /** Joins the run that is to follow the one under way, if there is one: at most one runs and one waits. */
  run(): Promise<void> {
    if (this.running === null) return this.start();
    if (this.next === null) {
      const follow = () => {
        this.next = null;
        return this.start();
      };
      this.next = this.running.then(follow, follow);
    }
    return this.next;
  }

  private start(): Promise<void> {
    const round = this.work();
    this.running = round;
    // While another waits, `running` stays set: a caller that came in between would start a third beside it and take its work away.
    const ended = () => {
      if (this.next === null) this.running = null;
    };
    round.then(ended, ended);
    return round;
  }
}

/** Calls `work` for each item, at most `parallel` at a time. After an error it starts no more, waits for those under way, and throws it. */
export async function forEachBounded<Item>(items: Iterable<Item>, parallel: number, work: (item: Item) => Promise<void>): Promise<void> {
  const iterator = items[Symbol.iterator]();
  let failed: { readonly error: unknown } | null = null;
  const worker = async () => {
    for (let step = iterator.next(); step.done !== true && failed === null; step = iterator.next()) {
      try {
        await work(step.value);
      } catch (error) {
        failed ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: parallel }, worker));
  if (failed !== null) throw (failed as { readonly error: unknown }).error;
}
