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

export interface Entry {
  readonly index: LogIndex;
  readonly term: Term;
  readonly kind: EntryKind;
  /** Not changed by anyone after the entry was made. */
  readonly data: Uint8Array;
  /**
   * Who proposed the entry, and its how many-th proposal it is, so that a retry is applied once. Empty and 0 for entries that need no
   * session (`noop`, `configuration`).
   */
  readonly clientId: string;
  readonly sequence: number;
}

/** The voting members; `outgoing` is not empty while a joint change goes on, and then both majorities decide. */
export interface Configuration {
  readonly voters: readonly NodeId[];
  readonly outgoing: readonly NodeId[];
  readonly learners: readonly NodeId[];
  /** Voters of the outgoing half that become learners when the joint change is left. */
  readonly learnersNext: readonly NodeId[];
}

/** What must be durable before any message of the same `Ready` that depends on it is sent. */
export interface HardState {
  readonly term: Term;
  readonly votedFor: NodeId | null;
  readonly commit: LogIndex;
}

/** Describes the state machine's state after `index`; its bytes are moved by the shell in chunks. */
export interface SnapshotMeta {
  readonly index: LogIndex;
  readonly term: Term;
  readonly configuration: Configuration;
}

interface MessageBase {
  readonly from: NodeId;
  readonly to: NodeId;
  /** The sender's term; for `preVote` the term it would campaign in. */
  readonly term: Term;
}

export type Message = MessageBase &
  (
    | { readonly type: 'preVote' | 'vote'; readonly lastIndex: LogIndex; readonly lastTerm: Term; /** Sent by leadership transfer: overrides stickiness. */ readonly force: boolean }
    | { readonly type: 'preVoteReply' | 'voteReply'; readonly granted: boolean }
    | {
        readonly type: 'append';
        readonly previousIndex: LogIndex;
        readonly previousTerm: Term;
        readonly entries: readonly Entry[];
        readonly commit: LogIndex;
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
    | { readonly type: 'heartbeat'; readonly commit: LogIndex; /** The newest read round the reply confirms; 0 for none. */ readonly round: number }
    | { readonly type: 'heartbeatReply'; readonly round: number }
    | { readonly type: 'snapshot'; readonly snapshot: SnapshotMeta }
    | { readonly type: 'snapshotReply'; readonly rejected: boolean; readonly index: LogIndex }
    | { readonly type: 'timeoutNow' }
    /** A proposal passed on to the leader. */
    | { readonly type: 'propose'; readonly entries: readonly ProposalEntry[] }
    /** A read request passed on to the leader, and its answer. `context` is the asker's own number. */
    | { readonly type: 'readIndex'; readonly context: number }
    | { readonly type: 'readIndexReply'; readonly context: number; readonly index: LogIndex; readonly refused: boolean }
    | { readonly type: 'transferLeader'; readonly target: NodeId }
  );

/** An entry before it has a place in the log. */
export type ProposalEntry = Pick<Entry, 'kind' | 'data' | 'clientId' | 'sequence'>;

export type Role = 'follower' | 'preCandidate' | 'candidate' | 'leader';
