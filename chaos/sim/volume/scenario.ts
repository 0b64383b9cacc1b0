/** Volumes over one disk, with deaths, failovers, power failures and collections. */
import { Prng } from '../../../src/base/index.ts';
import type { Scenario } from '../scenario.ts';
import { BUGS } from './bugs/index.ts';
import type { WorldOptions } from './setting.ts';
import { World } from './world.ts';

/** Worlds differ much from one another: a mistake that never shows in an average world may show at once in an odd one. */
function drawOptions(seed: number): WorldOptions {
  const random = new Prng(seed).fork();
  const pick = (values: readonly number[]): number => values[random.below(values.length)] as number;
  return {
    seed,
    steps: pick([200, 400, 700]),
    faults: random.chance(0.3),
    deaths: pick([0.004, 0.02]),
    failovers: pick([0.004, 0.02]),
    handOvers: pick([0.01, 0.03, 0.1]),
    collections: pick([0.02, 0.1]),
  };
}

export const VOLUME: Scenario = {
  name: 'volume',
  bugs: BUGS,

  async run(seed, bugName) {
    const bug = BUGS.find(({ name }) => name === bugName);
    const world = new World({ ...drawOptions(seed), ...(bug && { hooks: bug.hooks }) });
    await world.run();
    const { deaths, powerFailures, failovers, handovers, acknowledgedWrites, crashes, ios, snapshotsTaken, collected, merges, disk } = world;
    const cutShort = Object.fromEntries(Object.entries(crashes).map(([what, count]) => [`crashesDuring ${what}`, count]));
    return {
      totals: { events: disk.operations + ios, crashes: deaths + powerFailures, pauses: failovers, failovers, handovers, acknowledgedWrites },
      counts: { deaths, powerFailures, ...cutShort, snapshotsTaken, collected, merges },
    };
  },
};
