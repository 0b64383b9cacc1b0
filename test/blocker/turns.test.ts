/** Takeovers that are asked for at once: between them the process has time for others. */
import { afterEach, expect, it } from 'vitest';
import type { Epoch, VolumeId } from '../../src/base/index.ts';
import { Turns } from '../../src/blocker/file/turns.ts';
import { freshDirectory, openFiles, removeDirectory } from './support.ts';

const directory = freshDirectory();
afterEach(() => removeDirectory(directory));

const nextTurn = () => new Promise<void>((resolve) => void setImmediate(resolve));

it('lets the first go on at once, and the others one a turn', async () => {
  const turns = new Turns();
  const gone: number[] = [];
  const go = async (place: number) => {
    await turns.next();
    gone.push(place);
  };
  const all = [1, 2, 3].map(go);
  await Promise.resolve();
  expect(gone).toEqual([1]);
  for (const count of [2, 3]) {
    await nextTurn();
    expect(gone.length).toBe(count);
  }
  await Promise.all(all);
  let nobodyWaits = false;
  const waiting = turns.whenNobodyWaits().then(() => (nobodyWaits = true));
  await Promise.resolve();
  expect(nobodyWaits).toBe(false);
  await waiting;
  // One turn later it is as if nobody had come.
  const fourth = go(4);
  await Promise.resolve();
  expect(gone).toEqual([1, 2, 3, 4]);
  await fourth;
});

it('takes over one volume a turn, however many there are', async () => {
  const store = await openFiles(directory);
  let turns = 0;
  let counting = true;
  const count = () => {
    turns++;
    if (counting) setImmediate(count);
  };
  setImmediate(count);
  const takeovers = await Promise.all(Array.from({ length: 8 }, (_, place) => store.takeOver((place + 1) as VolumeId, 1 as Epoch, false)));
  counting = false;
  expect(turns).toBeGreaterThanOrEqual(takeovers.length - 1);
  await Promise.all(takeovers.map((takeover) => takeover.store.close()));
  await store.close();
});
