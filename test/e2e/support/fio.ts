import { type FioJob, type FioResult, runFio } from '../../../chaos/process/fio.ts';
import { atTestEnd } from './processes.ts';

export type { FioResult };

/** fio as the soaks run it; it ends with the test. */
export function fioVerify(job: FioJob): Promise<FioResult> {
  return runFio(atTestEnd, job);
}
