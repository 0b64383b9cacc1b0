/**
 * Verifies that what clients saw of each register is what one copy would have shown, with every operation at one moment between its call
 * and its return (Herlihy and Wing). Where each value was written once, that is decided by zones, in no more time than sorting takes (Gibbons
 * and Korach, Testing Shared Memories); else by a search in the manner of Wing and Gong with Lowe's memory of visited states, as Porcupine
 * has it. An operation without an answer may take effect at any time after its call, or never. Does not look at members at all.
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
  /** Of a write: it has taken effect by its return, or never will. */
  readonly optional?: boolean;
}

/** Visited states before the search gives up; then the history is too large for the check, which is a mistake of the scenario. */
const MAX_STATES = 2_000_000;
/** Operations that a violation tells of: the last before it. */
const MAX_TOLD = 40;
/** Operations between the first that is not placed and the last that is, up to which a state is one number. */
const WINDOW = 20;

interface Frame {
  /** The first operation that was not placed when this frame began. */
  readonly first: number;
  /** In the register before the operation that is placed here. */
  readonly value: string | undefined;
  readonly possible: readonly number[];
  tried: number;
  placed: number | null;
  /** The uncertain write that was placed right before it. */
  spare: number | null;
  /** The highest operation that was placed when this frame began. */
  readonly highest: number;
  /** The earliest return of those that were not placed. */
  readonly earliestReturn: number;
}

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
  return decideByZones(history) ?? decideBySearch(history);
}

/** A value, and all that has to do with it: in an order that explains the history its write comes first, and its reads at once behind it. */
interface Zone {
  /** When its write was called. */
  readonly writtenFrom: number;
  /** The earliest return of them all. */
  firstReturn: number;
  /** The latest call. */
  lastCall: number;
}

/**
 * Null if a value was written twice, or has perhaps not been written. One value has to come before another where one of its operations returned
 * before one of the other's was called, and an order of the values that heeds this explains the history. There is one unless two values each have to come before the other:
 * of any longer circle, the value that was called last and the one behind it are such two.
 */
function decideByZones(history: readonly Operation[]): boolean | null {
  const never = Number.NEGATIVE_INFINITY;
  const zones = new Map<string | undefined, Zone>([[undefined, { writtenFrom: never, firstReturn: never, lastCall: never }]]);
  for (const { kind, value, call, return: end, optional } of history) {
    if (kind !== 'write') continue;
    if (optional === true || zones.has(value)) return null;
    zones.set(value, { writtenFrom: call, firstReturn: end, lastCall: call });
  }
  for (const { kind, value, call, return: end } of history) {
    // A read that nobody was told of says nothing.
    if (kind !== 'read' || end === Number.POSITIVE_INFINITY) continue;
    const zone = zones.get(value);
    if (zone === undefined || end < zone.writtenFrom) return false;
    zone.firstReturn = Math.min(zone.firstReturn, end);
    zone.lastCall = Math.max(zone.lastCall, call);
  }
  return mayBeOrdered([...zones.values()]);
}

/** Whether no two of them each have to come before the other: the first return of each is before the last call of the other. */
function mayBeOrdered(zones: readonly Zone[]): boolean {
  // Those that were there for some time, for certain. Two of them must not share a moment.
  const lasting = zones.filter(({ firstReturn, lastCall }) => firstReturn < lastCall).sort((a, b) => a.firstReturn - b.firstReturn);
  for (let at = 1; at < lasting.length; at++) if ((lasting[at] as Zone).firstReturn < (lasting[at - 1] as Zone).lastCall) return false;
  // One that perhaps was there for a moment only must have had one outside of each of those.
  return zones.every(({ firstReturn, lastCall }) => {
    if (firstReturn < lastCall) return true;
    let low = 0;
    for (let high = lasting.length; low < high; ) {
      const middle = (low + high) >> 1;
      if ((lasting[middle] as Zone).firstReturn < lastCall) low = middle + 1;
      else high = middle;
    }
    const around = lasting[low - 1];
    return around === undefined || around.lastCall <= firstReturn;
  });
}

/**
 * The same for any history; exported for the test that compares the two ways. A write that is not sure to have happened is placed
 * only where a read needs it, right before it: anywhere else it would be overwritten unseen. Of several with the same value the one that
 * has to happen first is taken, since whatever another could explain later it explains too.
 */
