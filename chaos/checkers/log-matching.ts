/**
 * Verifies that two logs that have an entry of the same index and term have the same entry there, and the same entries before it. Each entry
 * is looked at when it comes into a log: it must be the entry, behind one of the term, that the first of its index and term was; so the rest
 * follows by induction. Does not verify what is on disks.
 */
import type { CoreState } from '../../src/raft/core/state.ts';
import type { Entry, LogIndex } from '../../src/raft/core/types.ts';
import { type Checker, type Observed, Violation } from './checker.ts';

interface First {
  readonly id: string;
  readonly entry: Entry;
  readonly previousTerm: number;
}

export class LogMatching implements Checker {
  readonly name = 'log-matching';
  /** By index, then by term. */
  private readonly firsts: Map<number, First>[] = [];
  private readonly checked = new WeakSet<Entry>();
  /** The end of each member's log when it was looked at last, by the state of its life. */
  private readonly ends = new WeakMap<CoreState, Entry | null>();

  afterEvent(member: Observed): void {
    const { state, entries } = member;
    const end = entries[entries.length - 1] ?? null;
    const before = this.ends.get(state);
    if (end === before) return;
    this.ends.set(state, end);
    for (let position = entries.length - 1; position >= 0; position--) {
      const entry = entries[position] as Entry;
      // What is before an entry changes only together with it, unless a restart has put it there.
      if (before !== undefined && this.checked.has(entry)) return;
      this.checked.add(entry);
      this.check(member, entry);
    }
  }

  private check({ id, state }: Observed, entry: Entry): void {
    const { index, term } = entry;
    const previousTerm = state.log.termAt((index - 1) as LogIndex);
    if (previousTerm === null) throw new Violation(this.name, `${id} has entry ${index} and none before it`);
    this.firsts[index] ??= new Map();
    const terms = this.firsts[index];
    const first = terms.get(term);
    if (first === undefined) {
      terms.set(term, { id, entry, previousTerm });
      return;
    }
    if (first.previousTerm !== previousTerm)
      throw new Violation(this.name, `${first.id} and ${id} agree on the term ${term} of entry ${index} and not on the entry before it`);
    if (!isSame(first.entry, entry)) throw new Violation(this.name, `${first.id} and ${id} have different entries ${index} of term ${term}`);
  }
}

function isSame(one: Entry, other: Entry): boolean {
  if (one === other) return true;
  return (
    one.kind === other.kind &&
    one.clientId === other.clientId &&
    one.session === other.session &&
    one.sequence === other.sequence &&
    one.data.byteLength === other.data.byteLength &&
    one.data.every((byte, at) => byte === other.data[at])
  );
}
