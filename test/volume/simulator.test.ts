/** The volume scenario of the simulator: that it replays, that every step is cut short by some crash, and that its checkers find planted bugs. */
import { describe, expect, it } from 'vitest';
import { SCENARIOS, scenarioOf } from '../../chaos/sim/scenarios.ts';

const volume = scenarioOf('volume');

describe('simulated volumes', () => {
  it('live the same life again from their seed', async () => {
    const first = await volume.run(3, null);
    expect(await volume.run(3, null)).toEqual(first);
    expect(first.totals.events).toBeGreaterThan(500);
  });

  it('keep every promise, whichever step a crash cuts short', async () => {
    const counts = new Map<string, number>();
    for (let seed = 1; seed <= 30; seed++) {
      const report = await volume.run(seed, null);
      for (const [name, count] of Object.entries(report.counts)) counts.set(name, (counts.get(name) ?? 0) + count);
    }
    const cutShort = [...counts].filter(([name]) => name.startsWith('crashesDuring '));
    expect(cutShort).toHaveLength(9);
    for (const [name, count] of [...cutShort, ...counts]) expect(count, name).toBeGreaterThan(0);
  });

  it('have bugs by names of their own, in all scenarios', () => {
    const names = SCENARIOS.flatMap(({ bugs }) => bugs.map(({ name }) => name));
    expect(new Set(names).size).toBe(names.length);
  });

  it.each(volume.bugs)('are found out with the bug $name', async ({ name }) => {
    for (let seed = 1; seed <= 100; seed++) {
      const found = await volume.run(seed, name).then(
        () => null,
        (error: unknown) => error,
      );
      if (found === null) continue;
      expect(await volume.run(seed, null)).toMatchObject({ totals: { crashes: expect.any(Number) } });
      return;
    }
    expect.fail('no world found it');
  });
});
