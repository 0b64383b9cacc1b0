/**
 * Verifies that whatever a volume or a snapshot that was not removed refers to is there: at every use, and in the end for all of them. Does not
 * verify that it holds the right data.
 */
import type { ArchipelagoError } from '../../src/base/index.ts';
import { Violation } from './checker.ts';

const NAME = 'no-live-object-freed';

/** Of an operation on something that was not removed. */
export function checkFound(error: ArchipelagoError): void {
  if (error.code === 'not-found') throw new Violation(NAME, `what is still in use is missing: ${error.message}`);
}

/** Everything that is referred to, by name, against what is there. */
export function checkNoneMissing(reached: ReadonlySet<string>, present: ReadonlyMap<string, unknown>): void {
  for (const name of reached) if (!present.has(name)) throw new Violation(NAME, `${name} is missing`);
}
