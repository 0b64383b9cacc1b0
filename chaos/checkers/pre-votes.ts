/**
 * Verifies that a member grants a pre-vote only to one whose log is no older than its own: otherwise those who cannot be elected would raise
 * terms and depose leaders. Does not verify that the asker's leader is gone, nor real votes; what a wrong one of those leads to is seen by
 * `committed-survives`.
 */
import type { Message } from '../../src/raft/core/types.ts';
import { type Checker, type Observed, Violation } from './checker.ts';

interface Place {
  readonly lastTerm: number;
  readonly lastIndex: number;
}

export class PreVotes implements Checker {
  readonly name = 'pre-votes';
  /** By asker and term: the newest end of the log with which it asked. */
  private readonly asked = new Map<string, Place>();

  sent({ id, state }: Observed, message: Message): void {
    if (message.type === 'preVote') {
      const question = `${id} ${message.term}`;
      const before = this.asked.get(question);
      if (before === undefined || isNewer(message, before)) this.asked.set(question, message);
    } else if (message.type === 'preVoteReply' && message.granted) {
      const asked = this.asked.get(`${message.to} ${message.term}`);
      const { lastTerm, lastIndex } = state.log;
      if (asked !== undefined && isNewer({ lastTerm, lastIndex }, asked)) {
        throw new Violation(
          this.name,
          `${id}, whose log ends at ${lastIndex} of term ${lastTerm}, tells ${message.to}, whose log ends at ${asked.lastIndex} of term ${asked.lastTerm}, to campaign`,
        );
      }
    }
  }
}

function isNewer(one: Place, other: Place): boolean {
  return one.lastTerm > other.lastTerm || (one.lastTerm === other.lastTerm && one.lastIndex > other.lastIndex);
}
