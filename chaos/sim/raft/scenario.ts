/** A Raft group with faults. */
import type { Scenario } from '../scenario.ts';
import { BUGS } from './bugs/index.ts';
import { World } from './world.ts';

export const RAFT: Scenario = {
  name: 'raft',
  bugs: BUGS,

  async run(seed, bugName) {
    const world = await new World(seed, BUGS.find(({ name }) => name === bugName) ?? null).run();
    const { faults, disk, network, events, elections, acknowledgedWrites, snapshotsInstalled } = world;
    const partitions = faults.partitions + faults.oneWayPartitions + faults.bridgePartitions;
    return {
      totals: { events, elections, acknowledgedWrites, crashes: faults.crashes, partitions, pauses: faults.pauses },
      counts: { ...faults, ...disk, ...network, snapshotsInstalled },
    };
  },
};
