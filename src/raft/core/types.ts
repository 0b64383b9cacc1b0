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

/**
 * One batch of effects. The shell may send `messages` at once. It then makes `hardState` and `entries` durable (truncating the log
 * from the first entry's index on), and only after that sends `messagesAfterPersist` and calls `persisted(lastIndex, lastTerm)` with
 * index and term of the last entry of this batch (so a write that was overwritten meanwhile is never credited to newer entries).
 * It applies `committed` in order and calls `applied`. Batches are handled in the order in which they were taken; the next may be
 * taken while the disk is still busy with this one, and a leader's own write then runs in parallel with replication.
 */
export interface Ready {
  /** Changed since the last batch, or null. */
  readonly hardState: HardState | null;
  /** To append durably; empty for none. */
  readonly entries: readonly Entry[];
  /** A snapshot to install before `entries`: the shell has its bytes already (see `Message` 'snapshot'). */
  readonly snapshot: SnapshotMeta | null;
  readonly messages: readonly Message[];
  readonly messagesAfterPersist: readonly Message[];
  /** Durable on a quorum; each is handed out once, in order. They may not be durable here yet. */
  readonly committed: readonly Entry[];
  /** Reads that may be served once the state machine has applied `index`. */
  readonly reads: readonly { readonly context: number; readonly index: LogIndex; /** Not leader, or leadership was lost: ask again. */ readonly refused: boolean }[];
  /** Entries this node proposed that were not accepted (no leader, or the uncommitted log is full): ask again. */
  readonly droppedProposals: readonly { readonly clientId: string; readonly sequence: number; readonly reason: 'no-leader' | 'overloaded' | 'not-ready' }[];
}

/** What the core reads of its log that it no longer holds in memory. Synchronous: the shell keeps it in memory or refuses with null. */
export interface LogReader {
  /** The entry before the first one held: the snapshot's index and term. */
  readonly snapshotIndex: LogIndex;
  readonly snapshotTerm: Term;
  readonly lastIndex: LogIndex;
  /** Null when compacted away or beyond the end. */
  termAt(index: LogIndex): Term | null;
  /** Entries from `from` to below `to`, at most `maxBytes` of data but at least one; null when compacted away. */
  slice(from: LogIndex, to: LogIndex, maxBytes: number): readonly Entry[] | null;
  /** The newest snapshot that can be sent, or null. */
  snapshotMeta(): SnapshotMeta | null;
}
