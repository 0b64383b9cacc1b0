/** Which node is asked to take what a drained node owns. */
import { expect, test } from 'vitest';
import { ArchipelagoError, silentLog } from '../../../src/base/index.ts';
import { systemClock } from '../../../src/node/clock.ts';
import { drain } from '../../../src/node/control/drain.ts';

type Asked = readonly [type: string, id: number, to?: string];

/** Gives away volumes 1 to `count`, of which each has a client; `refuse` says what a node answers that is asked to take one. */
async function drained(count: number, targets: readonly string[], refuse: (to: string) => ArchipelagoError | null) {
  const asked: Asked[] = [];
  const request = async (type: string, message: { id: number; to?: string }): Promise<unknown> => {
    if (type === 'owned') return Array.from({ length: count }, (_, place) => ({ id: place + 1, clients: 1 }));
    asked.push(message.to === undefined ? [type, message.id] : [type, message.id, message.to]);
    const refusal = message.to === undefined ? null : refuse(message.to);
    if (refusal !== null) throw refusal;
    return {};
  };
  const moved = await drain({ child: { request: request as never }, targets, last: false, clock: systemClock, log: silentLog });
  return { moved, asked };
}

test('what a node does not take, the next one is asked to take', async () => {
  const { moved, asked } = await drained(4, ['b', 'c'], (to) => (to === 'b' ? new ArchipelagoError('unavailable', 'no') : null));
  expect(moved).toBe(4);
  expect(
    asked
      .filter(([, , to]) => to === 'c')
      .map(([, id]) => id)
      .sort(),
  ).toEqual([1, 2, 3, 4]);
});

test('a volume that nobody takes is left after each was asked once', async () => {
  const { moved, asked } = await drained(1, ['b', 'c'], () => new ArchipelagoError('unavailable', 'no'));
  expect(moved).toBe(0);
  expect(asked).toEqual([
    ['handOver', 1, 'b'],
    ['handOver', 1, 'c'],
  ]);
});

test('a handover whose outcome is unknown is not tried elsewhere', async () => {
  const { moved, asked } = await drained(1, ['b', 'c'], () => new ArchipelagoError('timeout', 'unknown'));
  expect(moved).toBe(0);
  expect(asked).toEqual([['handOver', 1, 'b']]);
});
