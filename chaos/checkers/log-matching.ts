/**
 * Verifies that two logs that have an entry of the same index and term have the same entries before it, as far as both hold them. Looks
 * at all pairs now and then, and at the end; a difference that came and went between is not seen.
 */
import type { LogIndex } from '../../src/raft/core/types.ts';
import { type Checker, type Observed, type Surroundings, Violation } from './checker.ts';

const EVERY_EVENTS = 400;

export class LogMatching implements Checker {
  readonly name = 'log-matching';
  private events = 0;

  afterEvent(_member: Observed, world: Surroundings): void {
    if (++this.events % EVERY_EVENTS === 0) this.end(world);
  }

  end(world: Surroundings): void {
    const members = [...world.running()];
    for (const [position, one] of members.entries()) {
      for (const other of members.slice(position + 1)) this.compare(one, other);
    }
  }

  private compare(one: Observed, other: Observed): void {
    const a = one.state.log;
    const b = other.state.log;
    let agreed = false;
    for (let index = Math.min(a.lastIndex, b.lastIndex); index > Math.max(a.baseIndex, b.baseIndex); index--) {
      const same = a.termAt(index as LogIndex) === b.termAt(index as LogIndex);
      if (agreed && !same) throw new Violation(this.name, `${one.id} and ${other.id} agree behind entry ${index} and not at it`);
      agreed ||= same;
    }
  }
}
