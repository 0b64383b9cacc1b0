/** Waiting for what real processes do in their own time. */
import { setTimeout as sleep } from 'node:timers/promises';

const POLL_MS = 25;

/** Resolves to the first value that is neither false, null nor undefined; fails after `timeoutMs`, saying what it waited for. */
export async function eventually<Value>(
  what: string,
  probe: () => Value | Promise<Value>,
  timeoutMs = 30_000,
): Promise<Exclude<Value, false | null | undefined>> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const value = await probe();
    if (value !== false && value !== null && value !== undefined) return value as Exclude<Value, false | null | undefined>;
    if (performance.now() >= deadline) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`);
    await sleep(POLL_MS);
  }
}

/** Sleeps, and wakes at once when `signal` aborts. */
export async function sleepUntilAborted(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
}

export { sleep };
