/** What the driver needs of its disk. `level-storage.ts` is the real one; a simulator brings another. */
import type { Entry, HardState, InitialState, LogIndex, SnapshotMeta } from '../core/types.ts';

export interface StateEntry {
  readonly key: string;
  readonly value: Uint8Array;
}

/** What was applied since the last write: the state's changes and the place in the log that they lead to. One batch with all else. */
export interface AppliedChanges {
  readonly at: SnapshotMeta;
  /** The last value of each changed key; null deletes. */
  readonly changes: ReadonlyMap<string, Uint8Array | null>;
}

/** Written atomically and synced. */
export interface StorageBatch {
  readonly hardState: HardState | null;
  /** Follow one another; everything stored from the first one's index on is replaced. */
  readonly entries: readonly Entry[];
  readonly applied: AppliedChanges | null;
  /** Drop the log up to here; applied by the end of this batch. */
  readonly compactTo: SnapshotMeta | null;
}

/** Count and sum over all entries of a state, the same on all members that have applied the same log. */
export interface StateDigest {
  readonly count: number;
  readonly sum: number;
}

/** The state at one place in the log, unchanged by later writes. */
export interface StateView {
  readonly at: SnapshotMeta;
  readonly digest: StateDigest;
  /** Entries after `afterKey` (null: from the start) in key order, about `maxBytes` of them. */
  read(afterKey: string | null, maxBytes: number): Promise<{ readonly entries: StateEntry[]; readonly done: boolean }>;
  close(): Promise<void>;
}

/** A state that is being received beside the current one. */
export interface Staging {
  /** Resolves when the entries are durable. Keys come in order and once. */
  add(entries: readonly StateEntry[]): Promise<void>;
  digest(): StateDigest;
  discard(): Promise<void>;
}

export interface RaftStorage {
  readonly initial: InitialState;
  /** How often this directory was opened, this time included; durable before anyone hears of it. */
  readonly starts: number;
  /** The stored state, verified. */
  readState(): Promise<StateEntry[]>;
  /** One at a time. A rejection means that the disk cannot be trusted any more. */
  write(batch: StorageBatch): Promise<void>;
  /** The place in the log up to which the stored state has been applied. */
  readonly applied: LogIndex;
  view(): Promise<StateView>;
  stage(): Promise<Staging>;
  /** Replaces state and log by a staged snapshot, atomically. */
  install(staging: Staging, at: SnapshotMeta, hardState: HardState | null): Promise<void>;
  /** Called now and then while the disk is idle, for what need not be synced at once. */
  settle(): Promise<void>;
  close(): Promise<void>;
}
