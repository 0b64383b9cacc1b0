/**
 * Runs seeded worlds of the production code. The last line of its output is JSON. Exit 0: clean; 1: a checker found a violation; 2: a world
 * did not converge after healing; 3: our code crashed. On failure it prints the command that replays it.
 */
import { parseArgs } from 'node:util';
import { Violation } from '../checkers/checker.ts';
import type { Bug } from './raft/bugs/bug.ts';
import { BUGS } from './raft/bugs/index.ts';
import { Stuck } from './raft/convergence.ts';
import { World, type WorldReport } from './raft/world.ts';

interface Totals {
  seeds: number;
  events: number;
  crashes: number;
  partitions: number;
  pauses: number;
  elections: number;
  failovers: number;
  handovers: number;
  acknowledgedWrites: number;
  violations: number;
  stuck: number;
}

const { values } = parseArgs({
  options: {
    seeds: { type: 'string' },
    seed: { type: 'string' },
    minutes: { type: 'string' },
    scenario: { type: 'string', default: 'all' },
    bug: { type: 'string' },
    'list-bugs': { type: 'boolean', default: false },
  },
});

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
  const bug = values.bug === undefined ? null : BUGS.find(({ name }) => name === values.bug);
  if (bug === undefined) {
    console.error(`no bug ${values.bug}; --list-bugs names them`);
    return 64;
  }
  const first = Number(values.seed ?? 1);
  const count = Number(values.seeds ?? (values.seed === undefined || bug !== null ? 1_000 : 1));
  const minutes = values.minutes ?? (bug === null ? undefined : '1');
  const endMs = minutes === undefined ? Number.POSITIVE_INFINITY : performance.now() + Number(minutes) * 60_000;
  const totals: Totals = {
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
  const startedCpu = process.cpuUsage();
  let exit = 0;
  for (let seed = first; seed < first + count && exit === 0 && performance.now() < endMs; seed++) {
    totals.seeds++;
    try {
      add(totals, faults, await new World(seed, bug).run());
    } catch (error) {
      exit = await report(error, seed, bug, totals);
    }
  }
  const { user, system } = process.cpuUsage(startedCpu);
  const cpuSeconds = (user + system) / 1e6;
  console.log(`faults: ${JSON.stringify(faults)}`);
  console.log(`${totals.events} events in ${cpuSeconds.toFixed(1)} CPU seconds: ${Math.round(totals.events / cpuSeconds)} a second of one core`);
  console.log(JSON.stringify(totals));
  return exit;
}

function add(totals: Totals, faults: Record<string, number>, world: WorldReport): void {
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
async function report(error: unknown, seed: number, bug: Bug | null, totals: Totals): Promise<number> {
  const replay = `npm run sim -- --scenario raft --seed ${seed}${bug === null ? '' : ` --bug ${bug.name}`}`;
  if (error instanceof Violation) {
    totals.violations++;
    console.log(`violation found by ${error.checker}, seed ${seed}: ${error.message}`);
  } else if (error instanceof Stuck) {
    totals.stuck++;
    console.log(`stuck (found by liveness), seed ${seed}: ${error.message}`);
  } else {
    console.log(`crash, seed ${seed}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    console.log(`replay: ${replay}`);
    return 3;
  }
  console.log(`replay: ${replay}`);
  if (bug !== null) {
    try {
      await new World(seed, null).run();
      console.log(`the same seed without ${bug.name} is clean`);
    } catch (other) {
      console.log(`and the same seed without ${bug.name} fails too: ${String(other)}`);
      return 3;
    }
  }
  return error instanceof Violation ? 1 : 2;
}
