/** What the file driver keeps open, and what it does at once. */
import { readdirSync, readlinkSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Clock } from '../../src/base/index.ts';
import { Slowness } from '../../src/blocker/file/parts.ts';
import { Residency } from '../../src/blocker/file/residency.ts';
import type { BlockObject, BlockStore, FileStoreOptions, StoreWaiter, VolumeStore, WritableBlockObject } from '../../src/blocker/index.ts';
import { done, expectBytes, generationOf, owner, pattern, readOf } from '../contract/store-support.ts';
import { freshDirectory, openFiles, realClock, removeDirectory } from './support.ts';

const KIB = 1024;
const generation = generationOf(1);

let directory: string;
let store: BlockStore;
let volume: VolumeStore;

beforeEach(() => {
  directory = freshDirectory();
});

afterEach(async () => {
  await store.close();
  removeDirectory(directory);
});

async function open(options: Partial<FileStoreOptions> = {}): Promise<void> {
  store = await openFiles(directory, options);
  volume = await owner(store);
}

/** Descriptors of this process that lead to objects of the store. */
function openObjects(): string[] {
  const links = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      // The one that listed the directory.
      return '';
    }
  });
  return links.filter((link) => link.startsWith(`${directory}/blocks/`));
}

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

async function openObjectsAre(count: number): Promise<void> {
  for (let i = 0; i < 1000 && openObjects().length !== count; i++) await turns(1);
  expect(openObjects()).toHaveLength(count);
}

async function created(index: number, length = 4 * KIB): Promise<WritableBlockObject> {
  const object = volume.object(generation, index);
  await done((waiter) => object.create(0, pattern(index, length), waiter));
  return object;
}

/** True when a call is done at once; waits for it in any case. */
async function atOnce(start: (waiter: StoreWaiter) => boolean): Promise<boolean> {
  let result = false;
  await done((waiter) => {
    result = start(waiter);
    return result;
  });
  return result;
}

const reads = (object: BlockObject, offset: number, length: number) => atOnce((waiter) => object.read(offset, new Uint8Array(length), waiter));
const writes = (object: WritableBlockObject, offset: number, length: number) => atOnce((waiter) => object.write(offset, pattern(1, length), waiter));

describe('descriptors', () => {
  it('are bounded, and objects work on without theirs', async () => {
    await open({ maxDescriptors: 8 });
    const objects: WritableBlockObject[] = [];
    for (let index = 0; index < 50; index++) objects.push(await created(index));
    await openObjectsAre(8);
    for (const [index, object] of objects.entries()) expectBytes(await readOf(object, 0, 4 * KIB), pattern(index, 4 * KIB));
    for (const object of objects) await done((waiter) => object.write(4 * KIB, pattern(7, 512), waiter));
    await openObjectsAre(8);
    await volume.sync();
    for (const object of objects) expectBytes(await readOf(object, 4 * KIB, 512), pattern(7, 512));
  });

  it('of busy objects stay open beyond the bound, and go when others come', async () => {
    await open({ maxDescriptors: 4 });
    const objects: WritableBlockObject[] = [];
    for (let index = 0; index < 12; index++) objects.push(await created(index));
    await Promise.all(objects.map((object) => done((waiter) => object.write(0, pattern(1, 512 * KIB), waiter))));
    for (const object of objects) expectBytes(await readOf(object, 0, 512 * KIB), pattern(1, 512 * KIB));
    for (let index = 20; index < 30; index++) await created(index);
    await openObjectsAre(4);
  });

  it('of what is used stay, and of what is not go', async () => {
    await open({ maxDescriptors: 4 });
    const used = await created(0);
    for (let index = 1; index < 30; index++) {
      expect(await writes(used, 0, 512)).toBe(true);
      await created(index);
    }
  });

  it('are closed when an object is removed, also by those who only read it', async () => {
    await open();
    const object = await created(1);
    await readOf(store.immutableObject(generation, 1), 0, 512);
    await openObjectsAre(2);
    await done((waiter) => object.remove(waiter));
    await openObjectsAre(0);
  });

  it('are closed with the volume store', async () => {
    await open();
    for (let index = 0; index < 5; index++) (await created(index)).release();
    await openObjectsAre(5);
    await volume.close();
    await openObjectsAre(0);
  });
});

