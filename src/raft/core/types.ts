/**
 * The vocabulary of the Raft core: what goes in (messages, ticks, proposals) and what comes out (`Ready`). Everything here is plain
 * data, so that a shell can put it on a disk or a wire and a simulator can reorder it.
 *
 * Sources: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (extended version), and Ongaro's thesis
 * (pre-vote 9.6, leadership transfer 3.10, ReadIndex 6.4, joint consensus 4.3, client sessions 6.3).
 */

declare const brand: unique symbol;
type Branded<Name extends string> = number & { readonly [brand]: Name };

export type Term = Branded<'Term'>;
/** Position in the log; the first entry is 1. */
export type LogIndex = Branded<'LogIndex'>;
/** A member's stable name, unique in the group and never given to another machine. */
export type NodeId = string;

export type EntryKind =
  /** A command for the state machine. */
  | 'command'
  /** Appended by each new leader, so that entries of older terms commit. */
  | 'noop'
  /** `data` is an encoded `Configuration`. */
  | 'configuration';

/** An entry before it has a place in the log. */
export interface ProposalEntry {
  readonly kind: EntryKind;
  /** Not changed by anyone after the entry was made. */
  readonly data: Uint8Array;
  /**
   * Who proposed the entry, in which of its sessions, and its how many-th proposal it is, so that a retry is applied once. Empty and 0
   * for entries that need no session.
   */
  readonly clientId: string;
  readonly session: number;
  readonly sequence: number;
  /** The client will never ask again for sequences below this one: their results may be forgotten. */
  readonly acknowledged: number;
}

export interface Entry extends ProposalEntry {
  readonly index: LogIndex;
  readonly term: Term;
}

/** The members; `outgoing` is not empty while a joint change goes on, and then both majorities decide. Each list is sorted. */
export interface Configuration {
  readonly voters: readonly NodeId[];
  readonly outgoing: readonly NodeId[];
  readonly learners: readonly NodeId[];
  /** Voters of the outgoing half that become learners when the joint change is left. */
  readonly learnersNext: readonly NodeId[];
}

/**
 * What must be durable before any message of the same `Ready` that depends on it is sent. The commit index is not part of it: a restarted
 * node knows what it applied, and learns the rest from the leader.
 */
export interface HardState {
  readonly term: Term;
  readonly votedFor: NodeId | null;
}

/** A place in the log with the configuration that holds there. */
export interface SnapshotMeta {
  readonly index: LogIndex;
  readonly term: Term;
  readonly configuration: Configuration;
}

interface MessageBase {
  readonly from: NodeId;
  readonly to: NodeId;
  /** The sender's term; for `preVote` and a granted `preVoteReply` the term it is about. */
  readonly term: Term;
}

export type MessageBody =
  | {
      readonly type: 'preVote' | 'vote';
      readonly lastIndex: LogIndex;
      readonly lastTerm: Term /** Sent by leadership transfer: overrides stickiness. */;
      readonly force: boolean;
    }
  | { readonly type: 'preVoteReply' | 'voteReply'; readonly granted: boolean }
  | {
      readonly type: 'append';
      readonly previousIndex: LogIndex;
      readonly previousTerm: Term;
      readonly entries: readonly Entry[];
      readonly commit: LogIndex;
      /** Only tells a commit index: nobody waits for an acceptance. A rejection is sent all the same, since it shows that an append was lost. */
      readonly quiet: boolean;
    }
  | {
      readonly type: 'appendReply';
      readonly rejected: boolean;
      /** Accepted: the last index that is durable and matches. Rejected: the `previousIndex` that was refused. */
      readonly index: LogIndex;
      /** For a rejection: where the follower suggests to try next (index and the term it has there). */
      readonly hintIndex: LogIndex;
      readonly hintTerm: Term;
    }
  | {
      readonly type: 'heartbeat';
      readonly commit: LogIndex /** The newest read round, which the reply confirms; 0 for none. */;
      readonly round: number;
    }
  | { readonly type: 'heartbeatReply'; readonly round: number }
  /** Leader's core → its shell: send a snapshot to `to`. Receiver's shell → its core: all of it is staged here. */
  | { readonly type: 'snapshot'; readonly snapshot: SnapshotMeta }
  | { readonly type: 'timeoutNow' }
  /** A proposal passed on to the leader. */
  | { readonly type: 'propose'; readonly entries: readonly ProposalEntry[] }
  /** A read request passed on to the leader, and its answer. `context` is the asker's own number, never used again, not even after a restart. */
  | { readonly type: 'readIndex'; readonly context: number }
  | { readonly type: 'readIndexReply'; readonly context: number; readonly index: LogIndex; readonly refused: boolean }
  /** A wish passed on to the leader. */
  | { readonly type: 'transferLeader'; readonly target: NodeId };

