/** The cache of immutable objects: it is what the store has, read once, within its bytes. */
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { ArchipelagoError, type Generation } from '../../src/base/index.ts';
import { type BlockObject, type StoreWaiter, storeCall } from '../../src/blocker/index.ts';
import { ObjectCache } from '../../src/blocker/object-cache.ts';

const KIB = 1024;
const PART = 64 * KIB;

interface Asked {
  readonly index: number;
  readonly offset: number;
  readonly length: number;
  answer(error?: ArchipelagoError): void;
}

/** A store that answers when it is told to, or at once. Each byte tells where it is. */
function openStore({ atOnce = false } = {}) {
  const asked: Asked[] = [];
  const released: number[] = [];
  const byteAt = (index: number, position: number) => (index * 31 + Math.floor(position / 512) * 7 + position) & 0xff;
  const open = (generation: Generation, index: number): BlockObject => ({
    generation,
    index,
    release: () => void released.push(index),
    read(offset: number, into: Uint8Array, waiter: StoreWaiter) {
      const fill = () => {
        for (let at = 0; at < into.length; at++) into[at] = byteAt(index, offset + at);
      };
      const answer = (error?: ArchipelagoError) => {
        if (error === undefined) fill();
        waiter.storeDone(error ?? null);
      };
      asked.push({ index, offset, length: into.byteLength, answer });
      if (atOnce) fill();
      return atOnce;
    },
  });
  const expected = (index: number, offset: number, length: number) => {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; at++) bytes[at] = byteAt(index, offset + at);
    return bytes;
  };
  return { asked, released, open, expected };
}

const generation = 7 as Generation;

async function read(object: BlockObject, offset: number, length: number): Promise<Uint8Array> {
  const into = new Uint8Array(length);
  await storeCall((waiter) => object.read(offset, into, waiter));
  return into;
}

describe('the cache of immutable objects', () => {
  it('gives what the store has, at any offset, and asks once', async () => {
    const store = openStore({ atOnce: true });
    const object = new ObjectCache(64 * PART, store.open).object(generation, 1);
    for (let round = 0; round < 2; round++) {
      for (const [offset, length] of [
        [0, 1],
        [PART - 1, 2],
        [3 * PART + 17, 4 * PART],
        [100, 20 * PART],
        [20 * PART + 4096, 4096],
      ] as const) {
        expect(Buffer.compare(await read(object, offset, length), store.expected(1, offset, length))).toBe(0);
      }
    }
    const bytes = store.asked.reduce((sum, { length }) => sum + length, 0);
    expect(bytes).toBe(21 * PART);
  });

  it('makes one read of misses that meet, and of neighbours', async () => {
    const store = openStore();
    const cache = new ObjectCache(64 * PART, store.open);
    const reads = Array.from({ length: 32 }, () => read(cache.object(generation, 1), 0, 4 * PART));
    const beyond = read(cache.object(generation, 1), 2 * PART, 4 * PART);
    expect(store.asked.map(({ offset, length }) => [offset, length])).toEqual([
      [0, 4 * PART],
      [4 * PART, 2 * PART],
    ]);
    for (const { answer } of store.asked) answer();
    for (const result of await Promise.all(reads)) expect(Buffer.compare(result, store.expected(1, 0, 4 * PART))).toBe(0);
    expect(Buffer.compare(await beyond, store.expected(1, 2 * PART, 4 * PART))).toBe(0);
  });

  it('answers no call before it has returned', async () => {
    const store = openStore({ atOnce: true });
    const object = new ObjectCache(64 * PART, store.open).object(generation, 1);
    let answers = 0;
    const into = new Uint8Array(10);
    const waiter = { storeDone: () => void answers++ };
    expect(object.read(0, into, waiter)).toBe(false);
    expect(answers).toBe(0);
    await turn();
    expect(answers).toBe(1);
    expect(object.read(0, into, waiter)).toBe(true);
    expect(answers).toBe(1);
  });

  it('tells a failure to all who wait, once each, and asks again the next time', async () => {
    const store = openStore();
    const object = new ObjectCache(64 * PART, store.open).object(generation, 1);
    const failing = [read(object, 0, 10), read(object, 5, 2 * PART)];
    const missing = new ArchipelagoError('not-found', 'gone');
    store.asked[0]!.answer(missing);
    store.asked[1]!.answer();
    expect(await Promise.allSettled(failing)).toEqual([
      { status: 'rejected', reason: missing },
      { status: 'rejected', reason: missing },
    ]);
    const again = read(object, 0, 10);
    store.asked[2]!.answer();
    expect(await again).toEqual(store.expected(1, 0, 10));
    expect(store.asked).toHaveLength(3);
  });

  it('stays within its bytes and drops what was used longest ago', async () => {
    const store = openStore({ atOnce: true });
    const cache = new ObjectCache(4 * PART, store.open);
    const object = cache.object(generation, 1);
    for (const number of [0, 1, 2, 3]) await read(object, number * PART, 1);
    await read(object, 0, 1);
    await read(object, 4 * PART, 1);
    expect(cache.bytes).toBe(4 * PART);
    store.asked.length = 0;
    for (const number of [0, 2, 3, 4]) await read(object, number * PART, 1);
    expect(store.asked).toEqual([]);
    await read(object, PART, 1);
    expect(store.asked).toHaveLength(1);
    expect(Buffer.compare(await read(object, 0, 16 * PART), store.expected(1, 0, 16 * PART))).toBe(0);
    expect(cache.bytes).toBe(4 * PART);
  });

  it('lets go of an object that nobody holds and that has no parts', async () => {
    const store = openStore({ atOnce: true });
    const cache = new ObjectCache(PART, store.open);
    const [first, again, second] = [cache.object(generation, 1), cache.object(generation, 1), cache.object(generation, 2)];
    await read(first, 0, 1);
    first.release();
    again.release();
    expect(store.released).toEqual([]);
    await read(second, 0, 1);
    expect(store.released).toEqual([1]);
    second.release();
    expect(store.released).toEqual([1]);
  });

  it('asks the store again about an object that was removed', async () => {
    const store = openStore({ atOnce: true });
    const cache = new ObjectCache(4 * PART, store.open);
    const object = cache.object(generation, 1);
    await read(object, 0, 2 * PART);
    cache.forget(generation, 1);
    expect(cache.bytes).toBe(0);
    await read(object, 0, 1);
    expect(store.asked).toHaveLength(2);
  });

  it('leaves it to the store to say whether an object is there', async () => {
    const store = openStore({ atOnce: true });
    const object = new ObjectCache(PART, store.open).object(generation, 1);
    await read(object, 0, 0);
    await read(object, 0, 0);
    expect(store.asked).toHaveLength(2);
  });
});
