/**
 * Runs seeded worlds of the production code. The last line of its output is JSON. Exit 0: clean; 1: a checker found a violation; 2: a world
 * did not converge after healing; 3: our code crashed. On failure it prints the command that replays it.
 *
 * A seed begins a series: with `--seeds N` it is followed by those after it. With `--bug` the series goes on until the bug is found, for at most
 * a minute, on two threads unless `--threads` says otherwise; all else runs on one.
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { BUGS } from './raft/bugs/index.ts';
import { type Outcome, runWorld } from './raft/outcome.ts';
import type { WorldReport } from './raft/world.ts';
import { runSeries } from './worlds.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string' },
    seed: { type: 'string' },
    minutes: { type: 'string' },
    scenario: { type: 'string', default: 'all' },
    bug: { type: 'string' },
    threads: { type: 'string' },
    'list-bugs': { type: 'boolean', default: false },
  },
});

const totals = {
  seeds: 0,
  events: 0,
  crashes: 0,
  partitions: 0,
  pauses: 0,
  elections: 0,
  failovers: 0,
  handovers: 0,
  acknowledgedWrites: 0,
  violations: 0,
  stuck: 0,
};
const faults: Record<string, number> = {};

process.exitCode = values['list-bugs'] ? listBugs() : await runWorlds();

function listBugs(): number {
  for (const { name } of BUGS) console.log(name);
  return 0;
}

async function runWorlds(): Promise<number> {
  if (values.scenario !== 'raft' && values.scenario !== 'all') {
    console.error(`no scenario ${values.scenario}; there is: raft`);
    return 64;
  }
  const bug = values.bug ?? null;
  if (bug !== null && !BUGS.some(({ name }) => name === bug)) {
    console.error(`no bug ${bug}; --list-bugs names them`);
    return 64;
  }
  const minutes = values.minutes ?? (bug === null ? undefined : '1');
  const endMs = minutes === undefined ? Number.POSITIVE_INFINITY : performance.now() + Number(minutes) * 60_000;
  const startedCpu = process.cpuUsage();
  let failed: Outcome | null = null;
  await runSeries(
    {
      first: Number(values.seed ?? 1),
      count: Number(values.seeds ?? (bug !== null || minutes !== undefined ? Number.POSITIVE_INFINITY : values.seed === undefined ? 1_000 : 1)),
      bug,
      threads: Number(values.threads ?? (bug === null ? 1 : Math.min(2, availableParallelism()))),
      goesOn: () => performance.now() < endMs,
    },
    (outcome) => {
      totals.seeds++;
      if (outcome.report !== null) add(outcome.report);
      else failed = outcome;
    },
  );
  const { user, system } = process.cpuUsage(startedCpu);
  const cpuSeconds = (user + system) / 1e6;
  const exit = failed === null ? 0 : await report(failed, bug);
  if (exit === 0 && bug !== null) console.log(`${bug} was not found`);
  console.log(`faults: ${JSON.stringify(faults)}`);
  console.log(`${totals.events} events in ${cpuSeconds.toFixed(1)} CPU seconds: ${Math.round(totals.events / cpuSeconds)} a second of one core`);
  console.log(JSON.stringify(totals));
  return exit;
}

function add(world: WorldReport): void {
  totals.events += world.events;
  totals.crashes += world.faults.crashes;
  totals.partitions += world.faults.partitions + world.faults.oneWayPartitions + world.faults.bridgePartitions;
  totals.pauses += world.faults.pauses;
  totals.elections += world.elections;
  totals.acknowledgedWrites += world.acknowledgedWrites;
  const counted = { ...world.faults, ...world.disk, ...world.network, snapshotsInstalled: world.snapshotsInstalled };
  for (const [name, number] of Object.entries(counted)) faults[name] = (faults[name] ?? 0) + number;
}

/** Says what happened and how to see it again; the exit code. */
async function report({ seed, failure }: Outcome, bug: string | null): Promise<number> {
  if (failure === null) return 0;
  if (failure.exit === 1) totals.violations++;
  if (failure.exit === 2) totals.stuck++;
  console.log(failure.text);
  console.log(`replay: npm run sim -- --scenario raft --seed ${seed}${bug === null ? '' : ` --bug ${bug}`}`);
  if (bug === null) return failure.exit;
  const other = (await runWorld(seed, null)).failure;
  if (other !== null) {
    console.log(`and the same seed without ${bug} fails too: ${other.text}`);
    return 3;
  }
  console.log(`the same seed without ${bug} is clean`);
  return failure.exit;
}