export type Message = MessageBase & MessageBody;
export type MessageOf<Type extends Message['type']> = Extract<Message, { readonly type: Type }>;

export type Role = 'follower' | 'preCandidate' | 'candidate' | 'leader';

/** A read that may be served once the state machine has applied `index`; if refused, ask again: there was no leader, or it is too new. */
export interface ReadState {
  readonly context: number;
  readonly index: LogIndex;
  readonly refused: boolean;
}

export type RefusalReason =
  /** No leader is known. */
  | 'no-leader'
  /** The leader's uncommitted log is full. */
  | 'overloaded'
  /** Leadership is being handed over. */
  | 'transferring';

/**
 * One batch of effects. The shell may send `messages` at once. It then makes `hardState`, `snapshot` and `entries` durable (truncating the
 * log from the first entry's index on), and only after that sends `messagesAfterPersist` and calls `persisted(lastIndex, lastTerm)` with
 * index and term of the last entry of this batch (so a write that was overwritten meanwhile is never credited to newer entries).
 * It applies `committed` in order and calls `applied`. Batches are persisted in the order in which they were taken; the next may be
 * taken while the disk is still busy with this one, and a leader's own write then runs in parallel with replication.
 *
 * Messages to the node itself (a candidate's own vote) are among `messagesAfterPersist`; the shell steps them back in.
 */
export interface Ready {
  /** Changed since the last batch, or null. */
  readonly hardState: HardState | null;
  /** To append durably; empty for none. */
  readonly entries: readonly Entry[];
  /** A snapshot to install before `entries`: it replaces state and log. The shell has its bytes already. */
  readonly snapshot: SnapshotMeta | null;
  readonly messages: readonly Message[];
  readonly messagesAfterPersist: readonly Message[];
  /** Durable on a quorum; each is handed out once, in order. They may not be durable here yet. */
  readonly committed: readonly Entry[];
  readonly reads: readonly ReadState[];
}

/** The bounds of a group. All but `electionTicks` and `heartbeatTicks` may differ between members. */
export interface CoreOptions {
  /** A follower that hears nothing for one to two times this campaigns; a leader that hears from no quorum for this long steps down. */
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  /** Bytes of entries in one append message; a larger entry goes alone. */
  readonly maxAppendBytes: number;
  /** Append messages, and their bytes, under way to one follower. */
  readonly maxInflightAppends: number;
  readonly maxInflightBytes: number;
  /** Bytes of proposals that are not committed yet; above it proposals are refused with `overloaded`. */
  readonly maxUncommittedBytes: number;
  /** Bytes of committed entries handed out in one `Ready`. */
  readonly maxCommittedBytes: number;
}

export const DEFAULT_CORE_OPTIONS: CoreOptions = {
  electionTicks: 10,
  heartbeatTicks: 2,
  maxAppendBytes: 256 * 1024,
  maxInflightAppends: 128,
  maxInflightBytes: 8 * 1024 * 1024,
  maxUncommittedBytes: 32 * 1024 * 1024,
  maxCommittedBytes: 1024 * 1024,
};

/** What the shell found on its disk. An empty `configuration` belongs to a node that waits to be invited. */
export interface InitialState {
  readonly hardState: HardState;
  /** The log begins after this place: everything up to it is compacted away. */
  readonly base: SnapshotMeta;
  /** The log after `base`, without holes. */
  readonly entries: readonly Entry[];
  /** What the stored state machine has applied; committed by that. */
  readonly applied: LogIndex;
}
