/**
 * Verifies that state machines agree: each index runs the same command everywhere, or none anywhere; and a state that was stored as that of
 * an index, in a snapshot or before a restart, is what the commands up to it make. Does not verify the order that clients see; that is
 * `linearizability`.
 */
import { type Checker, Violation } from './checker.ts';

interface Change {
  readonly index: number;
  readonly value: string;
}

export class StatesAgree implements Checker {
  readonly name = 'states-agree';
  /** What ran at an index; an index that is missing below `reached` ran nothing. */
  private readonly commands = new Map<number, string>();
  private readonly histories = new Map<string, Change[]>();
  /** The highest index that anyone is done with. */
  private reached = 0;
  /** What each member ran and is not done with. */
  private readonly running = new Map<string, Map<number, string>>();
  private readonly progress = new Map<string, number>();

  ran(id: string, index: number, write: { operation: number; key: string; value: string }): void {
    const text = `${write.operation} ${write.key} ${write.value}`;
    const known = this.commands.get(index);
    if (known === undefined && index <= this.reached) throw new Violation(this.name, `${id} runs ${text} at ${index}, where others ran nothing`);
    if (known !== undefined && known !== text) throw new Violation(this.name, `${id} runs ${text} at ${index}, where others ran ${known}`);
    const mine = this.running.get(id) ?? new Map<number, string>();
    this.running.set(id, mine.set(index, text));
    if (known !== undefined) return;
    this.commands.set(index, text);
    const history = this.histories.get(write.key) ?? [];
    this.histories.set(write.key, history);
    history.push({ index, value: write.value });
  }

  applied(id: string, index: number): void {
    const mine = this.running.get(id);
    for (let at = (this.progress.get(id) ?? 0) + 1; at <= Math.min(index, this.reached); at++) {
      const known = this.commands.get(at);
      if (known !== undefined && mine?.get(at) !== known) throw new Violation(this.name, `${id} runs nothing at ${at}, where others ran ${known}`);
    }
    mine?.clear();
    this.progress.set(id, index);
    this.reached = Math.max(this.reached, index);
  }

  loaded(id: string, index: number, values: ReadonlyMap<string, string>): void {
    this.running.get(id)?.clear();
    this.progress.set(id, index);
    for (const [key, history] of this.histories) {
      const expected = history.findLast((change) => change.index <= index)?.value;
      const found = values.get(key);
      if (found !== expected) throw new Violation(this.name, `${id} loads ${key}=${found} as the state at ${index}, which is ${expected}`);
    }
  }
}
