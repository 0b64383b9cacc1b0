/**
 * Verifies that wherever a log begins, at a compaction, a snapshot or a restart, its base names the members that the log named there. Does
 * not verify that a change of members was rightly begun; that is `membership-safety`.
 */
import { decodeConfiguration } from '../../src/raft/core/configuration.ts';
import type { CoreState } from '../../src/raft/core/state.ts';
import type { Configuration, Entry } from '../../src/raft/core/types.ts';
import { type Checker, type Observed, Violation } from './checker.ts';

interface Begin {
  readonly state: CoreState;
  readonly baseIndex: number;
}

export class MembershipsAgree implements Checker {
  readonly name = 'memberships-agree';
  /** The committed configuration entries, in order. */
  private readonly changes: { readonly index: number; readonly members: string }[] = [];
  /** Up to where they are known. */
  private known = 0;
  private readonly begins = new Map<string, Begin>();

  afterEvent(member: Observed): void {
    const { id, state } = member;
    const { log } = state;
    // A member that committed and compacted in one event has nothing to tell of what it dropped: others will.
    if (log.committed > this.known && log.baseIndex <= this.known) this.learn(member);
    const begin = this.begins.get(id);
    if (begin?.state === state && begin.baseIndex === log.baseIndex) return;
    if (log.baseIndex > this.known) return;
    this.begins.set(id, { state, baseIndex: log.baseIndex });
    const change = this.changes.findLast(({ index }) => index <= log.baseIndex);
    if (change === undefined) return;
    const members = textOf(log.configurationAt(log.baseIndex));
    if (members !== change.members)
      throw new Violation(this.name, `the log of ${id} begins after ${log.baseIndex} with ${members}, where the members are ${change.members}`);
  }

  private learn({ state, entries }: Observed): void {
    const { log } = state;
    for (let index = this.known + 1; index <= log.committed; index++) {
      const entry = entries[index - log.baseIndex - 1] as Entry;
      if (entry.kind === 'configuration') this.changes.push({ index, members: textOf(decodeConfiguration(entry.data)) });
    }
    this.known = log.committed;
  }
}

function textOf({ voters, outgoing, learners, learnersNext }: Configuration): string {
  return [voters, outgoing, learners, learnersNext].map((ids) => ids.join(' ')).join(' | ');
}
