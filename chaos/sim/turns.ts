/**
 * Puts simulated events into turns of the real event loop, so that whatever an event set off with promises and microtasks has come to rest
 * before the next one begins, as in production. Node empties the queue of microtasks between two callbacks of `setImmediate`; those of one
 * batch cost no further round of the event loop. No decision hangs on when a turn is.
 */
const BATCH = 32;

/** Runs `step` in turn after turn until it returns false. Rejects with what it throws. */
export function eachTurn(step: () => boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    let going = true;
    let waiting = 0;
    const turn = () => {
      waiting--;
      if (!going) return;
      try {
        going = step();
      } catch (error) {
        going = false;
        reject(error);
        return;
      }
      if (!going) resolve();
      else if (waiting === 0) fill();
    };
    const fill = () => {
      for (waiting = 0; waiting < BATCH; waiting++) setImmediate(turn);
    };
    fill();
  });
}

/** Resolves once everything that promises and microtasks have set off so far has come to rest. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
