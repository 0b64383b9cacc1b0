/**
 * One member of a Raft group as a pure state machine: `step` takes messages, `tick` time, `propose` and the like wishes; `takeReady`
 * gives back what is to be written, sent and applied (see `Ready` for the order). No clock, no I/O, no randomness but what is injected.
 */
import { ArchipelagoError, assert, broken, type Prng, unreachable } from '../../base/index.ts';
import type { Members } from './configuration.ts';
import { campaign, handlePreVote, handleVote, handleVoteReply, isSticky, preCampaign, tickElection } from './election.ts';
import { handleAppend, handleHeartbeat, handleSnapshot } from './follower.ts';
import {
  advanceCommit,
  flush,
  handleAppendReply,
  handleHeartbeatReply,
  noteSnapshotArrival,
  noteSnapshotFailure,
  proposeAsLeader,
  proposeConfiguration,
  tickLeader,
  transferLeadership,
} from './leader.ts';
import type { ProgressState } from './progress.ts';
import { handleReadIndex, handleReadIndexReply, requestRead } from './reads.ts';
import { CoreState } from './state.ts';
import {
  type Configuration,
  type CoreOptions,
  DEFAULT_CORE_OPTIONS,
  type HardState,
  type InitialState,
  type LogIndex,
  type Message,
  type NodeId,
  type ProposalEntry,
  type Ready,
  type RefusalReason,
  type Role,
  type Term,
} from './types.ts';

/** What a leader knows of one other member. `probe`: where the logs match is being found out; `replicate`: known; `snapshot`: one is on its way. */
export interface MemberProgress {
  readonly state: ProgressState;
  /** Durable there up to this index: a learner whose `match` is near the leader's `lastIndex` has caught up. */
  readonly match: LogIndex;
  /** The next entry to send. */
  readonly next: LogIndex;
  /** It was heard since the last quorum check, up to an election timeout ago. */
  readonly recentlyActive: boolean;
  /** Append messages without an answer. */
  readonly inflightAppends: number;
}

/** A member's knowledge at this moment. `baseIndex` ≤ `appliedIndex` ≤ `commitIndex` ≤ `lastIndex`; the log begins behind `baseIndex`. */
export interface CoreStatus {
  readonly id: NodeId;
  readonly role: Role;
  readonly term: Term;
  readonly votedFor: NodeId | null;
  readonly leader: NodeId | null;
  readonly baseIndex: LogIndex;
  readonly commitIndex: LogIndex;
  readonly appliedIndex: LogIndex;
  /** Durable on this member's own disk up to here. */
  readonly persistedIndex: LogIndex;
  readonly lastIndex: LogIndex;
  readonly lastTerm: Term;
  readonly configuration: Configuration;
  /** Whether the newest configuration is committed and plain: no membership change is going on. */
  readonly membershipSettled: boolean;
  readonly transferTarget: NodeId | null;
  /** What the leader knows of the others; empty elsewhere. */
  readonly progress: ReadonlyMap<NodeId, MemberProgress>;
}

/**
 * Deterministic: the same calls with the same `Prng` give the same effects. Not re-entrant; every method is one event. It throws only for broken
 * invariants (`AssertionFailure`, after which it must not be used) and, from `proposeConfiguration`, for wishes that cannot be granted.
 */
export class RaftCore {
  private readonly state: CoreState;

  constructor(id: NodeId, initial: InitialState, random: Prng, options: Partial<CoreOptions> = {}) {
    this.state = new CoreState(id, initial, { ...DEFAULT_CORE_OPTIONS, ...options }, random);
  }

  /** One step of time. */
  tick(): void {
    const { state } = this;
    if (state.leadership !== null) tickLeader(state, state.leadership);
    else tickElection(state);
  }

  /** Starts an election at once, as for a group of one, which has nobody to wait for. */
  campaign(): void {
    if (this.state.leadership === null && this.state.mayCampaign) preCampaign(this.state);
  }

  /** Proposes commands: appends them here, or passes them on to the leader. Null if so; else none of them was taken. */
  propose(entries: readonly ProposalEntry[]): RefusalReason | null {
    const { state } = this;
    assert(entries.length > 0 && entries.every((entry) => entry.kind === 'command'), 'only commands are proposed');
    if (state.leadership !== null) return proposeAsLeader(state, state.leadership, entries);
    if (state.leader === null) return 'no-leader';
    state.send(state.leader, { type: 'propose', entries });
    return null;
  }

  /** Asks for an index from which a read is linearizable; the answer is in a `Ready` under the same context, unless a message was lost. */
  readIndex(context: number): void {
    requestRead(this.state, context);
  }

