import { expect, test } from 'vitest';
import type { Epoch, Generation, VolumeId } from '../../src/base/index.ts';
import { Preparation } from '../../src/volume/preparation.ts';

const message = (attempt: number, told: number, epoch = 7) => ({ volume: 1 as VolumeId, epoch: epoch as Epoch, attempt, told });
const name = (index: number) => ({ generation: 3 as Generation, index });

test('names count only in the order of one attempt', () => {
  const preparation = new Preparation(message(2, 0));
  expect(preparation.add(message(2, 0), [name(1), name(2)])).toBe(true);
  // Of an attempt that was given up, of another epoch, said twice, and with something missing in between.
  for (const other of [message(1, 2), message(2, 2, 6), message(2, 0), message(2, 3)]) expect(preparation.add(other, [name(9)])).toBe(false);
  expect(preparation.add(message(2, 2), [name(2), name(3)])).toBe(true);
  expect([...preparation.names].map(({ index }) => index)).toEqual([1, 2, 3]);
  preparation.end();
  expect(preparation.add(message(2, 4), [])).toBe(false);
});

test('a later attempt, and one for a later epoch, take the place of an earlier one', () => {
  const preparation = new Preparation(message(2, 0));
  expect([message(1, 0), message(2, 0), message(9, 0, 6)].map((other) => preparation.isOlderThan(other))).toEqual([false, false, false]);
  expect([message(3, 0), message(1, 0, 8)].map((other) => preparation.isOlderThan(other))).toEqual([true, true]);
});
