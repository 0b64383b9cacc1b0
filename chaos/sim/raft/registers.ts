/** The replicated state of the scenario: named registers, written by operations that are each known by a number. */
import type { StateChange, StateMachine } from '../../../src/raft/index.ts';

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export interface Write {
  readonly operation: number;
  readonly key: string;
  readonly value: string;
}

export function encodeWrite({ operation, key, value }: Write): Uint8Array {
  return encoder.encode(`${operation} ${key} ${value}`);
}

export function decodeWrite(command: Uint8Array): Write {
  const [operation = '', key = '', value = ''] = decoder.decode(command).split(' ');
  return { operation: Number(operation), key, value };
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
    const write = decodeWrite(command);
    this.values.set(write.key, write.value);
    this.observer.ran(index, write);
    const value = encoder.encode(write.value);
    return { result: value, changes: [{ key: write.key, value }] };
  }

  load(entries: Iterable<{ key: string; value: Uint8Array }>): void {
    this.values.clear();
    for (const { key, value } of entries) this.values.set(key, decoder.decode(value));
    this.observer.loaded(this.values);
  }
}
