/** What a scenario of the simulator is, and what becomes of one of its worlds, in words that can be passed between threads. */
import { Violation } from '../checkers/checker.ts';

/** Sums of all worlds, as the last line of the output has them. */
export const NO_TOTALS = {
  events: 0,
  crashes: 0,
  partitions: 0,
  pauses: 0,
  elections: 0,
  failovers: 0,
  handovers: 0,
  acknowledgedWrites: 0,
};

export type Totals = Record<keyof typeof NO_TOTALS, number>;

export interface Report {
  /** What has no meaning in a scenario is left out. */
  readonly totals: Partial<Totals>;
  /** How often each kind of fault, and of what else is worth knowing, happened. */
  readonly counts: Readonly<Record<string, number>>;
}

export interface PlantedBug {
  readonly name: string;
  /** The mistake, as one would make it. */
  readonly mistake: string;
}

export interface Scenario {
  readonly name: string;
  readonly bugs: readonly PlantedBug[];
  /**
   * Runs one world, a function of its seed; a bug changes the code in it, and not what is run. Throws a `Violation`, `Stuck`, or whatever the
   * code under test threw.
   */
  run(seed: number, bug: string | null): Promise<Report>;
  /** Whether that seed's world is of a kind that can have the bug; all are where this is left out. Whoever looks for the bug passes others over. */
  canHave?(seed: number, bug: string): boolean;
}

/** The first seed from this one on whose world can have the bug. */
export function seedWith({ canHave }: Scenario, from: number, bug: string): number {
  let seed = from;
  while (canHave?.(seed, bug) === false) seed++;
  return seed;
}

/** The command that runs a world again. */
export function replayCommand(scenario: string, seed: number, bug: string | null): string {
  return `npm run sim -- --scenario ${scenario} --seed ${seed}${bug === null ? '' : ` --seeds 1 --bug ${bug}`}`;
}

/** A world that did not come to rest after all faults had ended. */
export class Stuck extends Error {
  override readonly name = 'Stuck';
}

export interface Failure {
  /** The exit status that says it: 1 a checker found a violation, 2 the world did not converge, 3 our code crashed. */
  readonly exit: 1 | 2 | 3;
  readonly text: string;
}

export interface Outcome {
  readonly scenario: string;
  readonly seed: number;
  readonly report: Report | null;
  readonly failure: Failure | null;
}

export async function runWorld({ name: scenario, run }: Scenario, seed: number, bug: string | null): Promise<Outcome> {
  try {
    return { scenario, seed, report: await run(seed, bug), failure: null };
  } catch (error) {
    return { scenario, seed, report: null, failure: failureOf(error, seed, bug !== null) };
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
