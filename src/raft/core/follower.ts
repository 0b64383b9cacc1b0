/** What a follower does with its leader's messages. */
import type { CoreState } from './state.ts';
import type { LogIndex, MessageOf, Term } from './types.ts';

export function handleAppend(state: CoreState, message: MessageOf<'append'>): void {
  const { log } = state;
  const { from, previousIndex, previousTerm, entries, quiet } = message;
  if (previousIndex < log.committed) {
    // Old news; what is committed matches in any case. The reply waits for the disk, because a commit index may run ahead of it.
    if (!quiet) accept(state, from, log.committed);
    return;
  }
  if (!log.matches(previousIndex, previousTerm)) {
    const hintIndex = log.lastIndexWithTermUpTo(previousIndex, previousTerm);
    const hintTerm = log.termAt(hintIndex) as Term;
    state.send(from, { type: 'appendReply', rejected: true, index: previousIndex, hintIndex, hintTerm });
    return;
  }
  log.merge(entries);
  const lastIndex = (previousIndex + entries.length) as LogIndex;
  // Only as far as this message proves that the logs match: what lies beyond may be another leader's.
  log.commitTo(Math.min(message.commit, lastIndex) as LogIndex);
  if (!quiet) accept(state, from, lastIndex);
}

export function handleHeartbeat(state: CoreState, message: MessageOf<'heartbeat'>): void {
  state.log.commitTo(message.commit);
  state.send(message.from, { type: 'heartbeatReply', round: message.round });
}

/** The shell has staged the snapshot; this decides whether it is wanted. It speaks of committed state, so its term does not matter. */
export function handleSnapshot(state: CoreState, message: MessageOf<'snapshot'>): void {
  const { log } = state;
  const { snapshot } = message;
  if (snapshot.index > log.committed) {
    // A log that has the snapshot's last entry has all before it, and may have more that was acknowledged: it is kept.
    if (log.matches(snapshot.index, snapshot.term)) log.commitTo(snapshot.index);
    else {
      log.restore(snapshot);
      state.restored = snapshot;
    }
  }
  accept(state, message.from, log.committed);
}

function accept(state: CoreState, leader: string, index: LogIndex): void {
  state.sendAfterPersist(leader, { type: 'appendReply', rejected: false, index, hintIndex: 0 as LogIndex, hintTerm: 0 as Term });
}
