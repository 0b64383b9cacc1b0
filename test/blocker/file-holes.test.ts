/** What zeroing costs and gives back on a disk: it fills no hole, and what it cuts off at the end is free. */
import { statSync } from 'node:fs';
import { expect, it } from 'vitest';
import { objectPath } from '../../src/blocker/file/layout.ts';
import { done, expectBytes, generationOf, joined, owner, pattern, readOf, zeros } from '../contract/store-support.ts';
import { freshDirectory, openFiles, removeDirectory } from './support.ts';

const KIB = 1024;
const generation = generationOf(1);

it('zeros fill no hole, whatever the range', async () => {
  const directory = freshDirectory();
  const store = await openFiles(directory);
  const volume = await owner(store);
  const object = volume.object(generation, 1);
  const room = () => statSync(objectPath(directory, generation, 1)).blocks * 512;
  await done((waiter) => object.create(4092 * KIB, pattern(1, 4 * KIB), waiter));
  await done((waiter) => object.write(2048 * KIB + 100, pattern(2, 64 * KIB), waiter));
  await volume.sync();
  const before = room();
  expect(before).toBeLessThan(200 * KIB);
  for (const [from, to] of [
    [0, 2048 * KIB],
    [3000 * KIB + 3, 3000 * KIB + 600],
    [2112 * KIB + 100, 4092 * KIB],
    [2048 * KIB + 7 * KIB, 2048 * KIB + 9 * KIB + 1],
  ] as const)
    await done((waiter) => object.zero(from, to - from, waiter));
  await volume.sync();
  expect(room()).toBe(before);
  const middle = joined(zeros(100), pattern(2, 64 * KIB));
  middle.fill(0, 7 * KIB, 9 * KIB + 1);
  expectBytes(await readOf(object, 2048 * KIB, middle.byteLength), middle);
  expectBytes(await readOf(object, 0, 2048 * KIB), zeros(2048 * KIB));
  expectBytes(await readOf(object, 4092 * KIB, 4 * KIB), pattern(1, 4 * KIB));
  await done((waiter) => object.zero(1024 * KIB, 3072 * KIB, waiter));
  await volume.sync();
  expect(room()).toBe(0);
  await store.close();
  removeDirectory(directory);
});
