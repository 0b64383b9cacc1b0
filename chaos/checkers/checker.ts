/** What a checker of the Raft scenario sees. Each has a file of its own, headed by what it verifies and what it does not. */
import type { CoreState } from '../../src/raft/core/state.ts';
import type { Entry, Message } from '../../src/raft/core/types.ts';

/** A member after one of its events. */
export interface Observed {
  readonly id: string;
  /** Another object in each life of its process. */
  readonly state: CoreState;
  /** The log after its base; the same array as long as the base stays. */
  readonly entries: readonly Entry[];
}

export interface Surroundings {
  /** Whether a member's disk would still have this entry, or a state with it, after a crash. */
  durableAt(id: string, index: number, term: number): boolean;
}

export interface Checker {
  readonly name: string;
  /** After each event of a running member. */
  afterEvent?(member: Observed, world: Surroundings): void;
  /** A member sends a message of the core. */
  sent?(member: Observed, message: Message): void;
  /** A client was told that its operation was certainly not applied. */
  refused?(operation: number): void;
  /** A member's state machine ran a command. */
  ran?(id: string, index: number, write: { readonly operation: number; readonly key: string; readonly value: string }): void;
  /** A member's state was replaced by what was stored as the state at `index`. */
  loaded?(id: string, index: number, values: ReadonlyMap<string, string>): void;
  /** The member's state machine is done with everything up to `index`. */
  applied?(id: string, index: number): void;
}

export class Violation extends Error {
  override readonly name = 'Violation';
  readonly checker: string;

  constructor(checker: string, message: string) {
    super(message);
    this.checker = checker;
  }
}
