/**
 * Verifies that in the end, with every volume released and two cycles of collection done, nothing is stored that no volume or snapshot refers
 * to: objects, pages and logs. Does not verify how soon it is freed.
 */
import { Violation } from './checker.ts';

export function checkNoneDead(kind: string, reached: ReadonlySet<string | number>, present: ReadonlyMap<string | number, unknown>): void {
  for (const name of present.keys()) {
    if (!reached.has(name)) throw new Violation('all-dead-objects-freed', `${kind} ${name} is dead, and was not collected`);
  }
}
