/** What became of one world, in words that can be passed between threads. */
import { Violation } from '../../checkers/checker.ts';
import { BUGS } from './bugs/index.ts';
import { Stuck } from './convergence.ts';
import { World, type WorldReport } from './world.ts';

export interface Failure {
  /** The exit status that says it: 1 a checker found a violation, 2 the world did not converge, 3 our code crashed. */
  readonly exit: 1 | 2 | 3;
  readonly text: string;
}

export interface Outcome {
  readonly seed: number;
  readonly report: WorldReport | null;
  readonly failure: Failure | null;
}

/** Runs one world, with a planted bug or null. */
export async function runWorld(seed: number, bugName: string | null): Promise<Outcome> {
  const bug = BUGS.find(({ name }) => name === bugName) ?? null;
  try {
    return { seed, report: await new World(seed, bug).run(), failure: null };
  } catch (error) {
    return { seed, report: null, failure: failureOf(error, seed, bug !== null) };
  }
}

function failureOf(error: unknown, seed: number, planted: boolean): Failure {
  if (error instanceof Violation) return { exit: 1, text: `violation found by ${error.checker}, seed ${seed}: ${error.message}` };
  if (error instanceof Stuck) return { exit: 2, text: `stuck (found by liveness), seed ${seed}: ${error.message}` };
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  // Code with a planted bug that crashes is a find like any other.
  if (planted) return { exit: 1, text: `violation found by crash, seed ${seed}: ${stack}` };
  return { exit: 3, text: `crash, seed ${seed}: ${stack}` };
}
