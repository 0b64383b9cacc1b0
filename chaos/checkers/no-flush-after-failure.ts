/** Verifies that a volume whose sync has failed acknowledges no flush any more. Does not verify what a flush makes durable. */
import { Violation } from './checker.ts';

export function checkFlushFails(failedBefore: boolean, flushed: boolean): void {
  if (failedBefore && flushed) throw new Violation('no-flush-after-failure', 'a flush succeeds after the volume has failed');
}
