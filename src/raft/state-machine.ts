/** What a group replicates, as its user writes it. */

/** One key of the state and what it is from now on. Keys are any text; they sort by their UTF-8, which is the order of `load`. */
export interface StateChange {
  readonly key: string;
  /** Null deletes. Belongs to Raft from then on: not changed by anyone. */
  readonly value: Uint8Array | null;
}

/**
 * The state itself stays with the user, in memory; Raft keeps a copy on the disk from the changes that it is told, from which it makes snapshots.
 * So all that a later command depends on must be among the changes. The methods are called from within events of the member.
 */
export interface StateMachine {
  /**
   * Called in log order, exactly once per command as far as the state is concerned. Deterministic and synchronous. It throws only for a
   * bug, and that stops the node: a refusal is a result. `term` is that of the leader that took the command: where a command has to be carried
   * out by the very leader that proposed it, and by no later one, it names its term.
   */
  apply(command: Uint8Array, index: number, term: number): { result: Uint8Array; changes: StateChange[] };
  /**
   * Whether every member is told at once that such a command is committed, at the cost of a frame to each. Else only the member that proposed it
   * is; the others hear of it with the next append, or some milliseconds later. Absent: none is.
   */
  isUrgent?(command: Uint8Array): boolean;
  /**
   * Replaces all state: at the start with what storage holds, and after a snapshot was installed. In the order of the keys; the values may be kept.
   */
  load(entries: Iterable<{ key: string; value: Uint8Array }>): void;
}
