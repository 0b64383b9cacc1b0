/** Whatever the simulator reports can be seen again with the command that it prints: a seed's world is the same world with a bug and without. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { type Outcome, runWorld, type Scenario } from '../../chaos/sim/scenario.ts';
import { scenarioOf } from '../../chaos/sim/scenarios.ts';
import { runSeries } from '../../chaos/sim/worlds.ts';

const LONG_MS = 300_000;
const OWNERSHIP = scenarioOf('ownership');

async function sim(...options: string[]): Promise<string[]> {
  // Exit 1: it was found.
  const { stdout } = await promisify(execFile)(process.execPath, ['chaos/sim/main.ts', ...options]).catch((error: { stdout: string }) => error);
  return stdout.split('\n');
}

async function firstFound(scenario: Scenario, bug: string, first: number): Promise<Outcome> {
  let found: Outcome | null = null;
  await runSeries({ scenarios: [scenario], first, count: 200, bug, threads: 1, goesOn: () => true }, (outcome) => {
    if (outcome.failure !== null) found = outcome;
  });
  expect(found, `${bug} from ${first} on`).not.toBeNull();
  return found as unknown as Outcome;
}

describe('what is reported', () => {
  it.each([
    ['of a history', 'reads-move-ownership', '7'],
    ['of a world', 'new-leader-expires-at-once', '2'],
  ])('%s is replayed by the command that is printed', { timeout: LONG_MS }, async (_what, bug, seed) => {
    const [text, replay = '', without] = await sim('--scenario', 'ownership', '--bug', bug, '--seed', seed);
    expect(without).toContain('is clean');
    expect(replay).toContain('replay: npm run sim -- ');
    const again = await sim(...replay.replace('replay: npm run sim -- ', '').split(' '));
    expect(again.slice(0, 3)).toEqual([text, replay, without]);
    // Not another one further on.
    expect(JSON.parse(again.at(-2) ?? '')).toMatchObject({ seeds: 1, violations: 1 });
  });
});

describe('a seed', () => {
  it.each([
    ['only histories', 'reads-move-ownership', 'histories'],
    ['only worlds', 'new-leader-expires-at-once', 'worlds'],
  ])('that finds a bug of %s is one of them without the bug too', { timeout: LONG_MS }, async (_what, bug, kind) => {
    for (const first of [1, 2]) {
      const { scenario, seed, failure } = await firstFound(OWNERSHIP, bug, first);
      expect(await runWorld(scenarioOf(scenario), seed, bug)).toMatchObject({ failure });
      const without = await runWorld(scenarioOf(scenario), seed, null);
      expect(without).toMatchObject({ failure: null, report: { counts: { [kind]: 1 } } });
    }
  });
});
