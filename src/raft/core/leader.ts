/** What a leader does: appends, replicates, commits, changes the membership and hands over. */
import { ArchipelagoError, assert } from '../../base/index.ts';
import { changeTo, encodeConfiguration, isJoint, isVoter, leaveJoint, type Members, membersOf } from './configuration.ts';
import { entryBytes } from './log.ts';
import { Progress } from './progress.ts';
import { quorumValue } from './quorum.ts';
import { broadcastHeartbeat, confirmReads, hasCommittedInTerm } from './reads.ts';
import type { CoreState, Leadership } from './state.ts';
import type { Configuration, Entry, LogIndex, MessageOf, NodeId, ProposalEntry, RefusalReason } from './types.ts';

export function becomeLeader(state: CoreState): void {
  assert(state.role === 'candidate', `a ${state.role} does not become leader`);
  state.role = 'leader';
  state.leader = state.id;
  state.resetElection();
  const leadership: Leadership = {
    progress: new Map(),
    heartbeatElapsed: 0,
    quorumElapsed: 0,
    reads: [],
    round: 0,
    transferTarget: null,
    transferElapsed: 0,
    uncommittedBytes: sumBytes(state, state.log.committed, state.log.lastIndex),
  };
  state.leadership = leadership;
  followMembership(state, leadership);
  append(state, leadership, [{ kind: 'noop', data: new Uint8Array(0), clientId: '', session: 0, sequence: 0, acknowledged: 0 }]);
}

export function tickLeader(state: CoreState, leadership: Leadership): void {
  if (leadership.transferTarget !== null && ++leadership.transferElapsed >= state.options.electionTicks) leadership.transferTarget = null;
  if (++leadership.quorumElapsed >= state.options.electionTicks) {
    leadership.quorumElapsed = 0;
    const heard = (id: NodeId) => (id === state.id || leadership.progress.get(id)?.recentlyActive ? 1 : 0);
    if (quorumValue(state.log.configuration, heard) < 1) {
      state.becomeFollower(state.term, null);
      return;
    }
    for (const progress of leadership.progress.values()) progress.recentlyActive = false;
  }
  if (++leadership.heartbeatElapsed >= state.options.heartbeatTicks) broadcastHeartbeat(state, leadership);
}

/** Appends commands, or says why not. All of them or none. */
export function proposeAsLeader(state: CoreState, leadership: Leadership, entries: readonly ProposalEntry[]): RefusalReason | null {
  if (leadership.transferTarget !== null) return 'transferring';
  let bytes = leadership.uncommittedBytes;
  for (const entry of entries) bytes += entryBytes(entry);
  // An empty queue takes anything, so that no single proposal is too large for ever.
  if (leadership.uncommittedBytes > 0 && bytes > state.options.maxUncommittedBytes) return 'overloaded';
  append(state, leadership, entries);
  return null;
}

export function proposeConfiguration(state: CoreState, leadership: Leadership, wanted: Members): LogIndex {
  // Ongaro's correction of 2015: a leader that has committed nothing may not know of a change that is committed.
  if (!hasCommittedInTerm(state)) throw new ArchipelagoError('unavailable', 'the leader is too new to change the membership', { hint: 'try again' });
  if (isJoint(state.log.configuration) || state.log.configurationIndex > state.log.committed) {
    throw new ArchipelagoError('in-use', 'another membership change is going on', { hint: 'try again when it has finished' });
  }
  appendConfiguration(state, leadership, changeTo(state.log.configuration, wanted));
  return state.log.lastIndex;
}

export function transferLeadership(state: CoreState, leadership: Leadership, target: NodeId): void {
  if (target === state.id || !isVoter(state.log.configuration, target)) return;
  leadership.transferTarget = target;
  leadership.transferElapsed = 0;
  handOverIfCaughtUp(state, leadership);
}

export function handleAppendReply(state: CoreState, leadership: Leadership, message: MessageOf<'appendReply'>): void {
  const progress = leadership.progress.get(message.from);
  if (progress === undefined) return;
  progress.recentlyActive = true;
  if (message.rejected) handleRejection(state, progress, message);
  else handleAcceptance(state, leadership, progress, message.index);
  state.flushNeeded = true;
}

