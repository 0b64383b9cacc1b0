/** What a group replicates, as its user writes it. */

export interface StateChange {
  readonly key: string;
  /** Null deletes. */
  readonly value: Uint8Array | null;
}

export interface StateMachine {
  /**
   * Called in log order, exactly once per command as far as the state is concerned. Deterministic and synchronous. It throws only for a
   * bug, and that stops the node: a refusal is a result. `term` is that of the leader that took the command: where a command has to be carried
   * out by the very leader that proposed it, and by no later one, it names its term.
   */
  apply(command: Uint8Array, index: number, term: number): { result: Uint8Array; changes: StateChange[] };
  /** Replaces all state: at the start with what storage holds, and after a snapshot was installed. */
  load(entries: Iterable<{ key: string; value: Uint8Array }>): void;
}
