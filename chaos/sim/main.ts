/**
 * Runs seeded worlds of the production code. The last line of its output is JSON. Exit 0: clean; 1: a checker found a violation; 2: a world
 * did not converge after healing; 3: our code crashed. On failure it prints the command that replays it.
 *
 * With `--scenario all` the scenarios take turns: which one a seed runs depends on the seed. A seed begins a series: with `--seeds N` it is
 * followed by those after it. With `--bug` the series, of the bug's own scenario, goes on until the bug is found, for at most a minute, on two
 * threads unless `--threads` says otherwise; all else runs on one.
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { NO_TOTALS, type Outcome, type Report, runWorld, type Scenario } from './scenario.ts';
import { SCENARIOS, scenarioOf } from './scenarios.ts';
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

const totals = { seeds: 0, ...NO_TOTALS, violations: 0, stuck: 0 };
const counts: Record<string, number> = {};

process.exitCode = values['list-bugs'] ? listBugs() : await runWorlds();

function listBugs(): number {
  for (const { bugs } of SCENARIOS) for (const { name } of bugs) console.log(name);
  return 0;
}

function chosenScenarios(bug: string | null): readonly Scenario[] {
  if (bug !== null) return SCENARIOS.filter(({ bugs }) => bugs.some(({ name }) => name === bug));
  return SCENARIOS.filter(({ name }) => values.scenario === name || values.scenario === 'all');
}

async function runWorlds(): Promise<number> {
  const bug = values.bug ?? null;
  const scenarios = chosenScenarios(bug);
  if (scenarios.length === 0) {
    if (bug === null) console.error(`no scenario ${values.scenario}; there are: ${SCENARIOS.map(({ name }) => name).join(', ')}, all`);
    else console.error(`no bug ${bug}; --list-bugs names them`);
    return 64;
  }
  const minutes = values.minutes ?? (bug === null ? undefined : '1');
  const endMs = minutes === undefined ? Number.POSITIVE_INFINITY : performance.now() + Number(minutes) * 60_000;
  const startedCpu = process.cpuUsage();
  let failed: Outcome | null = null;
  await runSeries(
    {
      scenarios,
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
  console.log(`faults: ${JSON.stringify(counts)}`);
  console.log(`${totals.events} events in ${cpuSeconds.toFixed(1)} CPU seconds: ${Math.round(totals.events / cpuSeconds)} a second of one core`);
  console.log(JSON.stringify(totals));
  return exit;
}

function add(world: Report): void {
  for (const [name, number] of Object.entries(world.totals)) totals[name as keyof typeof NO_TOTALS] += number;
  for (const [name, number] of Object.entries(world.counts)) counts[name] = (counts[name] ?? 0) + number;
}

/** Says what happened and how to see it again; the exit code. */
async function report({ scenario, seed, failure }: Outcome, bug: string | null): Promise<number> {
  if (failure === null) return 0;
  if (failure.exit === 1) totals.violations++;
  if (failure.exit === 2) totals.stuck++;
  console.log(failure.text);
  console.log(`replay: npm run sim -- --scenario ${scenario} --seed ${seed}${bug === null ? '' : ` --bug ${bug}`}`);
  if (bug === null) return failure.exit;
  const other = (await runWorld(scenarioOf(scenario), seed, null)).failure;
  if (other !== null) {
    console.log(`and the same seed without ${bug} fails too: ${other.text}`);
    return 3;
  }
  console.log(`the same seed without ${bug} is clean`);
  return failure.exit;
}
