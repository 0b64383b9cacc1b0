/** Child processes of tests: run to their end, or ended with the test. */
import { onTestFinished } from 'vitest';
import * as programs from '../../../chaos/process/programs.ts';

export { type Ended, LAUNCHER, run, runToEnd } from '../../../chaos/process/programs.ts';

/** A step of the test's clean-up. */
export function atTestEnd(step: () => unknown): void {
  onTestFinished(async () => void (await step()));
}

/** A program that runs beside the test. The test's end kills it. */
export function runBeside(program: string, args: readonly string[], options: programs.RunOptions = {}): Promise<programs.Ended> {
  return programs.runBeside(atTestEnd, program, args, options);
}
