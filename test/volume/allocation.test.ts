/** Where a volume says that it has data: exact to sub-blocks of 64 KiB, whatever became of a block. */
import { expect, test } from 'vitest';
import { ManualClock } from '../../chaos/sim/manual-clock.ts';
import { ArchipelagoError, type Epoch, type Generation, silentLog, type VolumeId } from '../../src/base/index.ts';
import { type BlockStore, openMemoryStore } from '../../src/blocker/index.ts';
import { OpenMap, PageCache, PagedTree, type PageRef } from '../../src/mapper/index.ts';
import { type Extent, IO_READ, IO_WRITE, IO_ZERO, type IoKind, VolumeIo } from '../../src/volume/device.ts';
import { Lease } from '../../src/volume/lease.ts';
import { ServedVolume } from '../../src/volume/served-volume.ts';

const KIB = 1024;
const BLOCK = 4096 * KIB;
const SUB = 64 * KIB;
const BLOCKS = 8;
const SIZE = BLOCKS * BLOCK - 3 * 512;

interface Opened {
  readonly store: BlockStore;
  readonly map: OpenMap;
  readonly served: ServedVolume;
  readonly lease: Lease;
}

let lastVolume = 0;

async function open(store = openMemoryStore(), initialRoot: PageRef | null = null, leaseEndMs = Number.POSITIVE_INFINITY): Promise<Opened> {
  const [volume, epoch] = [++lastVolume as VolumeId, 1 as Epoch];
  const takeover = await store.takeOver(volume, epoch, false);
  const naming = { generation: (100 * lastVolume) as Generation };
  const cache = new PageCache();
  const map = await OpenMap.open({ blockStore: store, takeover, volume, epoch, initialRoot, naming, bootId: 'b', cache, log: silentLog });
  const lease = new Lease(new ManualClock());
  lease.extend(leaseEndMs);
  const served = new ServedVolume({ blockStore: store, pages: map.pages, owned: { map, epoch, lease }, sizeBytes: SIZE, blockSizeBytes: BLOCK });
  return { store, map, served, lease };
}

/** A clone of a snapshot, both of which share all blocks with the volume. */
async function cloneOf({ store, map, served }: Opened): Promise<Opened & { snapshot: ServedVolume }> {
  await served.stopAdmitting();
  const { root, durable } = await map.cut((100 * lastVolume + 1) as Generation);
  served.forgetBlocks();
  served.resumeAdmitting();
  await durable;
  const snapshot = new ServedVolume({
    blockStore: store,
    pages: new PagedTree(store, root, new PageCache()),
    owned: null,
    sizeBytes: SIZE,
    blockSizeBytes: BLOCK,
  });
  return { ...(await open(store, root)), snapshot };
}

class Io extends VolumeIo {
  private readonly ended: (error: unknown) => void;

  constructor(ended: (error: unknown) => void) {
    super();
    this.ended = ended;
  }

  override done(error: unknown): void {
    this.ended(error);
  }
}

function submit({ served }: Opened, kind: IoKind, offset: number, data: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    const io = new Io((error) => (error ? reject(error) : resolve()));
    Object.assign(io, { kind, offset, length: data.byteLength, data });
    served.submit(io);
  });
}

const write = (opened: Opened, offset: number, length: number, value = 1) => submit(opened, IO_WRITE, offset, new Uint8Array(length).fill(value));
const zero = (opened: Opened, offset: number, length: number) => submit(opened, IO_ZERO, offset, new Uint8Array(length));

async function read(opened: Opened, offset: number, length: number): Promise<Uint8Array> {
  const data = new Uint8Array(length).fill(0xee);
  await submit(opened, IO_READ, offset, data);
  return data;
}

/** All of them, as [from, to] in sub-blocks, of what holds data. */
async function dataOf({ served }: { served: Pick<ServedVolume, 'extents'> }, max = 4096): Promise<string> {
  const runs: [number, number][] = [];
  for (let at = 0; at < SIZE; ) {
    const extents: Extent[] = await served.extents(at, SIZE - at, max);
    expect(extents.length).toBeGreaterThan(0);
    expect(extents.length).toBeLessThanOrEqual(max);
    for (const { lengthBytes, allocated } of extents) {
      const last = runs.at(-1);
      if (allocated && last?.[1] === at / SUB) last[1] = (at + lengthBytes) / SUB;
      else if (allocated) runs.push([at / SUB, (at + lengthBytes) / SUB]);
      at += lengthBytes;
    }
  }
  return runs.map(([from, to]) => (to === from + 1 ? `${from}` : `${from}-${to}`)).join(' ');
}

test('of a plain block, the sub-blocks that were written', async () => {
  const volume = await open();
  expect(await dataOf(volume)).toBe('');
  await write(volume, 0, 512);
  await write(volume, 3 * SUB + 100, 10);
  // The last bytes of one sub-block, and the first of the next: it begins with zeros.
  await write(volume, 6 * SUB - 2, 4);
  await write(volume, 2 * BLOCK, BLOCK + SUB);
  expect(await dataOf(volume)).toBe('0 3 5-7 128-193');
  for (const max of [1, 2, 3]) expect(await dataOf(volume, max)).toBe('0 3 5-7 128-193');
  await zero(volume, 2 * BLOCK + 4 * SUB, 2 * SUB);
  await zero(volume, 3 * SUB, 200);
  expect(await dataOf(volume)).toBe('0 5-7 128-132 134-193');
});