describe('small transfers', () => {
  it('are done at once when the pages are known to be cached', async () => {
    await open();
    const object = await created(1, 256 * KIB);
    expect(await reads(object, 0, 4 * KIB)).toBe(true);
    expect(await reads(object, 100 * KIB + 7, 60 * KIB)).toBe(true);
    expect(await reads(object, 0, 65 * KIB)).toBe(false);
    expect(await writes(object, 4 * KIB, 64 * KIB)).toBe(true);
    expect(await writes(object, 4 * KIB, 65 * KIB)).toBe(false);
    // Holes and what lies beyond the end are not on the disk.
    expect(await writes(object, 1024 * KIB, 512)).toBe(true);
    expect(await reads(object, 700 * KIB, 4 * KIB)).toBe(true);
    expect(await reads(object, 2048 * KIB, 1024 * KIB)).toBe(true);
    expect(await atOnce((waiter) => object.zero(2048 * KIB, 1024 * KIB, waiter))).toBe(true);
  });

  it('go through the pool when they may have to wait for the disk, and then are known', async () => {
    await open();
    (await created(1, 256 * KIB)).release();
    const object = store.immutableObject(generation, 1);
    expect(await reads(object, 0, 4 * KIB)).toBe(false);
    expect(await reads(object, 0, 4 * KIB)).toBe(true);
    expect(await reads(object, 2 * KIB, 4 * KIB)).toBe(false);
    await volume.close();
    volume = await owner(store, 1, 2);
    const again = volume.object(generation, 1);
    expect(await writes(again, 0, 4 * KIB)).toBe(false);
    // A whole page is not read before it is written, a part of one is.
    expect(await writes(again, 8 * KIB, 4 * KIB)).toBe(true);
    expect(await writes(again, 16 * KIB, 512)).toBe(false);
    expect(await writes(again, 16 * KIB, 512)).toBe(true);
    expect(await writes(again, 256 * KIB, 512)).toBe(true);
  });

  it('are not believed to be cached any more once reads take long', async () => {
    const slow = slowClock();
    await open({ clock: slow.clock });
    const object = await created(1, 256 * KIB);
    slow.stepMs = 2;
    expect(await reads(object, 0, 4 * KIB)).toBe(true);
    // Once may be an accident.
    expect(await reads(object, 0, 4 * KIB)).toBe(true);
    slow.stepMs = 0;
    expect(await reads(object, 8 * KIB, 4 * KIB)).toBe(false);
    expect(await reads(object, 8 * KIB, 4 * KIB)).toBe(true);
  });

  it('leave the event loop for a while once writes take long', async () => {
    const slow = slowClock();
    await open({ clock: slow.clock });
    const object = await created(1, 256 * KIB);
    slow.stepMs = 5;
    expect(await writes(object, 0, 4 * KIB)).toBe(true);
    expect(await writes(object, 0, 4 * KIB)).toBe(true);
    slow.stepMs = 0;
    expect(await writes(object, 0, 4 * KIB)).toBe(false);
    expect(await atOnce((waiter) => volume.appendJournal(1, 0, pattern(1, 10), waiter))).toBe(false);
    slow.nowMs += 50;
    expect(await writes(object, 0, 4 * KIB)).toBe(true);
  });
});

/** A clock that goes on by `stepMs` whenever it is asked. */
function slowClock(): { clock: Clock; stepMs: number; nowMs: number } {
  const state = {
    stepMs: 0,
    nowMs: 1000,
    clock: {
      ...realClock,
      nowMs() {
        state.nowMs += state.stepMs;
        return state.nowMs;
      },
    },
  };
  return state;
}

describe('residency', () => {
  it('agrees with a set of pages', () => {
    const [residency, pages] = [new Residency(), new Set<number>()];
    let state = 1;
    const next = (bound: number) => {
      state = (state * 48_271) % 0x7fff_ffff;
      return state % bound;
    };
    for (let step = 0; step < 20_000; step++) {
      const [offset, length] = [next(1 << 20), 1 + next(step % 10 === 0 ? 300_000 : 9000)];
      const [first, last] = [Math.floor(offset / 4096), Math.floor((offset + length - 1) / 4096)];
      let expected = true;
      for (let page = first; page <= last; page++) if (!pages.has(page)) expected = false;
      expect(residency.covers(offset, length)).toBe(expected);
      if (next(3) === 0) {
        residency.mark(offset, length);
        for (let page = first; page <= last; page++) pages.add(page);
      }
      if (next(500) === 0) {
        residency.clear();
        pages.clear();
      }
    }
  });

  it('counts a hole from the first whole page on', () => {
    const residency = new Residency();
    residency.markHole(100, 10_000);
    expect([residency.covers(0, 1), residency.covers(4096, 4096), residency.covers(8192, 1808)]).toEqual([false, true, true]);
    residency.clear();
    residency.markHole(100, 200);
    expect(residency.covers(100, 100)).toBe(false);
  });

  it('forgives a slow one in a while', () => {
    const slowness = new Slowness(1, 3);
    const verdicts = [5, 0, 0, 0, 5, 0, 5, 5, 0].map((tookMs) => slowness.isVerdict(tookMs));
    expect(verdicts).toEqual([false, false, false, false, false, false, true, false, false]);
  });
});
