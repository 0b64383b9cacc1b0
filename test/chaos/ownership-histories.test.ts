/** Each history that a rule of the ownership protocol prevents: clean with the production code, found out with the rule left out. */
import { describe, expect, it } from 'vitest';
import { Violation } from '../../chaos/checkers/checker.ts';
import { tellHistory } from '../../chaos/sim/ownership/histories/history.ts';
import { HISTORIES } from '../../chaos/sim/ownership/histories/index.ts';
import { Stuck } from '../../chaos/sim/scenario.ts';

describe.each(HISTORIES)('$rule', (history) => {
  it('is kept', async () => {
    const { cluster } = await tellHistory(history, null);
    expect(cluster.internalErrors).toEqual([]);
  });

  it(`is missed: ${history.bug.name}`, async () => {
    const found: unknown = await tellHistory(history, history.bug).then(
      () => null,
      (error: unknown) => error,
    );
    expect(found).toSatisfy((error) => error instanceof Violation || error instanceof Stuck);
  });
});
