/**
 * Verifies what Raft promises about a committed entry: it is durable on a quorum at the moment when it first counts as committed, no other
 * entry ever commits at its index, and every leader of a later term has it. Does not verify what is made of it; that is `states-agree`.
 */
import { quorumValue } from '../../src/raft/core/quorum.ts';
import type { LogIndex } from '../../src/raft/core/types.ts';
import { type Checker, type Observed, type Surroundings, Violation } from './checker.ts';

export class CommittedSurvives implements Checker {
  readonly name = 'committed-survives';
  /** Term of each committed entry, by index. */
  private readonly committed: number[] = [0];
  /** In which leader's term each was committed. A leader of an older term that hears late of its election need not have it. */
  private readonly committedIn: number[] = [0];
  /** How far each member's commit index was looked at. */
  private readonly seen = new Map<string, number>();
  private readonly checkedLeaders = new Set<number>();

  afterEvent(member: Observed, world: Surroundings): void {
    const { id, state } = member;
    const { log } = state;
    const before = this.seen.get(id) ?? 0;
    if (log.committed !== before) {
      for (let index = Math.max(Math.min(before, log.committed), log.baseIndex) + 1; index <= log.committed; index++) {
        this.check(member, index, log.termAt(index as LogIndex) as number, world);
      }
      this.seen.set(id, log.committed);
    }
    if (state.role === 'leader' && !this.checkedLeaders.has(state.term)) {
      this.checkedLeaders.add(state.term);
      this.checkLeader(member);
    }
  }

  private check({ id, state }: Observed, index: number, term: number, world: Surroundings): void {
    const known = this.committed[index];
    if (known !== undefined) {
      if (known !== term) throw new Violation(this.name, `entry ${index} was committed in term ${known}, and ${id} commits one of term ${term}`);
      return;
    }
    this.committed[index] = term;
    this.committedIn[index] = state.term;
    const held = quorumValue(state.log.configuration, (voter) => (world.durableAt(voter, index, term) ? 1 : 0));
    if (held < 1) throw new Violation(this.name, `${id} commits entry ${index} of term ${term}, which is not durable on a quorum`);
  }

  private checkLeader({ id, state }: Observed): void {
    const { log } = state;
    for (let index = log.baseIndex + 1; index < this.committed.length; index++) {
      const term = this.committed[index];
      if (term === undefined || (this.committedIn[index] as number) >= state.term || log.matches(index as LogIndex, term as typeof state.term))
        continue;
      throw new Violation(this.name, `${id} leads term ${state.term} without the committed entry ${index} of term ${term}`);
    }
  }
}