  /** Changes the members; only a leader can, one change at a time. Returns the index of the first entry of the change. */
  proposeConfiguration(wanted: Members): LogIndex {
    const { state } = this;
    if (state.leadership === null) throw new ArchipelagoError('unavailable', 'only the leader changes the membership');
    return proposeConfiguration(state, state.leadership, wanted);
  }

  /** Hands leadership to a voter, once it has caught up; given up after an election timeout. */
  transferLeader(target: NodeId): void {
    const { state } = this;
    if (state.leadership !== null) transferLeadership(state, state.leadership, target);
    else if (state.leader !== null) state.send(state.leader, { type: 'transferLeader', target });
  }

  /** Takes one message in. A `snapshot` is stepped by the receiving shell once all its bytes are staged here. */
  step(message: Message): void {
    const { state } = this;
    if (message.to !== state.id) broken(`a message for ${message.to} came to ${state.id}`);
    switch (message.type) {
      // These four are about no term: they are wishes, or (the reply) bound to one request by its context.
      case 'propose':
        if (state.leadership !== null && message.entries.length > 0 && message.entries.every(({ kind }) => kind === 'command')) {
          proposeAsLeader(state, state.leadership, message.entries);
        }
        return;
      case 'readIndex':
        handleReadIndex(state, message);
        return;
      case 'readIndexReply':
        handleReadIndexReply(state, message);
        return;
      case 'transferLeader':
        if (state.leadership !== null) transferLeadership(state, state.leadership, message.target);
        return;
      default:
    }
    if (message.term > state.term && !this.catchUp(message)) return;
    if (message.term < state.term) this.answerOldTerm(message);
    else this.handle(message);
  }

  hasReady(): boolean {
    const { state } = this;
    const { log } = state;
    return (
      state.hardStateChanged ||
      state.flushNeeded ||
      state.messages.length > 0 ||
      state.messagesAfterPersist.length > 0 ||
      state.reads.length > 0 ||
      state.restored !== null ||
      log.handedOut < log.lastIndex ||
      log.delivered < log.committed
    );
  }

  /** Takes the effects since the last call; the shell must carry them out, in the order that `Ready` says. */
  takeReady(): Ready {
    const { state } = this;
    const { log } = state;
    if (state.flushNeeded && state.leadership !== null) flush(state, state.leadership);
    const entries = log.slice(log.handedOut, log.lastIndex, Number.POSITIVE_INFINITY);
    const committed = log.delivered < log.committed ? log.slice(log.delivered, log.committed, state.options.maxCommittedBytes) : [];
    const ready: Ready = {
      hardState: state.hardStateChanged ? this.hardState : null,
      entries,
      snapshot: state.restored,
      messages: state.messages,
      messagesAfterPersist: state.messagesAfterPersist,
      committed,
      reads: state.reads,
    };
    log.handedOut = log.lastIndex;
    log.delivered = (log.delivered + committed.length) as LogIndex;
    state.messages = [];
    state.messagesAfterPersist = [];
    state.reads = [];
    state.restored = null;
    state.hardStateChanged = false;
    state.flushNeeded = false;
    return ready;
  }

  /** The shell's news that a batch is durable, with the index and term of its last entry. */
  persisted(index: LogIndex, term: Term): void {
    const { state } = this;
    state.log.notePersisted(index, term);
    if (state.leadership !== null) advanceCommit(state, state.leadership);
  }

  /** The shell's news that the state machine has applied everything up to `index`. */
  applied(index: LogIndex): void {
    this.state.log.noteApplied(index);
  }

  /** Entries and bytes that the log holds in memory. */
  logSize(): { readonly entries: number; readonly bytes: number } {
    const { log } = this.state;
    return { entries: log.lastIndex - log.baseIndex, bytes: log.bytes };
  }

  /** Up to where `compact` may go if a tail of applied entries within both bounds is kept for followers that are a little behind. */
  compactionTarget(keepEntries: number, keepBytes: number): LogIndex {
    return this.state.log.compactionTarget(keepEntries, keepBytes);
  }

  /** Drops the log up to `index`, which must be applied; who needs it later gets a snapshot. */
  compact(index: LogIndex): void {
    this.state.log.compact(index);
  }

  /** The shell's news that `to` has a snapshot up to `index`; the receiver's own reply says the same, but may be lost. */
  snapshotArrived(to: NodeId, index: LogIndex): void {
    const { state } = this;
    if (state.leadership === null) return;
    noteSnapshotArrival(state.leadership, to, index);
    state.flushNeeded = true;
  }

  /** The shell's news that a snapshot to `to` did not get through. */
  snapshotFailed(to: NodeId): void {
    if (this.state.leadership !== null) noteSnapshotFailure(this.state.leadership, to);
  }

  /** Index, term and configuration of a place in the log that is not compacted away. */
  metaAt(index: LogIndex): { readonly index: LogIndex; readonly term: Term; readonly configuration: Configuration } {
    const term = this.state.log.termAt(index);
    if (term === null) broken(`index ${index} is not in the log`);
    return { index, term, configuration: this.state.log.configurationAt(index) };
  }