function handleAcceptance(state: CoreState, leadership: Leadership, progress: Progress, index: LogIndex): void {
  assert(index <= state.log.lastIndex, 'a follower matches no further than the leader has entries');
  const wasNews = progress.acknowledged(index);
  if (progress.state === 'probe' && progress.match >= index) progress.becomeReplicate();
  else if (progress.state === 'snapshot' && progress.match >= state.log.baseIndex) progress.becomeReplicate();
  if (!wasNews) return;
  advanceCommit(state, leadership);
  if (state.leadership === leadership) handOverIfCaughtUp(state, leadership);
}

function handleRejection(state: CoreState, progress: Progress, message: MessageOf<'appendReply'>): void {
  if (progress.state === 'snapshot') return;
  const stale = progress.state === 'replicate' ? message.index <= progress.match : message.index !== progress.next - 1;
  if (stale) return;
  // The hint's term tells which of our entries can match at all: those of a later term cannot.
  const candidate = state.log.lastIndexWithTermUpTo(message.hintIndex, message.hintTerm);
  progress.becomeProbe(Math.min(message.index, candidate + 1) as LogIndex);
}

export function handleHeartbeatReply(state: CoreState, leadership: Leadership, message: MessageOf<'heartbeatReply'>): void {
  const progress = leadership.progress.get(message.from);
  if (progress === undefined) return;
  progress.recentlyActive = true;
  progress.probing = false;
  if (message.round > progress.round) {
    assert(message.round <= leadership.round, 'a reply to a read round that was never begun');
    progress.round = message.round;
    confirmReads(state, leadership);
  }
  // Nothing acknowledged since the last reply: an append may be lost. One that leaves a gap is rejected, and then probing starts.
  if (progress.state === 'replicate' && progress.match < state.log.lastIndex && progress.match === progress.matchAtHeartbeat) {
    // Or its answer is: so this asks for one, even if it brings nothing.
    sendAppend(state, progress, message.from, true);
  }
  progress.matchAtHeartbeat = progress.match;
  state.flushNeeded = true;
}

/** The shell's news of a snapshot that arrived. What the receiver has is only probed: an append that does not fit shows if it was refused. */
export function noteSnapshotArrival(leadership: Leadership, to: NodeId, index: LogIndex): void {
  const progress = leadership.progress.get(to);
  if (progress?.state === 'snapshot') progress.becomeProbe((index + 1) as LogIndex);
}

/** The shell's news of a snapshot that did not arrive. */
export function noteSnapshotFailure(leadership: Leadership, to: NodeId): void {
  const progress = leadership.progress.get(to);
  if (progress?.state !== 'snapshot') return;
  progress.becomeProbe((progress.match + 1) as LogIndex);
  // Until it shows that it is alive.
  progress.probing = true;
}

/** Sends what the followers lack, as far as their windows allow. */
export function flush(state: CoreState, leadership: Leadership): void {
  for (const [id, progress] of leadership.progress) {
    while (hasNewsFor(state, progress) && sendAppend(state, progress, id)) {
      // Until the window is full or everything is under way.
    }
  }
}

function hasNewsFor(state: CoreState, progress: Progress): boolean {
  if (progress.state === 'snapshot' || progress.windowIsFull) return false;
  if (progress.state === 'probe') return !progress.probing;
  return progress.next <= state.log.lastIndex || progress.toldCommit < state.log.committed;
}

/** False if a snapshot is needed instead. */
function sendAppend(state: CoreState, progress: Progress, to: NodeId, asks = false): boolean {
  const { log } = state;
  const previousIndex = (progress.next - 1) as LogIndex;
  const previousTerm = log.termAt(previousIndex);
  if (previousTerm === null) {
    sendSnapshot(state, progress, to);
    return false;
  }
  const entries = log.slice(previousIndex, log.lastIndex, state.options.maxAppendBytes);
  const isNotice = entries.length === 0 && progress.state === 'replicate';
  const quiet = isNotice && !asks;
  state.send(to, { type: 'append', previousIndex, previousTerm, entries, commit: log.committed, quiet });
  progress.toldCommit = log.committed;
  if (!isNotice) progress.sent((previousIndex + entries.length) as LogIndex, entries.reduce(addBytes, 0));
  return true;
}

