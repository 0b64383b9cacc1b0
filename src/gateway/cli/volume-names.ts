/** Names as arguments of the command line. */
import { ArchipelagoError } from '../../base/index.ts';
import { nameProblem } from '../http/names.ts';

export function checkedName(name: string, what = 'name'): string {
  const problem = nameProblem(name);
  if (problem === null) return name;
  const hint = "names have 1 to 255 bytes of UTF-8, without '/' and control characters";
  throw new ArchipelagoError('invalid-argument', `the ${what} '${name}' ${problem}`, { hint });
}
