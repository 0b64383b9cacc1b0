/**
 * Raft, as a library: a replicated log and state machine for a small group of machines. `RaftNode` is a running member; `RaftCore` is the
 * pure algorithm for those who bring their own disk and loop.
 */
export { configurationOf, type Members } from './core/configuration.ts';
export { type CoreStatus, type MemberProgress, RaftCore } from './core/core.ts';
export type {
  Configuration,
  CoreOptions,
  Entry,
  HardState,
  InitialState,
  LogIndex,
  Message,
  NodeId,
  ProposalEntry,
  Ready,
  Role,
  SnapshotMeta,
  Term,
} from './core/types.ts';
export { RaftNode } from './node.ts';
export type { RaftOptions, RaftStatus, RaftTransport } from './options.ts';
export type { StateChange, StateMachine } from './state-machine.ts';
export { LevelStorage, type LevelStorageOptions } from './storage/level-storage.ts';
export type { AppliedChanges, RaftStorage, Staging, StateDigest, StateEntry, StateView, StorageBatch } from './storage/storage.ts';
