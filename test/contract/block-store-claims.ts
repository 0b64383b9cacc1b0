/** The part of the contract of stores that keeps a paused owner from doing harm: claims, and what a takeover tells of the owner before. */
import { describe, expect, it } from 'vitest';
import type { VolumeStore } from '../../src/blocker/index.ts';
import type { StorePromises } from './block-store.ts';
import {
  done,
  eachTest,
  epochOf,
  expectBytes,
  expectCode,
  generationOf,
  joined,
  owner,
  pattern,
  readOf,
  type StoreUnderTest,
  volumeId,
  zeros,
} from './store-support.ts';

const MIB = 1 << 20;
const generation = generationOf(7);

const create = (volume: VolumeStore, index: number, data: Uint8Array) => done((waiter) => volume.object(generation, index).create(0, data, waiter));
const write = (volume: VolumeStore, index: number, data: Uint8Array, offset = 0) =>
  done((waiter) => volume.object(generation, index).write(offset, data, waiter));
const claim = (volume: VolumeStore, index: number) => done((waiter) => volume.object(generation, index).claim(waiter));
const read = (volume: VolumeStore, index: number, length = 512) => readOf(volume.object(generation, index), 0, length);

export function blockStoreClaimContract(name: string, open: () => Promise<StoreUnderTest>, promises: StorePromises): void {
  describe(`${name}: claims`, () => claimContract(open));
  describe(`${name}: stale owners`, () => staleContract(open, promises));
  describe(`${name}: what a takeover tells of the owner before`, () => quietContract(open));
}

/** A stale owner's change is refused, or in vain where the store cannot refuse it. */
async function stale(change: Promise<void>, isRefused = false): Promise<void> {
  if (isRefused) return expectCode(change, 'stale-epoch');
  await change.catch((error: unknown) => expect(error).toMatchObject({ code: 'stale-epoch' }));
}

function claimContract(open: () => Promise<StoreUnderTest>): void {
  const at = eachTest(open);

  it('leave an object as it was, holes included', async () => {
    const old = await owner(at.store, 1, 1);
    const object = old.object(generation, 1);
    await done((waiter) => object.create(100_000, pattern(1, 70_000), waiter));
    await done((waiter) => object.write(2 * MIB, pattern(2, 512), waiter));
    const now = await owner(at.other, 1, 2, false);
    const expected = joined(zeros(100_000), pattern(1, 70_000), zeros(2 * MIB - 170_000), pattern(2, 512), zeros(MIB));
    for (let pass = 0; pass < 2; pass++) {
      await claim(now, 1);
      expectBytes(await read(now, 1, expected.byteLength), expected);
    }
    await now.sync();
    expectBytes(await read(await owner(at.store, 1, 3), 1, expected.byteLength), expected);
  });

  it('say not-found for what does not exist, and make nothing', async () => {
    const volume = await owner(at.store);
    await expectCode(claim(volume, 1), 'not-found');
    expect(await at.store.objectExists({ generation, index: 1 })).toBe(false);
    await create(volume, 1, pattern(1, 512));
    await done((waiter) => volume.object(generation, 1).remove(waiter));
    await expectCode(claim(volume, 1), 'not-found');
  });

  it('are refused under an epoch lower than the last claim', async () => {
    const first = await owner(at.store, 1, 1);
    await create(first, 1, pattern(1, 512));
    const second = await owner(at.other, 1, 2, false);
    await claim(second, 1);
    await expectCode(claim(first, 1), 'stale-epoch');
    const third = await owner(at.store, 1, 3, false);
    await claim(third, 1);
    await expectCode(claim(second, 1), 'stale-epoch');
    await write(third, 1, pattern(3, 512));
    expectBytes(await read(third, 1), pattern(3, 512));
  });

  it('are not needed after a clean handover, and harm nobody there', async () => {
    const first = await owner(at.store, 1, 1);
    for (const index of [1, 2, 3]) await create(first, index, pattern(1, 512));
    const left = first.unsynced();
    await first.close();
    const second = await owner(at.other, 1, 2);
    second.adoptUnsynced(left);
    await write(second, 1, pattern(2, 512));
    await claim(second, 2);
    await done((waiter) => second.object(generation, 3).zero(0, 100, waiter));
    await second.close();
    const third = await owner(at.store, 1, 3);
    for (const index of [1, 2, 3]) await write(third, index, pattern(3, 512), 512);
    expectBytes(await read(third, 1, 1024), joined(pattern(2, 512), pattern(3, 512)));
    expectBytes(await read(third, 2, 1024), joined(pattern(1, 512), pattern(3, 512)));
    expectBytes(await read(third, 3, 1024), joined(zeros(100), pattern(1, 512).slice(100), pattern(3, 512)));
  });

  it("keep their order with the owner's own I/O, through all handles", async () => {
    await create(await owner(at.store, 1, 1), 1, pattern(1, 2 * MIB));
    const now = await owner(at.other, 1, 2, false);
    const [one, two] = [now.object(generation, 1), now.object(generation, 1)];
    await readOf(two, 0, 512);
    const before = done((waiter) => one.write(0, pattern(2, MIB), waiter));
    const reading = readOf(two, MIB, MIB);
    const claiming = done((waiter) => two.claim(waiter));
    const after = done((waiter) => one.write(MIB, pattern(3, 512), waiter));
    await Promise.all([before, claiming, after]);
    // The write that was behind it or not.
    expect([pattern(1, 2 * MIB).slice(MIB, MIB + 512), pattern(3, 512)]).toContainEqual((await reading).slice(0, 512));
    for (const handle of [one, two]) {
      expectBytes(await readOf(handle, 0, MIB), pattern(2, MIB));
      expectBytes(await readOf(handle, MIB, MIB), joined(pattern(3, 512), pattern(1, 2 * MIB).slice(MIB + 512)));
    }
    await done((waiter) => one.remove(waiter));
    await expectCode(readOf(two, 0, 512), 'not-found');
  });
}

