/**
 * What a member holds in memory, and the changes of role that every part of the core may cause. One `RaftCore` owns it; the functions of
 * `election.ts`, `leader.ts`, `follower.ts` and `reads.ts` work on it one event at a time.
 */
import { assert, broken, type Prng } from '../../base/index.ts';
import { isVoter } from './configuration.ts';
import { RaftLog } from './log.ts';
import type { Progress } from './progress.ts';
import type { CoreOptions, InitialState, LogIndex, Message, MessageBody, NodeId, ReadState, Role, SnapshotMeta, Term } from './types.ts';

/** A read that waits until a quorum has answered a round that began after it. */
export interface PendingRead {
  readonly from: NodeId;
  readonly context: number;
  readonly index: LogIndex;
  readonly round: number;
}

/** What only a leader has, made anew in each term. */
export interface Leadership {
  /** Of every other member. */
  readonly progress: Map<NodeId, Progress>;
  heartbeatElapsed: number;
  quorumElapsed: number;
  reads: PendingRead[];
  /** The newest read round; heartbeats carry it. */
  round: number;
  transferTarget: NodeId | null;
  transferElapsed: number;
  /** Sum over the entries behind the commit index. */
  uncommittedBytes: number;
}

export class CoreState {
  readonly id: NodeId;
  readonly options: CoreOptions;
  readonly log: RaftLog;
  term: Term;
  votedFor: NodeId | null;
  role: Role = 'follower';
  leader: NodeId | null = null;
  /** Not null exactly while `role` is leader. */
  leadership: Leadership | null = null;
  /** Answers to the running (pre-)campaign. */
  votes = new Map<NodeId, boolean>();
  /** Ticks since the leader was heard, a vote was given, or a campaign began. */
  electionElapsed = 0;
  /** Drawn anew for each wait, so that campaigns seldom collide. */
  electionTimeout: number;

  messages: Message[] = [];
  messagesAfterPersist: Message[] = [];
  reads: ReadState[] = [];
  restored: SnapshotMeta | null = null;
  hardStateChanged = false;
  /** A leader has something new to tell: looked at once for each `Ready`, so that many proposals become one message. */
  flushNeeded = false;
  private readonly random: Prng;

  constructor(id: NodeId, initial: InitialState, options: CoreOptions, random: Prng) {
    assert(id !== '', 'a member has a name');
    assert(options.heartbeatTicks >= 1 && options.electionTicks > 2 * options.heartbeatTicks, 'an election timeout outlasts two heartbeats');
    this.id = id;
    this.options = options;
    this.random = random;
    this.log = new RaftLog(initial);
    this.term = initial.hardState.term;
    this.votedFor = initial.hardState.votedFor;
    assert(this.log.lastTerm <= this.term, `the log has entries of term ${this.log.lastTerm}, newer than the stored term ${this.term}`);
    // Shorter than later waits: after a restart of the whole group nobody leads, and a living leader is protected by stickiness.
    this.electionTimeout = options.heartbeatTicks + 1 + random.below(options.electionTicks);
  }

  /**
   * Whether an election may begin here. Also where an entry that is not known to be committed takes this node's vote away (thesis 4.2.2): the
   * remaining voters may lack that entry, and could then not be elected by those who have it. Its own vote does not count then.
   */
  get mayCampaign(): boolean {
    return this.log.openConfigurations().some((configuration) => isVoter(configuration, this.id));
  }

  /** Sends at once: the message promises nothing about this node's disk. */
  send(to: NodeId, body: MessageBody, term: Term = this.term): void {
    if (to === this.id) broken(`a ${body.type} to oneself`);
    // Spread first: so the engine clones the body as a whole, and not field by field.
    this.messages.push({ ...body, from: this.id, to, term });
  }

  /** Sends once everything up to now is durable. */
  sendAfterPersist(to: NodeId, body: MessageBody): void {
    this.messagesAfterPersist.push({ ...body, from: this.id, to, term: this.term });
  }

  becomeFollower(term: Term, leader: NodeId | null): void {
    if (this.leadership !== null) this.refuseReads(this.leadership.reads);
    this.leadership = null;
    this.flushNeeded = false;
    this.role = 'follower';
    this.leader = leader;
    this.setTerm(term);
    this.resetElection();
  }

  setTerm(term: Term): void {
    if (term < this.term) broken(`terms never fall: ${term} after ${this.term}`);
    if (term === this.term) return;
    this.term = term;
    this.votedFor = null;
    this.hardStateChanged = true;
  }

  voteFor(id: NodeId): void {
    assert(this.votedFor === null || this.votedFor === id, `one vote a term: ${id} after ${this.votedFor}`);
    if (this.votedFor === id) return;
    this.votedFor = id;
    this.hardStateChanged = true;
  }

  resetElection(): void {
    this.electionElapsed = 0;
    this.electionTimeout = this.options.electionTicks + this.random.below(this.options.electionTicks);
    this.votes = new Map();
  }

  answerRead(read: Pick<PendingRead, 'from' | 'context'>, index: LogIndex, refused: boolean): void {
    const { from, context } = read;
    if (from === this.id) this.reads.push({ context, index, refused });
    else this.send(from, { type: 'readIndexReply', context, index, refused });
  }

  private refuseReads(reads: readonly PendingRead[]): void {
    for (const read of reads) this.answerRead(read, 0 as LogIndex, true);
  }
}
