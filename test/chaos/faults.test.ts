import { describe, expect, it } from 'vitest';
import { FaultPlanner } from '../../chaos/process/faults.ts';
import { Prng } from '../../src/base/index.ts';

function rounds(seed: number, nodes: number, count = 200) {
  const planner = new FaultPlanner(new Prng(seed), nodes);
  return Array.from({ length: count }, () => planner.nextRound());
}

describe('a plan of faults', () => {
  it('comes from the seed', () => {
    expect(rounds(1, 5)).toEqual(rounds(1, 5));
    expect(rounds(1, 5)).not.toEqual(rounds(2, 5));
  });

  it.each([
    [3, [1]],
    [5, [1, 2]],
  ])('strikes any minority of %i nodes', (nodes, sizes) => {
    const planned = rounds(1, nodes);
    expect([...new Set(planned.map(({ length }) => length))].sort()).toEqual(sizes);
    for (const round of planned) expect(new Set(round.map(({ place }) => place)).size).toBe(round.length);
    expect(new Set(planned.flat().map(({ place }) => place)).size).toBe(nodes);
  });

  it('has every kind among any nine faults in a row, and pauses of half a second to ten', () => {
    const faults = rounds(1, 3)
      .flat()
      .flatMap((victim) => victim.faults);
    for (let first = 0; first + 9 <= faults.length; first++) {
      expect(new Set(faults.slice(first, first + 9).map(({ kind }) => kind)).size).toBe(5);
    }
    for (const { ms } of faults.filter(({ kind }) => kind === 'pause')) {
      expect(ms).toBeGreaterThanOrEqual(500);
      expect(ms).toBeLessThanOrEqual(10_000);
    }
  });
});