function staleContract(open: () => Promise<StoreUnderTest>, promises: StorePromises): void {
  const at = eachTest(open);

  it('change nothing that was claimed, with the object open or not', async () => {
    const old = await owner(at.store, 1, 4);
    const handle = old.object(generation, 1);
    await done((waiter) => handle.create(0, pattern(1, 200_000), waiter));
    const now = await owner(at.other, 1, 5, false);
    // Open before the claim, so that the driver has to let go of what that has opened.
    await read(now, 1);
    await claim(now, 1);
    for (const start of [
      () => done((waiter) => handle.write(0, pattern(2, 512), waiter)),
      () => done((waiter) => handle.write(4096, pattern(2, 150_000), waiter)),
      () => done((waiter) => handle.zero(0, 512, waiter)),
      () => done((waiter) => handle.zero(0, 4 * MIB, waiter)),
      () => write(old, 1, pattern(2, 512)),
      () => done((waiter) => old.object(generation, 1).remove(waiter)),
      () => write(old, 1, pattern(2, 512)),
      () => done((waiter) => handle.create(0, pattern(2, 512), waiter)),
    ]) {
      await start().catch((error: unknown) => expect(['stale-epoch', 'exists']).toContain((error as { code: string }).code));
      expectBytes(await read(now, 1, 200_512), joined(pattern(1, 200_000), zeros(512)));
    }
    await write(now, 1, pattern(3, 512));
    expectBytes(await readOf(at.store.immutableObject(generation, 1), 0, 512), pattern(3, 512));
  });

  it('change nothing that was claimed before they opened it', async () => {
    await create(await owner(at.store, 1, 1), 1, pattern(1, 512));
    const old = await owner(at.store, 1, 2);
    const now = await owner(at.other, 1, 3, false);
    await claim(now, 1);
    await write(now, 1, pattern(3, 512));
    await expectCode(write(old, 1, pattern(2, 512)), 'stale-epoch');
    expectBytes(await read(now, 1), pattern(3, 512));
  });

  it('have a write under way that lands before the claim or never', async () => {
    for (let round = 1; round <= 5; round++) {
      const index = round;
      const old = await owner(at.store, 1, 2 * round);
      await create(old, index, pattern(1, 2 * MIB));
      const writing = stale(write(old, index, pattern(2, 2 * MIB)));
      const now = await owner(at.other, 1, 2 * round + 1, false);
      await claim(now, index);
      const seen = await read(now, index, 2 * MIB);
      await writing;
      expectBytes(await read(now, index, 2 * MIB), seen);
      await now.close();
    }
  });

  it('stay without effect through a second failover', async () => {
    const first = await owner(at.store, 1, 1);
    const handle = first.object(generation, 1);
    await done((waiter) => handle.create(0, pattern(1, 4096), waiter));
    const second = await owner(at.other, 1, 2, false);
    await claim(second, 1);
    await write(second, 1, pattern(2, 512));
    const third = await owner(at.store, 1, 3, false);
    await claim(third, 1);
    await stale(
      done((waiter) => handle.write(0, pattern(8, 4096), waiter)),
      promises.guardsObjects,
    );
    await stale(write(second, 1, pattern(9, 512)), promises.guardsObjects);
    expectBytes(await read(third, 1, 4096), joined(pattern(2, 512), pattern(1, 4096).slice(512)));
  });

  it('do not undo a later claim with one of their own', async () => {
    await create(await owner(at.store, 1, 1), 1, pattern(1, MIB));
    for (let epoch = 2; epoch < 8; epoch++) {
      const second = await owner(at.store, 1, 2 * epoch, false);
      const claiming = stale(claim(second, 1));
      const third = await owner(at.other, 1, 2 * epoch + 1, false);
      await claim(third, 1);
      await write(third, 1, pattern(epoch, 512));
      await claiming;
      expectBytes(await read(third, 1), pattern(epoch, 512));
      await third.close();
    }
    expectBytes(await readOf(at.store.immutableObject(generation, 1), 0, 512), pattern(7, 512));
  });

  it('are fenced off by their own later ownership too', async () => {
    // A failover to an owner that does not touch the block, and a handover back.
    const first = await owner(at.store, 1, 1);
    const handle = first.object(generation, 1);
    await done((waiter) => handle.create(0, pattern(1, 512), waiter));
    const second = await owner(at.other, 1, 2, false);
    const left = second.unsynced();
    await second.close();
    const again = await owner(at.store, 1, 3);
    again.adoptUnsynced(left);
    await claim(again, 1);
    await write(again, 1, pattern(2, 512));
    await stale(
      done((waiter) => handle.write(0, pattern(9, 512), waiter)),
      promises.guardsObjects,
    );
    expectBytes(await read(again, 1), pattern(2, 512));
  });

  it('make what they make under names that nobody looks for', async () => {
    const old = await owner(at.store, 1, 1);
    await create(old, 1, pattern(1, 512));
    const now = await owner(at.other, 1, 2, false);
    await done((waiter) => now.object(generationOf(8), 2).create(0, pattern(2, 512), waiter));
    await stale(create(old, 2, pattern(9, 512)));
    expectBytes(await readOf(now.object(generationOf(8), 2), 0, 512), pattern(2, 512));
  });
}