export function decideBySearch(history: readonly Operation[]): boolean {
  const isSure = ({ kind, return: end, optional }: Operation) => end !== Number.POSITIVE_INFINITY && (kind === 'read' || !optional);
  const operations = history.filter(isSure).sort((a, b) => a.call - b.call);
  const spares = history.filter((operation) => operation.kind === 'write' && !isSure(operation)).sort((a, b) => a.return - b.return);
  const sparesOf = new Map<string | undefined, number[]>();
  spares.forEach(({ value }, at) => {
    const places = sparesOf.get(value);
    if (places === undefined) sparesOf.set(value, [at]);
    else places.push(at);
  });
  const used = new Set<number>();
  const visited = new Set<number | string>();
  // Values by number, so that a state can be one.
  const numbers = new Map<string | undefined, number>([[undefined, 0]]);
  for (const { value } of operations) if (!numbers.has(value)) numbers.set(value, numbers.size);
  const done = new Uint8Array(operations.length);
  let highest = -1;

  /** What is placed so far, one frame each; a loop and no recursion, because histories are long. */
  const frames: Frame[] = [];

  /** Goes on with `value` in the register; `from` is no later than the first operation that is not placed. True if all are explained. */
  function enter(from: number, value: string | undefined): boolean {
    let first = from;
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
    const possible = candidates.filter((at) => {
      const { call, kind, value: seen } = operations[at] as Operation;
      return call <= earliestReturn && (kind === 'write' || seen === value || spareFor(seen, earliestReturn) !== null);
    });
    frames.push({ first, value, possible, tried: 0, placed: null, spare: null, highest, earliestReturn });
    return false;
  }

  /** An uncertain write of this value that may happen now. */
  function spareFor(value: string | undefined, earliestReturn: number): number | null {
    const latestCall = highest < 0 ? Number.NEGATIVE_INFINITY : (operations[highest] as Operation).call;
    for (const at of sparesOf.get(value) ?? []) {
      const { call, return: end } = spares[at] as Operation;
      if (call <= earliestReturn && end >= latestCall && !used.has(at)) return at;
    }
    return null;
  }

  function takeBack(frame: Frame): void {
    if (frame.placed === null) return;
    done[frame.placed] = 0;
    highest = frame.highest;
    if (frame.spare !== null) used.delete(frame.spare);
    frame.placed = null;
    frame.spare = null;
  }

  function search(): boolean {
    if (enter(0, undefined)) return true;
    for (let frame = frames.at(-1); frame !== undefined; frame = frames.at(-1)) {
      takeBack(frame);
      const at = frame.possible[frame.tried++];
      if (at === undefined) {
        frames.pop();
        continue;
      }
      const { kind, value } = operations[at] as Operation;
      if (kind === 'read' && value !== frame.value) {
        frame.spare = spareFor(value, frame.earliestReturn);
        if (frame.spare !== null) used.add(frame.spare);
      }
      done[at] = 1;
      highest = Math.max(highest, at);
      frame.placed = at;
      const state = stateOf(frame.first, value);
      if (visited.has(state)) continue;
      if (visited.size >= MAX_STATES) throw new Error('a history too large to check');
      visited.add(state);
      if (enter(frame.first, value)) return true;
    }
    return false;
  }

  /** The value, and what is placed: all before `first`, nothing behind `highest`, and between the two as `done` says; and what is used up. */
  function stateOf(first: number, value: string | undefined): number | string {
    const place = first * numbers.size + (numbers.get(value) as number);
    const spent = used.size === 0 ? '' : `|${[...used].sort((a, b) => a - b).join()}`;
    if (spent !== '' || highest - first >= WINDOW || place >= 2 ** (52 - WINDOW))
      return `${place}|${done.subarray(first, highest + 1).join('')}${spent}`;
    let placed = 0;
    for (let at = first; at <= highest; at++) placed = placed * 2 + (done[at] as number);
    // A one in front tells windows of different lengths apart.
    return place * 2 ** (WINDOW + 1) + 2 ** (highest + 1 - first) + placed;
  }

  return search();
}

/** The operations that led to the first moment at which no order is left. */
function describe(operations: readonly Operation[]): string {
  const moments = operations.map(({ return: end }) => end).filter((end) => end !== Number.POSITIVE_INFINITY);
  moments.sort((a, b) => a - b);
  let [explained, failed] = [-1, moments.length - 1];
  while (failed - explained > 1) {
    const middle = (explained + failed) >> 1;
    if (isLinearizable(before(operations, moments[middle] as number))) explained = middle;
    else failed = middle;
  }
  const told = before(operations, moments[failed] as number).sort((a, b) => a.call - b.call);
  const left = Math.max(0, told.length - MAX_TOLD);
  const lines = told.slice(left).map(({ id, kind, value, call, return: end }) => `  ${call.toFixed(1)}..${end.toFixed(1)} #${id} ${kind} ${value}`);
  return [...(left > 0 ? [`  (${left} earlier operations)`] : []), ...lines].join('\n');
}

/** What is known at a moment. */
function before(operations: readonly Operation[], moment: number): Operation[] {
  const begun = operations.filter(({ kind, call, return: end }) => call <= moment && (kind === 'write' || end <= moment));
  return begun.map((operation) => (operation.return <= moment ? operation : { ...operation, return: Number.POSITIVE_INFINITY }));
}
