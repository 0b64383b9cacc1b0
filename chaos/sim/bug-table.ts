/** How soon planted bugs are found: each from several base seeds, on one thread, with the CPU time and the worlds that it took. */
import { replayCommand, runWorld, type Scenario, seedWith } from './scenario.ts';

/** A minute on two cores: what takes longer counts as not found. */
const BUDGET_SECONDS = 120;
/** Between base seeds, so that their series of worlds do not meet. */
const BASE_STRIDE = 100_000;
/** Of the base seeds, those from which a bug has to be found. */
const NEEDED = 0.9;

export interface BugRow {
  readonly bug: string;
  readonly scenario: string;
  readonly bases: number;
  readonly found: number;
  /** Until it was found, or given up. */
  readonly medianSeconds: number;
  readonly maxSeconds: number;
  readonly medianWorlds: number;
  readonly maxWorlds: number;
  /** Whether it was found from enough base seeds. */
  readonly passes: boolean;
}

interface Search {
  readonly found: boolean;
  readonly seconds: number;
  readonly worlds: number;
}

export async function measureBug(scenario: Scenario, bug: string, first: number, bases: number): Promise<BugRow> {
  const searches: Search[] = [];
  for (let base = 0; base < bases; base++) searches.push(await search(scenario, bug, first + base * BASE_STRIDE));
  const seconds = searches.map((each) => each.seconds).sort((a, b) => a - b);
  const worlds = searches.map((each) => each.worlds).sort((a, b) => a - b);
  const found = searches.filter((each) => each.found).length;
  return {
    bug,
    scenario: scenario.name,
    bases,
    found,
    medianSeconds: middle(seconds),
    maxSeconds: seconds.at(-1) ?? 0,
    medianWorlds: middle(worlds),
    maxWorlds: worlds.at(-1) ?? 0,
    passes: found >= bases * NEEDED,
  };
}

export const TABLE_HEAD = `${'bug'.padEnd(44)} found  CPU s median    max  worlds median    max`;

export function lineOf(row: BugRow): string {
  const number = (value: number, width: number, digits = 0) => value.toFixed(digits).padStart(width);
  const found = `${row.found}/${row.bases}`.padStart(5);
  return `${row.bug.padEnd(44)} ${found}  ${number(row.medianSeconds, 12, 1)} ${number(row.maxSeconds, 6, 1)}  ${number(row.medianWorlds, 13)} ${number(row.maxWorlds, 6)}${row.passes ? '' : '  MISSED'}`;
}

/** Runs world after world from a base seed on until one of them finds the bug. Throws if that world fails without the bug as well. */
async function search(scenario: Scenario, bug: string, first: number): Promise<Search> {
  const started = process.cpuUsage();
  let seconds = 0;
  let worlds = 0;
  for (let next = first; seconds < BUDGET_SECONDS; next++) {
    next = seedWith(scenario, next, bug);
    const { failure, seed } = await runWorld(scenario, next, bug);
    worlds++;
    const { user, system } = process.cpuUsage(started);
    seconds = (user + system) / 1e6;
    if (failure === null) continue;
    const without = await runWorld(scenario, seed, null);
    if (without.failure !== null)
      throw new Error(`it fails without ${bug} as well: ${without.failure.text}\nreplay: ${replayCommand(scenario.name, seed, null)}`);
    return { found: seconds <= BUDGET_SECONDS, seconds, worlds };
  }
  return { found: false, seconds, worlds };
}

function middle(sorted: readonly number[]): number {
  return sorted[sorted.length >> 1] ?? 0;
}
