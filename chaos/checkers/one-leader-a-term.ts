/** Verifies that no two members ever lead the same term. Does not verify that anyone leads. */
import { type Checker, type Observed, Violation } from './checker.ts';

export class OneLeaderATerm implements Checker {
  readonly name = 'one-leader-a-term';
  private readonly leaders = new Map<number, string>();

  afterEvent({ id, state }: Observed): void {
    if (state.role !== 'leader') return;
    const leader = this.leaders.get(state.term);
    if (leader === undefined) this.leaders.set(state.term, id);
    else if (leader !== id) throw new Violation(this.name, `${leader} and ${id} both lead term ${state.term}`);
  }

  get elections(): number {
    return this.leaders.size;
  }
}
