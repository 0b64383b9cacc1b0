/** What a check and a comparison make of a store that collection works on meanwhile. */
import { expect, it } from 'vitest';
import { BLOCK_BYTES, Cluster } from '../../chaos/sim/ownership/cluster.ts';
import { flush, write } from '../../chaos/sim/ownership/io.ts';
import type { Generation } from '../../src/base/index.ts';
import { diffPage } from '../../src/volume/diff.ts';

async function writtenVolume() {
  const cluster = new Cluster(['a']);
  const { id } = cluster.create('v', 8);
  const { volumes, store } = cluster.node('a');
  const device = await cluster.until(volumes.attach('v'));
  for (let block = 0; block < 4; block++) await cluster.until(write(device, block * BLOCK_BYTES, 1 + block));
  await cluster.until(flush(device));
  return { cluster, id, volumes, store, device };
}

it('a check reports no object that the volume has given up since, and every one that is really missing', async () => {
  const { cluster, id, volumes, store, device } = await writtenVolume();
  await cluster.until(volumes.snapshot(id, 's'));
  const exists = store.objectExists.bind(store);
  let looked = 0;
  // After the first look at the map the volume gives block 1 up, and collection removes its object.
  const giveUp = async () => {
    for (let at = 0; at < BLOCK_BYTES; at += BLOCK_BYTES / 4) await write(device, BLOCK_BYTES + at, 9, BLOCK_BYTES / 4);
    await volumes.root(id);
    cluster.disk.objects.delete('1/1');
  };
  let givenUp: Promise<void> | null = null;
  store.objectExists = async (name) => {
    looked++;
    givenUp ??= giveUp();
    await givenUp;
    return exists(name);
  };
  expect(await cluster.until(volumes.check(id))).toMatchObject({ blocks: 4, problems: [] });
  expect(looked).toBeGreaterThan(4);
  cluster.disk.objects.delete('1/2');
  const { problems } = await cluster.until(volumes.check(id));
  expect(problems).toEqual(['block 2: its object of generation 1 is missing']);
});

it('a check reports objects that another volume may change', async () => {
  const { cluster, id, volumes } = await writtenVolume();
  const { id: snapshot } = await cluster.until(volumes.snapshot(id, 's'));
  expect((await cluster.until(volumes.check(snapshot))).problems).toEqual([]);
  const { id: other } = cluster.create('other', 8);
  const device = await cluster.until(volumes.attach('other'));
  await cluster.until(write(device, 0, 9));
  await cluster.until(volumes.root(other));
  expect((await cluster.until(volumes.check(snapshot))).problems).toEqual([]);
  expect((await cluster.until(volumes.check(other))).problems).toEqual([]);
  // As if the registry had given one generation out twice.
  volumes.update({ ...cluster.record('other'), openGenerations: cluster.record('other').openGenerations.map(() => 1 as Generation) });
  const { problems } = await cluster.until(volumes.check(snapshot));
  expect(problems[0]).toBe("block 0: its object of generation 1 may be changed by volume 'other'");
  expect(problems).toHaveLength(4);
});

it('a comparison whose map was collected fails, and says why', async () => {
  const { cluster, id, volumes, store } = await writtenVolume();
  const root = await cluster.until(volumes.root(id));
  cluster.disk.pages.clear();
  const request = { from: null, to: root, sizeBytes: 8 * BLOCK_BYTES, blockSizeBytes: BLOCK_BYTES, start: 0 };
  await expect(cluster.until(diffPage(store, request))).rejects.toMatchObject({ code: 'unavailable', hint: expect.stringContaining('begin again') });
});

it('a client of a snapshot that was removed while it attached is told so', async () => {
  const { cluster, id, volumes } = await writtenVolume();
  const { id: snapshot } = await cluster.until(volumes.snapshot(id, 's'));
  const device = await volumes.attach('s');
  cluster.apply({ type: 'remove', id: snapshot, epoch: cluster.record('s').epoch });
  await expect(cluster.until(write(device, 0, 1))).rejects.toMatchObject({ code: 'read-only' });
  await expect(cluster.until(flush(device))).rejects.toMatchObject({ code: 'not-found', message: expect.stringContaining("'s' was removed") });
});
