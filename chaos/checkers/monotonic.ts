/**
 * Verifies that a member's commit index never falls within one life of its process, and that the terms it leads never fall, across
 * restarts too. A term that it told nobody may be forgotten in a crash, so other terms are not compared.
 */
import type { CoreState } from '../../src/raft/core/state.ts';
import { type Checker, type Observed, Violation } from './checker.ts';

interface Seen {
  /** Of which life. */
  state: CoreState;
  committed: number;
  ledTerm: number;
}

export class Monotonic implements Checker {
  readonly name = 'monotonic';
  private readonly seen = new Map<string, Seen>();

  afterEvent({ id, state }: Observed): void {
    const { committed } = state.log;
    const seen = this.seen.get(id);
    if (seen === undefined) {
      this.seen.set(id, { state, committed, ledTerm: 0 });
      return;
    }
    if (seen.state !== state) seen.state = state;
    else if (committed < seen.committed) throw new Violation(this.name, `the commit index of ${id} falls from ${seen.committed} to ${committed}`);
    seen.committed = committed;
    if (state.role !== 'leader') return;
    if (state.term < seen.ledTerm) throw new Violation(this.name, `${id} leads term ${state.term} after term ${seen.ledTerm}`);
    seen.ledTerm = state.term;
  }
}
