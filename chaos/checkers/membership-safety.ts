/**
 * Verifies that a leader has at most one membership change that is not committed, and begins none before it has committed an entry of its
 * own term. Does not verify that two configurations share a quorum; a test of `changeTo` does that for all of them.
 */
import type { LogIndex } from '../../src/raft/core/types.ts';
import { type Checker, type Observed, Violation } from './checker.ts';

export class MembershipSafety implements Checker {
  readonly name = 'membership-safety';

  afterEvent({ id, state }: Observed): void {
    if (state.role !== 'leader') return;
    const { log } = state;
    if (log.configurationIndex <= log.committed) return;
    const open = log.slice(log.committed, log.lastIndex, Number.POSITIVE_INFINITY).filter(({ kind }) => kind === 'configuration');
    if (open.length > 1) throw new Violation(this.name, `${id} has ${open.length} membership changes under way in term ${state.term}`);
    const own = open.find(({ term }) => term === state.term);
    if (own !== undefined && log.termAt(log.committed as LogIndex) !== state.term) {
      throw new Violation(this.name, `${id} changes the membership at ${own.index} before it has committed anything in term ${state.term}`);
    }
  }
}
