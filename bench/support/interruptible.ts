/** Benchmarks that start more than one process ends with: whatever happens, and Ctrl-C is one of the things that do, all of it is undone. */
import { type AtEnd, Ending } from '../../chaos/process/ending.ts';

export interface Undoing {
  /** Takes the steps of the clean-up, which run last one first. */
  readonly atEnd: AtEnd;
  /** Aborts when somebody stops the benchmark. Whoever waits long for something waits for this, too. */
  readonly signal: AbortSignal;
}

const INTERRUPTED = 130;

export async function interruptible<Result>(body: (undoing: Undoing) => Promise<Result>): Promise<Result> {
  const ending = new Ending();
  const stopped = new AbortController();
  const stop = () => stopped.abort();
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const each of signals) process.on(each, stop);
  try {
    return await body({ atEnd: ending.add, signal: stopped.signal });
  } catch (error) {
    // What fails because it was stopped says nothing.
    if (!stopped.signal.aborted) throw error;
  } finally {
    await ending.run();
    for (const each of signals) process.off(each, stop);
  }
  process.stderr.write('stopped\n');
  process.exit(INTERRUPTED);
}