function quietContract(open: () => Promise<StoreUnderTest>): void {
  const at = eachTest(open);
  const quiet = async (store: 'store' | 'other', epoch: number, clean: boolean): Promise<[boolean, VolumeStore]> => {
    const takeover = await at[store].takeOver(volumeId(1), epochOf(epoch), clean);
    return [takeover.quiet, takeover.store];
  };

  it('under which epoch it was the owner', async () => {
    const from = async (epoch: number) => {
      const takeover = await at.store.takeOver(volumeId(1), epochOf(epoch), false);
      await takeover.store.close();
      return takeover.from;
    };
    for (const [epoch, before] of [
      [3, null],
      [3, 3],
      [4, 3],
      [9, 4],
    ] as const)
      expect(await from(epoch)).toBe(before);
  });

  it('of one that came in between as well', async () => {
    for (let round = 1; round <= 8; round++) {
      const [first, between, last] = [3 * round, 3 * round + 1, 3 * round + 2];
      const [, closed] = await quiet('store', first, true);
      await closed.close();
      const taking = at.other.takeOver(volumeId(1), epochOf(between), true).catch((error: unknown) => {
        expect(error).toMatchObject({ code: 'stale-epoch' });
        return null;
      });
      const [other, { from, quiet: isQuiet, store }] = await Promise.all([taking, at.store.takeOver(volumeId(1), epochOf(last), false)]);
      // The one between was refused, or its changes may be under way.
      expect([from, isQuiet]).toEqual(other === null ? [first, true] : [between, false]);
      await other?.store.close();
      await store.close();
    }
  });

  it('nothing is under way where nobody was', async () => {
    expect((await quiet('store', 5, false))[0]).toBe(true);
  });

  it('something may be under way of one that lives', async () => {
    await quiet('store', 1, false);
    expect((await quiet('other', 2, false))[0]).toBe(false);
    expect((await quiet('store', 3, false))[0]).toBe(false);
  });

  it('nothing is under way after a clean handover', async () => {
    const [, store] = await quiet('store', 1, false);
    await store.close();
    const [isQuiet] = await quiet('other', 2, true);
    expect(isQuiet).toBe(true);
    expect((await quiet('store', 3, false))[0]).toBe(false);
  });

  it('nothing is under way of one that this store has closed', async () => {
    const [, store] = await quiet('store', 1, false);
    await create(store, 1, pattern(1, 512));
    const writing = write(store, 1, pattern(1, 2 * MIB));
    await Promise.all([store.close(), writing]);
    expect((await quiet('store', 2, false))[0]).toBe(true);
    expect((await quiet('store', 2, false))[0]).toBe(false);
  });
}
