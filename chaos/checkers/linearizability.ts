/**
 * Verifies that what clients saw of each register is what one copy would have shown, with every operation at one moment between its call
 * and its return (Herlihy and Wing). A search in the manner of Wing and Gong with Lowe's memory of visited states, as Porcupine has it. An
 * operation without an answer may take effect at any time after its call, or never. Does not look at members at all.
 */
import { Violation } from './checker.ts';

export interface Operation {
  readonly id: number;
  readonly kind: 'read' | 'write';
  readonly key: string;
  /** Written, or seen; undefined for an empty register. */
  readonly value: string | undefined;
  readonly call: number;
  /** Infinite when the outcome is unknown. */
  readonly return: number;
}

/** Visited states before the search gives up; then the history is too large for the check, which is a mistake of the scenario. */
const MAX_STATES = 2_000_000;
/** Operations between the first that is not placed and the last that is, up to which a state is one number. */
const WINDOW = 20;

export function checkLinearizable(history: readonly Operation[]): void {
  const byKey = new Map<string, Operation[]>();
  for (const operation of history) {
    const operations = byKey.get(operation.key) ?? [];
    byKey.set(operation.key, operations);
    operations.push(operation);
  }
  for (const [key, operations] of byKey) {
    if (!isLinearizable(operations)) throw new Violation('linearizability', `no order explains what clients saw of ${key}:\n${describe(operations)}`);
  }
}

/** Whether some order of these operations on one register, empty at first, explains them. */
export function isLinearizable(history: readonly Operation[]): boolean {
  const seen = new Set(history.filter(({ kind }) => kind === 'read').map(({ value }) => value));
  // A write that nobody is sure of and nobody saw may as well not have happened.
  const operations = history
    .filter(({ kind, return: end, value }) => kind === 'read' || end !== Number.POSITIVE_INFINITY || seen.has(value))
    .sort((a, b) => a.call - b.call);
  const visited = new Set<number | string>();
  // Values by number, so that a state can be one.
  const numbers = new Map<string | undefined, number>();
  for (const { value } of operations) if (!numbers.has(value)) numbers.set(value, numbers.size);
  let states = 0;
  const done = new Uint8Array(operations.length);
  let highest = -1;

  /** `first` is the first operation that is not placed. */
  function search(first: number, value: string | undefined): boolean {
    while (first < operations.length && done[first] === 1) first++;
    if (first === operations.length) return true;
    // Whoever returned before another was called comes first: only those called before the earliest return may be next.
    let earliestReturn = Number.POSITIVE_INFINITY;
    const candidates: number[] = [];
    for (let at = first; at < operations.length && (operations[at] as Operation).call <= earliestReturn; at++) {
      if (done[at] === 1) continue;
      candidates.push(at);
      earliestReturn = Math.min(earliestReturn, (operations[at] as Operation).return);
    }
    if (earliestReturn === Number.POSITIVE_INFINITY && candidates.every((at) => (operations[at] as Operation).kind === 'write')) return true;
    for (const at of candidates) {
      const operation = operations[at] as Operation;
      if (operation.call > earliestReturn) continue;
      if (operation.kind === 'read' && operation.value !== value) continue;
      done[at] = 1;
      const before = highest;
      highest = Math.max(highest, at);
      const next = operation.kind === 'write' ? operation.value : value;
      const state = stateOf(first, next);
      if (!visited.has(state)) {
        if (++states > MAX_STATES) throw new Error('a history too large to check');
        visited.add(state);
        if (search(first, next)) return true;
      }
      done[at] = 0;
      highest = before;
    }
    return false;
  }

  /** The value, and what is placed: all before `first`, nothing behind `highest`, and between the two as `done` says. */
  function stateOf(first: number, value: string | undefined): number | string {
    const place = first * numbers.size + (numbers.get(value) as number);
    if (highest - first >= WINDOW || place >= 2 ** (52 - WINDOW)) return `${place}|${done.subarray(first, highest + 1).join('')}`;
    let placed = 0;
    for (let at = first; at <= highest; at++) placed = placed * 2 + (done[at] as number);
    // A one in front tells windows of different lengths apart.
    return place * 2 ** (WINDOW + 1) + 2 ** (highest + 1 - first) + placed;
  }

  return search(0, undefined);
}

function describe(operations: readonly Operation[]): string {
  return [...operations]
    .sort((a, b) => a.call - b.call)
    .map(({ id, kind, value, call, return: end }) => `  ${call.toFixed(1)}..${end.toFixed(1)} #${id} ${kind} ${value}`)
    .join('\n');
}
