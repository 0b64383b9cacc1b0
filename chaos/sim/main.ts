/**
 * Runs seeded worlds of the production code. `HELP` says how. The last line of the output is JSON.
 *
 * With `--scenario all` the scenarios take turns: which one a seed runs depends on the seed. On failure it prints the command that replays it.
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { type BugRow, lineOf, measureBug, TABLE_HEAD } from './bug-table.ts';
import { NO_TOTALS, type Outcome, type Report, replayCommand, runWorld, type Scenario } from './scenario.ts';
import { SCENARIOS, scenarioOf } from './scenarios.ts';
import { runSeries } from './worlds.ts';

const HELP = `npm run sim -- [options]

Runs seeded worlds of the production code with faults, and the checkers that judge them.

  --scenario NAME  ${SCENARIOS.map(({ name }) => name).join(', ')}, or all, which take turns (the default)
  --seeds N        so many worlds, from --seed on (1000 unless --seed, --minutes or --bug is given)
  --seed S         the first seed (1); alone it runs that one world
  --minutes M      worlds until then
  --threads T      worlds side by side (1; with --bug 2)
  --list-bugs      the names of the planted bugs
  --bug NAME       plants one: worlds of its scenario until it is found, for a minute at most
  --bases N        looks for each bug of the scenario, or the one of --bug, from N base seeds, on one thread, for at most 120 CPU seconds
                   each (a minute on two cores), and prints a table of what it took. Exit 1 if one is found from less than nine in ten.
  --help

Exit 0: clean; 1: a checker found a violation; 2: a world did not converge after healing; 3: our code crashed; 64: wrong options.
`;

const { values } = parseArgs({
  options: {
    seeds: { type: 'string' },
    seed: { type: 'string' },
    minutes: { type: 'string' },
    scenario: { type: 'string', default: 'all' },
    bug: { type: 'string' },
    threads: { type: 'string' },
    bases: { type: 'string' },
    'list-bugs': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

const totals = { seeds: 0, ...NO_TOTALS, violations: 0, stuck: 0 };
const counts: Record<string, number> = {};

process.exitCode = await main();

function main(): number | Promise<number> {
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  return values['list-bugs'] ? listBugs() : run();
}

function listBugs(): number {
  for (const { bugs } of SCENARIOS) for (const { name } of bugs) console.log(name);
  return 0;
}

function chosenScenarios(bug: string | null): readonly Scenario[] {
  if (bug !== null) return SCENARIOS.filter(({ bugs }) => bugs.some(({ name }) => name === bug));
  return SCENARIOS.filter(({ name }) => values.scenario === name || values.scenario === 'all');
}

async function run(): Promise<number> {
  const bug = values.bug ?? null;
  const scenarios = chosenScenarios(bug);
  if (scenarios.length === 0) {
    if (bug === null) console.error(`no scenario ${values.scenario}; there are: ${SCENARIOS.map(({ name }) => name).join(', ')}, all`);
    else console.error(`no bug ${bug}; --list-bugs names them`);
    return 64;
  }
  return values.bases === undefined ? await runWorlds(scenarios, bug) : await measureBugs(scenarios, bug, Number(values.bases));
}

async function measureBugs(scenarios: readonly Scenario[], only: string | null, bases: number): Promise<number> {
  const rows: BugRow[] = [];
  console.log(TABLE_HEAD);
  for (const scenario of scenarios) {
    for (const { name } of scenario.bugs) {
      if (only !== null && name !== only) continue;
      const row = await measureBug(scenario, name, Number(values.seed ?? 1), bases);
      rows.push(row);
      console.log(lineOf(row));
    }
  }
  console.log(JSON.stringify({ bugs: rows.length, missed: rows.filter(({ passes }) => !passes).map(({ bug }) => bug) }));
  return rows.every(({ passes }) => passes) ? 0 : 1;
}

async function runWorlds(scenarios: readonly Scenario[], bug: string | null): Promise<number> {
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
  console.log(`replay: ${replayCommand(scenario, seed, bug)}`);
  if (bug === null) return failure.exit;
  const other = (await runWorld(scenarioOf(scenario), seed, null)).failure;
  if (other !== null) {
    console.log(`and the same seed without ${bug} fails too: ${other.text}`);
    console.log(`replay: ${replayCommand(scenario, seed, null)}`);
    return 3;
  }
  console.log(`the same seed without ${bug} is clean`);
  return failure.exit;
}
