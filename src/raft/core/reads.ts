/**
 * ReadIndex (thesis 6.4): a linearizable read without a log entry. The leader notes its commit index, proves with a round of heartbeats
 * that *began after the request* that it still leads, and answers the index. Two traps: before the first commit of its term a leader does
 * not know what is committed; and a late reply to an older round proves nothing about a newer read.
 */
import { quorumValue } from './quorum.ts';
import type { CoreState, Leadership } from './state.ts';
import type { LogIndex, MessageOf, NodeId } from './types.ts';

/** Reads that may wait at a leader; shells batch, so it takes many members to get there. */
const MAX_PENDING_READS = 4096;

export function requestRead(state: CoreState, context: number): void {
  if (state.leadership !== null) addRead(state, state.leadership, state.id, context);
  else if (state.leader !== null) state.send(state.leader, { type: 'readIndex', context });
  else state.answerRead({ from: state.id, context }, 0 as LogIndex, true);
}

export function handleReadIndex(state: CoreState, message: MessageOf<'readIndex'>): void {
  if (state.leadership !== null) addRead(state, state.leadership, message.from, message.context);
  else state.answerRead(message, 0 as LogIndex, true);
}

export function handleReadIndexReply(state: CoreState, message: MessageOf<'readIndexReply'>): void {
  const { context, index, refused } = message;
  state.reads.push({ context, index, refused });
}

/** Answers the reads whose round a quorum has answered. */
export function confirmReads(state: CoreState, leadership: Leadership): void {
  if (leadership.reads.length === 0) return;
  const confirmed = quorumValue(state.log.configuration, (id) => (id === state.id ? leadership.round : (leadership.progress.get(id)?.round ?? 0)));
  const waiting = leadership.reads.findIndex((read) => read.round > confirmed);
  const ready = waiting < 0 ? leadership.reads.splice(0) : leadership.reads.splice(0, waiting);
  for (const read of ready) state.answerRead(read, read.index, false);
}

export function broadcastHeartbeat(state: CoreState, leadership: Leadership): void {
  leadership.heartbeatElapsed = 0;
  for (const [id, progress] of leadership.progress) {
    // Never beyond what is known to match there: the follower could not tell whether it has the right entries.
    const commit = Math.min(state.log.committed, progress.match) as LogIndex;
    state.send(id, { type: 'heartbeat', commit, round: leadership.round });
  }
}

/** True once this leader has committed an entry of its own term, and so knows everything that was committed before. */
export function hasCommittedInTerm(state: CoreState): boolean {
  return state.log.termAt(state.log.committed) === state.term;
}

function addRead(state: CoreState, leadership: Leadership, from: NodeId, context: number): void {
  if (!hasCommittedInTerm(state) || leadership.reads.length >= MAX_PENDING_READS) {
    state.answerRead({ from, context }, 0 as LogIndex, true);
    return;
  }
  leadership.round++;
  leadership.reads.push({ from, context, index: state.log.committed, round: leadership.round });
  broadcastHeartbeat(state, leadership);
  // A voter without others is its own quorum.
  confirmReads(state, leadership);
}
