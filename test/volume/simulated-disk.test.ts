/** What the histories over the simulated disk rely on. */
import { expect, test } from 'vitest';
import { type Fence, SimDisk } from '../../chaos/sim/volume/disk.ts';
import { SimStore } from '../../chaos/sim/volume/store.ts';
import { type Epoch, type Generation, Prng, type VolumeId } from '../../src/base/index.ts';
import { type StoreWaiter, storeCall } from '../../src/blocker/index.ts';

const VOLUME = 1 as VolumeId;
const GENERATION = 1 as Generation;

/** Lets the store work on the call until nothing is under way. */
async function call(store: SimStore, start: (waiter: StoreWaiter) => boolean): Promise<void> {
  const done = storeCall(start);
  while (store.step());
  await done;
}

test.each<Fence>(['guard', 'copy'])('fence %s: a sync covers what a paused owner wrote after the sync before and until the claim', async (fence) => {
  for (let seed = 1; seed <= 20; seed++) {
    const disk = new SimDisk(fence);
    const own = async (epoch: number) => {
      const store = new SimStore(disk, epoch);
      store.atOnce = 1;
      const { store: volume } = await store.takeOver(VOLUME, epoch as Epoch, false);
      return { store, volume, object: volume.object(GENERATION, 0) };
    };
    const before = await own(1);
    await call(before.store, (waiter) => before.object.create(0, new Uint8Array(512).fill(1), waiter));
    const next = await own(2);
    await next.volume.sync();
    // One that opens the object by name finds that it was superseded.
    await call(before.store, (waiter) => before.object.write(0, new Uint8Array(512).fill(2), waiter)).catch(() => undefined);
    await call(next.store, (waiter) => next.object.claim(waiter));
    const [claimed, left] = [new Uint8Array(512), new Uint8Array(512)];
    await call(next.store, (waiter) => next.object.read(0, claimed, waiter));
    await next.volume.sync();
    disk.losePower(new Prng(seed));
    const reader = new SimStore(disk, 3);
    await call(reader, (waiter) => reader.immutableObject(GENERATION, 0).read(0, left, waiter));
    expect(left).toEqual(claimed);
  }
});
