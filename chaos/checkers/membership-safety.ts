/**
 * Verifies that a leader has at most one membership change that is not committed, begins none before it has committed an entry of its own
 * term, and that the configuration before the change and the one after it share a member in every two quorums. A leader that has committed
 * nothing in its term may find several changes in its log, all but the last of them committed: a restarted member knows only that as
 * committed which its stored state has.
 */
import { decodeConfiguration, membersOf } from '../../src/raft/core/configuration.ts';
import { quorumValue } from '../../src/raft/core/quorum.ts';
import type { Configuration, Entry, LogIndex } from '../../src/raft/core/types.ts';
import { type Checker, type Observed, Violation } from './checker.ts';

export class MembershipSafety implements Checker {
  readonly name = 'membership-safety';
  /** The last change that was looked at, by member. */
  private readonly checked = new Map<string, Entry>();

  afterEvent({ id, state }: Observed): void {
    if (state.role !== 'leader') return;
    const { log } = state;
    if (log.configurationIndex <= log.committed) return;
    const open = log.slice(log.committed, log.lastIndex, Number.POSITIVE_INFINITY).filter(({ kind }) => kind === 'configuration');
    const knowsCommitted = log.termAt(log.committed as LogIndex) === state.term;
    if (open.length > 1 && knowsCommitted)
      throw new Violation(this.name, `${id} has ${open.length} membership changes under way in term ${state.term}`);
    const change = open.at(-1) as Entry;
    if (this.checked.get(id) !== change) {
      this.checked.set(id, change);
      const [before, after] = [log.configurationAt((change.index - 1) as LogIndex), decodeConfiguration(change.data)];
      if (!alwaysMeet(before, after))
        throw new Violation(this.name, `${id} goes from one membership to another whose quorums may not meet, at ${change.index}`);
    }
    const own = open.find(({ term }) => term === state.term);
    if (own !== undefined && !knowsCommitted) {
      throw new Violation(this.name, `${id} changes the membership at ${own.index} before it has committed anything in term ${state.term}`);
    }
  }
}

/** Whether there are no two sets of members without a common one that could each decide. */
function alwaysMeet(one: Configuration, other: Configuration): boolean {
  const ids = [...new Set([...membersOf(one), ...membersOf(other)])];
  for (let mask = 0; mask < 1 << ids.length; mask++) {
    const inside = (id: string) => (mask >> ids.indexOf(id)) & 1;
    if (quorumValue(one, inside) === 1 && quorumValue(other, (id) => 1 - inside(id)) === 1) return false;
  }
  return true;
}
