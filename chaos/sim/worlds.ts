/** Runs the worlds of a series of seeds, here or in several threads, until one fails or no seed is left. */
import { Worker } from 'node:worker_threads';
import { type Outcome, runWorld } from './raft/outcome.ts';

export interface Series {
  readonly first: number;
  readonly count: number;
  readonly bug: string | null;
  readonly threads: number;
  /** Whether there is time for another world. */
  readonly goesOn: () => boolean;
}

/** Tells of each world that was run; with several threads not in the order of the seeds. */
export async function runSeries(series: Series, tell: (outcome: Outcome) => void): Promise<void> {
  const { first, count, bug, threads, goesOn } = series;
  let next = first;
  let failed = false;
  const draw = () => (failed || next >= first + count || !goesOn() ? null : next++);
  const note = (outcome: Outcome) => {
    // What other threads find after a failure is of no interest.
    if (failed) return;
    failed = outcome.failure !== null;
    tell(outcome);
  };
  if (threads > 1) {
    await Promise.all(Array.from({ length: threads }, () => inThread(bug, draw, note)));
    return;
  }
  for (let seed = draw(); seed !== null; seed = draw()) note(await runWorld(seed, bug));
}

function inThread(bug: string | null, draw: () => number | null, note: (outcome: Outcome) => void): Promise<void> {
  const worker = new Worker(new URL('worker.ts', import.meta.url), { workerData: { bug } });
  return new Promise((resolve, reject) => {
    const feed = () => {
      const seed = draw();
      if (seed !== null) worker.postMessage(seed);
      else worker.terminate().then(() => resolve(), reject);
    };
    worker.on('message', (outcome: Outcome) => {
      note(outcome);
      feed();
    });
    worker.on('error', reject);
    feed();
  });
}
