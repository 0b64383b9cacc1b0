import type { StateChange, StateMachine } from '../../../src/raft/index.ts';

const encode = (text: string) => new TextEncoder().encode(text);
const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

export interface RegisterCommand {
  readonly key: string;
  /** Replaces the value … */
  readonly set?: string;
  /** … or is added at its end, which shows whether a command was applied twice. */
  readonly append?: string;
}

/** Named texts; each command answers the text that it leaves. */
export class Registers implements StateMachine {
  readonly values = new Map<string, string>();
  loads = 0;

  static command(command: RegisterCommand): Uint8Array {
    return encode(JSON.stringify(command));
  }

  apply(command: Uint8Array): { result: Uint8Array; changes: StateChange[] } {
    const { key, set, append } = JSON.parse(decode(command)) as RegisterCommand;
    const text = set ?? (this.values.get(key) ?? '') + (append ?? '');
    this.values.set(key, text);
    return { result: encode(text), changes: [{ key, value: encode(text) }] };
  }

  isUrgent(command: Uint8Array): boolean {
    return decode(command).includes('"urgent"');
  }

  load(entries: Iterable<{ key: string; value: Uint8Array }>): void {
    this.loads++;
    this.values.clear();
    for (const { key, value } of entries) this.values.set(key, decode(value));
  }
}
