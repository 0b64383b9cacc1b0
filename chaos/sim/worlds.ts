/** Runs the worlds of a series of seeds, here or in several threads, until one fails or no seed is left. */
import { Worker } from 'node:worker_threads';
import { type Outcome, runWorld, type Scenario, seedWith } from './scenario.ts';

export interface Series {
  /** They take turns: which one a seed runs depends on the seed alone. With a bug there is one. */
  readonly scenarios: readonly Scenario[];
  readonly first: number;
  readonly count: number;
  readonly bug: string | null;
  readonly threads: number;
  /** Whether there is time for another world. */
  readonly goesOn: () => boolean;
}

interface Draw {
  readonly scenario: Scenario;
  readonly seed: number;
}

/** Tells of each world that was run; with several threads not in the order of the seeds. */
export async function runSeries(series: Series, tell: (outcome: Outcome) => void): Promise<void> {
  const { scenarios, first, count, bug, threads, goesOn } = series;
  let next = first;
  let failed = false;
  const draw = (): Draw | null => {
    const [only] = scenarios;
    if (bug !== null && only !== undefined) next = seedWith(only, next, bug);
    if (failed || next >= first + count || !goesOn()) return null;
    const seed = next++;
    return { scenario: scenarios[seed % scenarios.length] as Scenario, seed };
  };
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
  for (let world = draw(); world !== null; world = draw()) note(await runWorld(world.scenario, world.seed, bug));
}

function inThread(bug: string | null, draw: () => Draw | null, note: (outcome: Outcome) => void): Promise<void> {
  const worker = new Worker(new URL('worker.ts', import.meta.url), { workerData: { bug } });
  return new Promise((resolve, reject) => {
    const feed = () => {
      const world = draw();
      if (world !== null) worker.postMessage({ scenario: world.scenario.name, seed: world.seed });
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
