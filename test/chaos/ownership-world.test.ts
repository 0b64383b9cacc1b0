/** Random worlds of ownership: a few of them are clean, one can be replayed, and a mistake shows. The long runs are `npm run sim`. */
import { describe, expect, it } from 'vitest';
import { isLinearizable, type Operation } from '../../chaos/checkers/linearizability.ts';
import { World } from '../../chaos/sim/ownership/world/world.ts';

const CLEAN_SEEDS = [101, 102, 103, 104];

describe('a world', () => {
  it.each(CLEAN_SEEDS)('of seed %i is clean', async (seed) => {
    const report = await new World(seed, null).run();
    expect(report.acknowledgedWrites).toBeGreaterThan(0);
  });

  it('is a function of its seed', async () => {
    const [one, other] = [await new World(101, null).run(), await new World(101, null).run()];
    expect(one).toEqual(other);
  });
});

describe('a write that may be repeated until it is answered', () => {
  const history = (repeatedUntil: number): Operation[] => [
    { id: 1, kind: 'write', key: 'k', value: 'a', call: 1, return: 10 },
    { id: 2, kind: 'read', key: 'k', value: 'a', call: 2, return: 3 },
    { id: 3, kind: 'write', key: 'k', value: 'b', call: 4, return: 5 },
    { id: 4, kind: 'write', key: 'k', value: 'a', call: 6, return: repeatedUntil, optional: true },
    { id: 5, kind: 'read', key: 'k', value: 'b', call: 7, return: 8 },
  ];

  it('may come back, once, before its answer, and may not', () => {
    expect(isLinearizable(history(10))).toBe(true);
    expect(isLinearizable([...history(10), { id: 6, kind: 'read', key: 'k', value: 'a', call: 9, return: 12 }])).toBe(true);
  });

  it('does not come back after its answer', () => {
    const reads: Operation[] = [
      { id: 6, kind: 'read', key: 'k', value: 'b', call: 11, return: 12 },
      { id: 7, kind: 'read', key: 'k', value: 'a', call: 13, return: 14 },
    ];
    expect(isLinearizable([...history(10), ...reads])).toBe(false);
    expect(isLinearizable([...history(15), ...reads])).toBe(true);
  });
});
