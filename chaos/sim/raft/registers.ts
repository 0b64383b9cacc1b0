/** The replicated state of the scenario: named registers, written by operations that are each known by a number. */
import type { StateChange, StateMachine } from '../../../src/raft/index.ts';

/** Of an encoded write, big-endian: the operation, then the number of the register. A value is stored as the operation that wrote it. */
const WRITE_BYTES = 8;

export interface Write {
  readonly operation: number;
  readonly key: string;
  readonly value: string;
}

/** What an operation writes. */
export function writtenBy(operation: number): string {
  return `v${operation}`;
}

export function keyOf(register: number): string {
  return `k${register}`;
}

export function encodeWrite(operation: number, register: number): Uint8Array {
  const command = new Uint8Array(WRITE_BYTES);
  for (let at = 0; at < 4; at++) {
    command[at] = operation >>> (24 - 8 * at);
    command[4 + at] = register >>> (24 - 8 * at);
  }
  return command;
}

/** Without a view: one for each command would cost more than all else here. */
function numberAt(bytes: Uint8Array, at: number): number {
  let number = 0;
  for (let end = at + 4; at < end; at++) number = number * 256 + (bytes[at] as number);
  return number;
}

export interface RegistersObserver {
  ran(index: number, write: Write): void;
  loaded(values: ReadonlyMap<string, string>): void;
}

export class Registers implements StateMachine {
  readonly values = new Map<string, string>();
  private readonly observer: RegistersObserver;

  constructor(observer: RegistersObserver) {
    this.observer = observer;
  }

  apply(command: Uint8Array, index: number): { result: Uint8Array; changes: StateChange[] } {
    const operation = numberAt(command, 0);
    const key = keyOf(numberAt(command, 4));
    const value = writtenBy(operation);
    this.values.set(key, value);
    this.observer.ran(index, { operation, key, value });
    const stored = command.subarray(0, 4);
    return { result: stored, changes: [{ key, value: stored }] };
  }

  load(entries: Iterable<{ key: string; value: Uint8Array }>): void {
    this.values.clear();
    for (const { key, value } of entries) this.values.set(key, writtenBy(numberAt(value, 0)));
    this.observer.loaded(this.values);
  }
}
