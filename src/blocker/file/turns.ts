/**
 * Lets one caller a turn of the event loop go on. Work that takes the thread for milliseconds, asked for many times at once, would otherwise be
 * one long turn in which this process answers nobody: neither clients, nor the control process, which takes it for dead.
 */
export class Turns {
  private readonly waiting: (() => void)[] = [];
  private readonly afterwards: (() => void)[] = [];
  private taken = false;

  /** Resolves at once if nobody else has had this turn, or in a later one, in the order of calls. */
  next(): Promise<void> {
    return new Promise((resolve) => {
      this.waiting.push(resolve);
      if (!this.taken) this.goOn();
    });
  }

  /** Resolves when nobody waits for a turn any more. */
  whenNobodyWaits(): Promise<void> {
    return this.taken ? new Promise((resolve) => void this.afterwards.push(resolve)) : Promise.resolve();
  }

  private readonly goOn = (): void => {
    const first = this.waiting.shift();
    this.taken = first !== undefined;
    if (first === undefined) {
      for (const resolve of this.afterwards.splice(0)) resolve();
      return;
    }
    setImmediate(this.goOn);
    first();
  };
}

/** A turn of the event loop, for others: in the middle of long work, or before what is no hurry. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
