/** What a member is made of, and what it tells of itself. */
import type { Clock, Log, Prng } from '../base/index.ts';
import type { CoreOptions, NodeId, Role } from './core/types.ts';
import type { StateMachine } from './state-machine.ts';
import type { RaftStorage } from './storage/storage.ts';

/** What a member uses where its options say nothing; those of the core are `DEFAULT_CORE_OPTIONS`. */
export const DEFAULTS = { tickMs: 100, keepEntries: 8192, keepBytes: 16 * 1024 * 1024, snapshotChunkBytes: 128 * 1024 };

/**
 * The way to the other members, which its user brings. It authenticates: what it hands to `RaftNode.receive` was sent by the member that it
 * names.
 */
export interface RaftTransport {
  /**
   * Hands over one frame, opaque, at most `maxAppendBytes` and one command or `snapshotChunkBytes` and one value long, and a little more. Best
   * effort: frames may be lost, delayed, doubled or reordered, but not altered. `frame` is the transport's from then on. Called from
   * within the member's own events, so it must not throw, and must not call the member or another one of the process before it has returned.
   */
  send(to: NodeId, frame: Uint8Array): void;
  /**
   * The member has sent what others wait for, and may now give its disk work, which takes the thread for a while: a transport that gathers frames
   * lets them go first. The same rules as for `send`.
   */
  flush?(): void;
}

/** What a member is made of. The group's members may differ in all of it but the meaning of commands and the two counts of ticks. */
export interface RaftOptions {
  /** This member's name, unique in the group and not empty. A name is never given to another machine or directory. */
  readonly id: NodeId;
  /** Holds log, state and watermark; created if it is not there. One process at a time: a second one gets `in-use`. */
  readonly directory: string;
  /** The voters of a new group, the same list on each of them; used only when the directory is empty. Empty for a node that is to be invited. */
  readonly bootstrap: readonly NodeId[];
  /** This member's copy of what is replicated; nobody else changes it. */
  readonly stateMachine: StateMachine;
  readonly transport: RaftTransport;
  /** A monotonic clock and its timers. */
  readonly clock: Clock;
  readonly log: Log;
  /** Spreads election timeouts; seeded differently at each member. */
  readonly random: Prng;
  /** Milliseconds of a tick, the unit of all of Raft's times. Default 100. */
  readonly tickMs?: number;
  /** Ticks without a leader after which a member campaigns: this many to twice as many. Default 10; more than two heartbeats. */
  readonly electionTicks?: number;
  /** Ticks between heartbeats, at least 1. Default 2. */
  readonly heartbeatTicks?: number;
  /** Bounds of the core; see `CoreOptions`. */
  readonly core?: Partial<CoreOptions>;
  /** Applied entries that stay in the log, in memory and on the disk, for followers that are a little behind. Default 8192. */
  readonly keepEntries?: number;
  /** The same in bytes; whichever is reached first counts. Default 16 MiB. */
  readonly keepBytes?: number;
  /** Bytes of a snapshot's chunk; the value that reaches it is still in. Eight chunks are under way to a receiver. Default 128 KiB. */
  readonly snapshotChunkBytes?: number;
  /** Opens the storage; default LevelDB in `directory`. For simulators. */
  readonly openStorage?: () => Promise<RaftStorage>;
  /** The leader or the term changed, as this member sees it; null while it knows of none. Called within its events: must not throw. */
  readonly onLeaderChange?: (leader: NodeId | null, term: number) => void;
  /** The state machine has applied everything up to `index`, and whoever waited for it has been answered. Must not throw. */
  readonly onApplied?: (index: number) => void;
  /** The disk failed or an invariant broke: nothing of this node can be trusted any more, and the process should end. Called once. */
  readonly fatal: (error: Error) => void;
}

/** What a member knows at this moment; another one may know more. */
export interface RaftStatus {
  readonly id: NodeId;
  readonly role: Role;
  readonly term: number;
  readonly leader: NodeId | null;
  /** Durable on a quorum up to here, as far as this member has heard. */
  readonly commitIndex: number;
  /** The state machine here has everything up to this index; at most `commitIndex`. */
  readonly appliedIndex: number;
  /** Of the newest configuration in the log, committed or not. */
  readonly voters: readonly NodeId[];
  readonly learners: readonly NodeId[];
}
