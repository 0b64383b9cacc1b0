/** What a member is made of, and what it tells of itself. */
import type { Clock, Log, Prng } from '../base/index.ts';
import type { CoreOptions, NodeId, Role } from './core/types.ts';
import type { StateMachine } from './state-machine.ts';
import type { RaftStorage } from './storage/storage.ts';

export interface RaftTransport {
  /** Best effort: frames may be lost, delayed, doubled or reordered, but not altered. `frame` is the transport's from then on. */
  send(to: NodeId, frame: Uint8Array): void;
}

export interface RaftOptions {
  /** This member's name, unique in the group. A name is never given to another machine or directory. */
  readonly id: NodeId;
  readonly directory: string;
  /** The voters of a new group, the same list on each of them; used only when the directory is empty. Empty for a node that is to be invited. */
  readonly bootstrap: readonly NodeId[];
  readonly stateMachine: StateMachine;
  readonly transport: RaftTransport;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: Prng;
  /** Default 100. An election timeout is 10 to 20 ticks, a heartbeat goes out every second tick. */
  readonly tickMs?: number;
  readonly electionTicks?: number;
  readonly heartbeatTicks?: number;
  /** Bounds of the core; see `CoreOptions`. */
  readonly core?: Partial<CoreOptions>;
  /** Applied entries that stay in the log for followers that are a little behind. Default 8192 entries, 16 MiB. */
  readonly keepEntries?: number;
  readonly keepBytes?: number;
  readonly snapshotChunkBytes?: number;
  /** Opens the storage; default LevelDB in `directory`. For simulators. */
  readonly openStorage?: () => Promise<RaftStorage>;
  /** The leader or the term changed. */
  readonly onLeaderChange?: (leader: NodeId | null, term: number) => void;
  /** The state machine has applied everything up to `index`, and whoever waited for it has been answered. */
  readonly onApplied?: (index: number) => void;
  /** The disk failed or an invariant broke: nothing of this node can be trusted any more, and the process should end. Called once. */
  readonly fatal: (error: Error) => void;
}

export interface RaftStatus {
  readonly id: NodeId;
  readonly role: Role;
  readonly term: number;
  readonly leader: NodeId | null;
  readonly commitIndex: number;
  readonly appliedIndex: number;
  readonly voters: readonly NodeId[];
  readonly learners: readonly NodeId[];
}