  get role(): Role {
    return this.state.role;
  }

  get term(): Term {
    return this.state.term;
  }

  get leader(): NodeId | null {
    return this.state.leader;
  }

  get commitIndex(): LogIndex {
    return this.state.log.committed;
  }

  get lastIndex(): LogIndex {
    return this.state.log.lastIndex;
  }

  get appliedIndex(): LogIndex {
    return this.state.log.applied;
  }

  get baseIndex(): LogIndex {
    return this.state.log.baseIndex;
  }

  status(): CoreStatus {
    const { state } = this;
    const { log, leadership } = state;
    const progress = new Map<NodeId, MemberProgress>();
    for (const [id, { state: phase, match, next, recentlyActive, inflight }] of leadership?.progress ?? []) {
      progress.set(id, { state: phase, match, next, recentlyActive, inflightAppends: inflight.appends });
    }
    return {
      id: state.id,
      role: state.role,
      term: state.term,
      votedFor: state.votedFor,
      leader: state.leader,
      baseIndex: log.baseIndex,
      commitIndex: log.committed,
      appliedIndex: log.applied,
      persistedIndex: log.persisted,
      lastIndex: log.lastIndex,
      lastTerm: log.lastTerm,
      configuration: log.configuration,
      membershipSettled: log.configuration.outgoing.length === 0 && log.configurationIndex <= log.committed,
      transferTarget: leadership?.transferTarget ?? null,
      progress,
    };
  }

  private get hardState(): HardState {
    return { term: this.state.term, votedFor: this.state.votedFor };
  }

  /** Moves to a message's newer term, where that is right. False if the message is to be ignored. */
  private catchUp(message: Message): boolean {
    const { state } = this;
    switch (message.type) {
      case 'preVote':
        return !isSticky(state);
      case 'vote':
        if (!message.force && isSticky(state)) return false;
        state.becomeFollower(message.term, null);
        return true;
      case 'preVoteReply':
        // A grant speaks of a term that nobody is in yet.
        if (!message.granted) state.becomeFollower(message.term, null);
        return true;
      case 'append':
      case 'heartbeat':
      case 'snapshot':
        state.becomeFollower(message.term, message.from);
        return true;
      default:
        state.becomeFollower(message.term, null);
        return true;
    }
  }

  private answerOldTerm(message: Message): void {
    const { state } = this;
    switch (message.type) {
      case 'snapshot':
        // Committed state, whoever leads now.
        handleSnapshot(state, message);
        return;
      case 'append':
      case 'heartbeat':
        // The sender leads an older term. If we are cut off from the real leader by our own newer term (a campaign that failed), this
        // reply is what makes the sender step down, so that one term includes us both.
        state.send(message.from, { type: 'appendReply', rejected: true, index: 0 as LogIndex, hintIndex: 0 as LogIndex, hintTerm: 0 as Term });
        return;
      case 'preVote':
        handlePreVote(state, message);
        return;
      case 'vote':
        state.send(message.from, { type: 'voteReply', granted: false });
        return;
      default:
    }
  }

  /** A message of the current term; for pre-votes possibly of a later one. */
  private handle(message: Message): void {
    const { state } = this;
    switch (message.type) {
      case 'preVote':
        handlePreVote(state, message);
        return;
      case 'vote':
        handleVote(state, message);
        return;
      case 'preVoteReply':
      case 'voteReply':
        handleVoteReply(state, message);
        return;
      case 'append':
      case 'heartbeat':
      case 'snapshot':
        this.followLeader(message.from);
        if (message.type === 'append') handleAppend(state, message);
        else if (message.type === 'heartbeat') handleHeartbeat(state, message);
        else handleSnapshot(state, message);
        return;
      case 'appendReply':
        if (state.leadership !== null) handleAppendReply(state, state.leadership, message);
        return;
      case 'heartbeatReply':
        if (state.leadership !== null) handleHeartbeatReply(state, state.leadership, message);
        return;
      case 'timeoutNow':
        if (state.role !== 'leader' && state.mayCampaign) campaign(state, true);
        return;
      case 'propose':
      case 'readIndex':
      case 'readIndexReply':
      case 'transferLeader':
        return;
      default:
        unreachable(message, 'message');
    }
  }

  private followLeader(leader: NodeId): void {
    const { state } = this;
    if (state.role === 'leader') broken(`${leader} and ${state.id} both lead term ${state.term}`);
    if (state.role !== 'follower') state.becomeFollower(state.term, leader);
    if (state.leader !== null && state.leader !== leader) broken(`${leader} and ${state.leader} both lead term ${state.term}`);
    state.leader = leader;
    state.electionElapsed = 0;
  }
}
