/**
 * When a leader's own proposals leave. A batch costs messages and a sync at each member whatever it holds, so while two batches are under way, what
 * comes waits for the older one and then leaves together. It could not be committed before that one anyway.
 */
import type { RaftCore } from './core/core.ts';
import type { Proposals } from './proposals.ts';

/** With one, the disks would be idle while the messages travel. */
const MAX_BATCHES = 2;

export class Pace {
  private term = 0;
  /** Where the log ended behind each batch of this term that is not known to be committed. */
  private readonly ends: number[] = [];

  /** Hands on all proposals that wait; false if they have to wait on. Asked again after each event. */
  submit(core: Pick<RaftCore, 'role' | 'term' | 'commitIndex' | 'lastIndex'>, proposals: Pick<Proposals, 'submit'>): boolean {
    if (core.role !== 'leader') {
      proposals.submit();
      return true;
    }
    const { ends } = this;
    if (core.term !== this.term) {
      // What an older term left may be gone from the log, and must not be waited for.
      this.term = core.term;
      ends.length = 0;
    }
    while (ends[0] !== undefined && ends[0] <= core.commitIndex) ends.shift();
    if (ends.length >= MAX_BATCHES) return false;
    const { lastIndex } = core;
    proposals.submit();
    // A leader that is overloaded or hands over takes none.
    if (core.lastIndex > lastIndex) ends.push(core.lastIndex);
    return true;
  }
}
