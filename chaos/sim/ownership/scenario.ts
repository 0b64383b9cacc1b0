/** Nodes that own, hand over and take over a volume: the histories that the rules of the protocol prevent, and random worlds. */
import type { Report, Scenario } from '../scenario.ts';
import type { HistoryBug } from './bugs/bug.ts';
import { tellHistory } from './histories/history.ts';
import { HISTORIES } from './histories/index.ts';
import type { WorldBug } from './world/bugs/bug.ts';
import { TOLD_IN_WORLDS, WORLD_BUGS } from './world/bugs/index.ts';
import { World } from './world/world.ts';

const TOLD: readonly HistoryBug[] = HISTORIES.map(({ bug }) => bug);

export const OWNERSHIP: Scenario = {
  name: 'ownership',
  bugs: [...TOLD, ...WORLD_BUGS],

  /** Even seeds tell a history after the other, odd ones are worlds. */
  run(seed, bug) {
    return tells(seed) ? history(seed / 2, toldBug(bug)) : world(seed, worldBug(bug));
  },

  canHave: (seed, bug) => (tells(seed) ? toldBug(bug) : worldBug(bug)) !== null,
};

function tells(seed: number): boolean {
  return seed % 2 === 0;
}

function toldBug(bug: string | null): HistoryBug | null {
  return TOLD.find(({ name }) => name === bug) ?? null;
}

function worldBug(bug: string | null): WorldBug | null {
  return [...WORLD_BUGS, ...TOLD_IN_WORLDS].find(({ name }) => name === bug) ?? null;
}

async function history(number: number, bug: HistoryBug | null): Promise<Report> {
  const told = HISTORIES[number % HISTORIES.length];
  if (told === undefined) throw new Error('there are histories');
  const { cluster, ledger } = await tellHistory(told, bug);
  return { totals: { events: cluster.disk.operations, acknowledgedWrites: ledger.acknowledgedWrites }, counts: { histories: 1 } };
}

async function world(seed: number, bug: WorldBug | null): Promise<Report> {
  const { events, faults, disk, network, elections, acknowledgedWrites, handovers, expirations, ...counts } = await new World(seed, bug).run();
  const partitions = faults.partitions + faults.oneWayPartitions + faults.bridgePartitions;
  const crashes = faults.crashes + faults.dataDeaths + faults.powerFailures;
  const pauses = faults.pauses + faults.dataPauses + faults.controlPauses;
  return {
    totals: { events, crashes, partitions, pauses, elections, failovers: expirations, handovers, acknowledgedWrites },
    counts: { worlds: 1, ...faults, ...disk, ...network, ...counts },
  };
}
