/** Figures of benchmarks: percentiles, and lines for people with the bar beside each figure. */
import type { BenchResult } from '../main.ts';

export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] as number;
}

/** Two figures that were taken one right after the other, so that what else the machine did met both. */
export interface Pair {
  readonly ours: number;
  readonly peer: number;
}

/** The one whose ratio is the middle one. */
export function middlePair(pairs: readonly Pair[]): Pair {
  const sorted = [...pairs].sort((a, b) => a.ours / a.peer - b.ours / b.peer);
  return sorted[sorted.length >> 1] as Pair;
}

/** At most `limit`, or at least, of the figure itself or of its ratio to the peer's. */
export interface Bar {
  readonly of: 'ours' | 'ratio';
  readonly limit: number;
  readonly atLeast?: true;
}

export function figure(name: string, ours: number, peer: number | null, unit: string, bar: Bar | null): BenchResult {
  const round = (value: number) => Number(value.toPrecision(4));
  const ratio = peer === null ? null : ours / peer;
  const held = bar === null ? null : isHeld(bar, bar.of === 'ours' ? ours : (ratio as number));
  const compared = ratio === null || peer === null ? '' : `, ${ratio.toFixed(2)} × ${round(peer)}`;
  const judged =
    bar === null ? '' : `   (${held ? 'held' : 'MISSED'}: at ${bar.atLeast ? 'least' : 'most'} ${bar.limit} ${bar.of === 'ours' ? unit : '×'})`;
  process.stdout.write(`${name.padEnd(56)} ${round(ours)} ${unit}${compared}${judged}\n`);
  return { case: name, ours: round(ours), peer: peer === null ? null : round(peer), ratio: ratio === null ? null : round(ratio), unit };
}

function isHeld({ limit, atLeast }: Bar, value: number): boolean {
  return atLeast ? value >= limit : value <= limit;
}

export function note(text: string): void {
  process.stdout.write(`${text}\n`);
}
