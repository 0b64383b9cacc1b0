/**
 * Verifies that a member's commit index never falls within one life of its process, and that the terms it leads never fall, across
 * restarts too. A term that it told nobody may be forgotten in a crash, so other terms are not compared.
 */
import { type Checker, type Observed, Violation } from './checker.ts';

export class Monotonic implements Checker {
  readonly name = 'monotonic';
  private readonly terms = new Map<string, number>();
  /** By the member's state object, of which each life has its own. */
  private readonly commits = new WeakMap<object, number>();

  afterEvent({ id, state }: Observed): void {
    const commit = this.commits.get(state) ?? 0;
    if (state.log.committed < commit) throw new Violation(this.name, `the commit index of ${id} falls from ${commit} to ${state.log.committed}`);
    this.commits.set(state, state.log.committed);
    if (state.role === 'leader') {
      const term = this.terms.get(id) ?? 0;
      if (state.term < term) throw new Violation(this.name, `${id} leads term ${state.term} after term ${term}`);
      this.terms.set(id, state.term);
    }
  }
}
