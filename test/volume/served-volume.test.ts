/** What a served volume promises beyond what a random history can show. */
import { expect, test } from 'vitest';
import { ManualClock } from '../../chaos/sim/manual-clock.ts';
import { SimDisk } from '../../chaos/sim/volume/disk.ts';
import { SimStore } from '../../chaos/sim/volume/store.ts';
import { type Epoch, type Generation, silentLog, type VolumeId } from '../../src/base/index.ts';
import { OpenMap, PageCache } from '../../src/mapper/index.ts';
import { IO_READ, IO_WRITE, type IoKind, VolumeIo } from '../../src/volume/device.ts';
import { Lease } from '../../src/volume/lease.ts';
import { ServedVolume } from '../../src/volume/served-volume.ts';

const BLOCK_BYTES = 64 * 1024;

async function serve(seed: number, leaseEndMs = Number.POSITIVE_INFINITY): Promise<{ served: ServedVolume; store: SimStore }> {
  const store = new SimStore(new SimDisk(), seed);
  store.atOnce = 1;
  const [volume, epoch] = [1 as VolumeId, 1 as Epoch];
  const takeover = await store.takeOver(volume, epoch, false);
  const naming = { generation: 1 as Generation };
  const cache = new PageCache();
  const map = await OpenMap.open({ blockStore: store, takeover, volume, epoch, initialRoot: null, naming, bootId: 'b', cache, log: silentLog });
  const lease = new Lease(new ManualClock());
  lease.extend(leaseEndMs);
  const owned = { map, epoch, lease };
  return { served: new ServedVolume({ blockStore: store, pages: map.pages, owned, sizeBytes: 4 * BLOCK_BYTES, blockSizeBytes: BLOCK_BYTES }), store };
}

class Io extends VolumeIo {
  error: unknown = undefined;

  override done(error: unknown): void {
    this.error = error;
  }
}

function submit(served: ServedVolume, kind: IoKind, offset: number, data: Uint8Array): Io {
  const io = new Io();
  Object.assign(io, { kind, offset, length: data.byteLength, data });
  served.submit(io);
  return io;
}

async function settle(store: SimStore, ios: readonly Io[]): Promise<void> {
  for (let turn = 0; ios.some(({ error }) => error === undefined); turn++) {
    if (turn > 10_000) throw new Error('it does not end');
    store.step();
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(ios.filter(({ error }) => error !== null)).toEqual([]);
}

test('overlapping I/O is done in the order of its submission', async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const { served, store } = await serve(seed);
    store.atOnce = 0;
    const data = Array.from({ length: 12 }, (_, place) => new Uint8Array(4096).fill(place + 1));
    const ios = data.slice(0, 6).map((bytes, place) => submit(served, IO_WRITE, BLOCK_BYTES - 2048 + 512 * (place % 3), bytes));
    await settle(store, ios);
    // Again, over what is there now, with reads in between: each shows what was submitted last before it.
    const reads: Uint8Array[] = [];
    const more = data.slice(6).flatMap((bytes, place) => {
      const into = new Uint8Array(512);
      reads.push(into);
      return [submit(served, IO_WRITE, BLOCK_BYTES - 2048 + 512 * (place % 3), bytes), submit(served, IO_READ, BLOCK_BYTES - 512, into)];
    });
    await settle(store, more);
    expect(reads.map((into) => into[0])).toEqual([7, 8, 9, 10, 11, 12]);
  }
});

test('a long queue behind one operation is no deep recursion', async () => {
  const { served, store } = await serve(1);
  store.atOnce = 0;
  const ios = Array.from({ length: 30_000 }, (_, place) => submit(served, IO_WRITE, 0, new Uint8Array(512).fill(1 + (place % 200))));
  store.atOnce = 1;
  await settle(store, ios);
});

test('a hole is told of only by the owner who found it', async () => {
  const read = (served: ServedVolume): Io => {
    const io = new Io();
    Object.assign(io, { kind: IO_READ, offset: 0, length: 512, data: new Uint8Array(512).fill(1), takesHoles: true });
    served.submit(io);
    return io;
  };
  const { served } = await serve(1);
  const answered = read(served);
  expect([answered.error, answered.hole, answered.data[0]]).toEqual([null, true, 1]);

  // Found while the lease was over, and taken back: the next owner may have data there.
  const { served: stale } = await serve(2, 0);
  const held = read(stale);
  expect([held.error, held.hole]).toEqual([undefined, true]);
  const taken: VolumeIo[] = [];
  await stale.revoke((io) => taken.push(io));
  expect(taken).toEqual([held]);
  expect(held.hole).toBe(false);
});