test('of a range that begins and ends anywhere', async () => {
  const volume = await open();
  await write(volume, BLOCK + 700, 100);
  expect(await volume.served.extents(BLOCK + 600, 150, 10)).toEqual([{ lengthBytes: 150, allocated: true }]);
  expect(await volume.served.extents(BLOCK + 800, BLOCK, 10)).toEqual([{ lengthBytes: BLOCK, allocated: false }]);
  expect(await volume.served.extents(SIZE - 5, 5, 10)).toEqual([{ lengthBytes: 5, allocated: false }]);
});

test('of a clone: its own sub-blocks and those that it shares, without what it zeroed', async () => {
  const volume = await open();
  await write(volume, 0, 4 * SUB);
  await write(volume, BLOCK, 2 * SUB);
  const clone = await cloneOf(volume);
  await write(clone, 10 * SUB, 512);
  await zero(clone, SUB, SUB);
  await zero(clone, BLOCK, SUB + 100);
  expect(await dataOf(clone)).toBe('0 2-4 10 65');
  expect(await dataOf(volume)).toBe('0-4 64-66');
  expect(await dataOf({ served: clone.snapshot })).toBe('0-4 64-66');
  expect((await read(clone, BLOCK, SUB + 101)).findIndex((byte) => byte !== 0)).toBe(SUB + 100);
});

test('zeros store nothing, and give back what was there', async () => {
  const volume = await open();
  const used = async () => (await volume.store.status()).usedBytes / SUB;
  await submit(volume, IO_WRITE, 0, new Uint8Array(2 * BLOCK));
  expect([await used(), volume.map.pages.blocks]).toEqual([0, 0]);
  await write(volume, 0, BLOCK);
  expect(await used()).toBe(64);
  await submit(volume, IO_WRITE, 2 * SUB, new Uint8Array(SUB));
  await zero(volume, 4 * SUB, 10 * SUB);
  expect(await used()).toBe(53);

  const clone = await cloneOf(volume);
  await zero(clone, SUB - 100, 40 * SUB);
  expect(await used()).toBe(53 + 2);
  expect((await read(clone, SUB - 101, 2)).join()).toBe('1,0');
  expect((await read(clone, 41 * SUB - 101, 2)).join()).toBe('0,1');
  // Over some that are its own and some that are not.
  await write(clone, 50 * SUB, 512, 7);
  await zero(clone, 49 * SUB, 3 * SUB);
  expect((await read(clone, 49 * SUB, 3 * SUB)).every((byte) => byte === 0)).toBe(true);
  await write(clone, 49 * SUB, 3 * SUB);
  // Zeros over what is its own already, and data that is zeros over what is not.
  await zero(clone, 0, SUB);
  await submit(clone, IO_WRITE, 41 * SUB, new Uint8Array(SUB));
  expect(await used()).toBe(53 + 3 + 1);
  expect(await dataOf(clone)).toBe('40 42-64');
  expect(await dataOf(volume)).toBe('0-2 3 14-64');
});

test('a block that is zeroed bit by bit goes in the end', async () => {
  const volume = await open();
  for (const index of [0, BLOCKS - 1]) {
    const end = Math.min(BLOCK, SIZE - index * BLOCK);
    await write(volume, index * BLOCK, end);
    await zero(volume, index * BLOCK + 10 * SUB, end - 10 * SUB);
    await zero(volume, index * BLOCK, 9 * SUB);
    await write(volume, index * BLOCK + 20 * SUB, 1);
    await zero(volume, index * BLOCK + 9 * SUB, SUB);
    expect(volume.map.pages.blocks).toBe(1);
    expect(await dataOf(volume)).toBe(`${index * 64 + 20}`);
    await zero(volume, index * BLOCK + 20 * SUB, SUB);
    expect(volume.map.pages.blocks).toBe(0);
    expect(await dataOf(volume)).toBe('');
  }
});

test('is told only under the ownership that it was found under', async () => {
  const volume = await open(undefined, null, 0);
  let told: unknown = null;
  const asked = volume.served.extents(0, SIZE, 1).then((extents) => {
    told = extents;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(told).toBe(null);
  volume.lease.extend(Number.POSITIVE_INFINITY);
  await asked;
  expect(told).toEqual([{ lengthBytes: SIZE, allocated: false }]);

  const other = await open(undefined, null, 0);
  const lost = other.served.extents(0, SIZE, 1);
  await Promise.all([
    expect(lost).rejects.toMatchObject({ code: 'stale-epoch' }),
    new Promise(setImmediate).then(() => other.served.revoke((io) => io.moved())),
  ]);
  await expect(other.served.extents(0, SIZE, 1)).rejects.toMatchObject({ code: 'stale-epoch' });
});

test('an error is told only under the ownership that it was met under', async () => {
  const volume = await open(undefined, null, 0);
  // As of an owner that was paused: collection has removed the pages that its successor's map does without.
  volume.map.pages.nextAllocated = () => Promise.reject(new ArchipelagoError('corrupt', 'page 1 is missing'));
  let told: unknown = null;
  const asked = volume.served.extents(0, SIZE, 1).catch((error: unknown) => {
    told = error;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(told).toBe(null);
  volume.lease.extend(Number.POSITIVE_INFINITY);
  await asked;
  expect(told).toMatchObject({ code: 'corrupt' });
});