function sendSnapshot(state: CoreState, progress: Progress, to: NodeId): void {
  // Not to a dead machine; its first heartbeat reply brings us back here.
  progress.probing = true;
  if (!progress.recentlyActive) return;
  const { log } = state;
  const index = log.applied;
  progress.becomeSnapshot();
  const snapshot = { index, term: log.termAt(index) ?? state.term, configuration: log.configurationAt(index) };
  state.send(to, { type: 'snapshot', snapshot });
}

/** Commits what a quorum has on its disks. Entries of older terms only together with one of this term (Raft 5.4.2, figure 8). */
export function advanceCommit(state: CoreState, leadership: Leadership): void {
  const { log } = state;
  const durableAt = (id: NodeId) => (id === state.id ? log.persisted : (leadership.progress.get(id)?.match ?? 0));
  const index = quorumValue(log.configuration, durableAt) as LogIndex;
  if (index <= log.committed || !log.matches(index, state.term)) return;
  leadership.uncommittedBytes -= sumBytes(state, log.committed, index);
  assert(leadership.uncommittedBytes >= 0, 'uncommitted bytes were counted when they came');
  log.commitTo(index);
  state.flushNeeded = true;
  settleMembership(state, leadership);
}

/** Goes on with a membership change as soon as its entry is committed. */
function settleMembership(state: CoreState, leadership: Leadership): void {
  const { log } = state;
  if (log.configurationIndex > log.committed) return;
  if (isJoint(log.configuration)) {
    appendConfiguration(state, leadership, leaveJoint(log.configuration));
    return;
  }
  if (isVoter(log.configuration, state.id)) return;
  // It removed itself: the rest must hear of the commit, and the best of them need not wait for a timeout.
  flush(state, leadership);
  const heir = log.configuration.voters.reduce((best, id) => (matchOf(leadership, id) > matchOf(leadership, best) ? id : best));
  state.send(heir, { type: 'timeoutNow' });
  state.becomeFollower(state.term, null);
}

function matchOf(leadership: Leadership, id: NodeId): number {
  return leadership.progress.get(id)?.match ?? 0;
}

function handOverIfCaughtUp(state: CoreState, leadership: Leadership): void {
  const target = leadership.transferTarget;
  if (target !== null && leadership.progress.get(target)?.match === state.log.lastIndex) state.send(target, { type: 'timeoutNow' });
}

function appendConfiguration(state: CoreState, leadership: Leadership, configuration: Configuration): void {
  append(state, leadership, [
    { kind: 'configuration', data: encodeConfiguration(configuration), clientId: '', session: 0, sequence: 0, acknowledged: 0 },
  ]);
  followMembership(state, leadership);
}

function append(state: CoreState, leadership: Leadership, proposals: readonly ProposalEntry[]): void {
  let index = state.log.lastIndex as number;
  const entries: Entry[] = proposals.map(({ kind, data, clientId, session, sequence, acknowledged }) => {
    index++;
    return { index: index as LogIndex, term: state.term, kind, data, clientId, session, sequence, acknowledged };
  });
  leadership.uncommittedBytes += entries.reduce(addBytes, 0);
  state.log.append(entries);
  state.flushNeeded = true;
}

/** Keeps a progress for exactly the other members. */
function followMembership(state: CoreState, leadership: Leadership): void {
  const others = membersOf(state.log.configuration).filter((id) => id !== state.id);
  for (const id of leadership.progress.keys()) if (!others.includes(id)) leadership.progress.delete(id);
  for (const id of others) {
    if (!leadership.progress.has(id)) leadership.progress.set(id, new Progress((state.log.lastIndex + 1) as LogIndex, state.options));
  }
}

function sumBytes(state: CoreState, after: LogIndex, to: LogIndex): number {
  return state.log.slice(after, to, Number.POSITIVE_INFINITY).reduce(addBytes, 0);
}

function addBytes(sum: number, entry: Entry): number {
  return sum + entryBytes(entry);
}
