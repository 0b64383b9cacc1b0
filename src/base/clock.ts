/** Time as the code sees it. The shells pass the real one, the simulator a seeded one; nothing else may ask for the time. */

export interface Timer {
  /** Stops the timer; its callback does not run afterwards. Calling it twice does nothing. */
  cancel(): void;
}

export interface Clock {
  /** Milliseconds on a monotonic clock that all processes of one host share (CLOCK_MONOTONIC); not wall time. */
  nowMs(): number;
  /** Milliseconds since 1970, for people to read; never for decisions. */
  wallMs(): number;
  /** Runs `callback` once, not before `delayMs` have passed. It may run late; whoever decides by time asks `nowMs` again. */
  setTimer(delayMs: number, callback: () => void): Timer;
}
