/** Nodes that own, hand over and take over a volume, by the histories that the rules of the protocol prevent. */
import type { Scenario } from '../scenario.ts';
import type { Bug } from './bugs/bug.ts';
import { tellHistory } from './histories/history.ts';
import { HISTORIES } from './histories/index.ts';

const BUGS: readonly Bug[] = HISTORIES.map(({ bug }) => bug);

export const OWNERSHIP: Scenario = {
  name: 'ownership',
  bugs: BUGS,

  /** A history after the other, as the seed counts; a bug's own one when there is a bug. */
  async run(seed, bugName) {
    const bug = BUGS.find(({ name }) => name === bugName) ?? null;
    const history = HISTORIES[seed % HISTORIES.length];
    if (history === undefined) throw new Error('there are histories');
    const { cluster, ledger } = await tellHistory(history, bug);
    return {
      totals: { events: cluster.disk.operations, acknowledgedWrites: ledger.acknowledgedWrites },
      counts: {},
    };
  },
};
