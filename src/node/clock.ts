/** The real clock. */
import type { Clock } from '../base/index.ts';

/** `performance.now` counts from the start of the process on the same clock, and is read without allocating. */
const originMs = Number(process.hrtime.bigint()) / 1e6 - performance.now();

export const systemClock: Clock = {
  nowMs: () => originMs + performance.now(),
  wallMs: () => Date.now(),
  setTimer(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};
