/** The part of the contract of stores that is about logs, takeovers and durability. */
import { describe, expect, it } from 'vitest';
import { ArchipelagoError } from '../../src/base/index.ts';
import { type BlockStore, type ObjectName, ObjectNames, type Takeover, type VolumeStore, type WritableBlockObject } from '../../src/blocker/index.ts';
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
} from './store-support.ts';

const generation = generationOf(7);

export function blockStoreLogContract(name: string, open: () => Promise<StoreUnderTest>, promises: StorePromises): void {
  describe(`${name}: the log`, () => logContract(open));
  describe(`${name}: takeover`, () => takeoverContract(open));
  if (!promises.durableAtOnce) describe(`${name}: sync`, () => syncContract(open));
}

const append = (volume: VolumeStore, segment: number, position: number, bytes: Uint8Array) =>
  done((waiter) => volume.appendJournal(segment, position, bytes, waiter));

const takeOver = (store: BlockStore, epoch: number, clean = true): Promise<Takeover> => store.takeOver(volumeId(1), epochOf(epoch), clean);

function logContract(open: () => Promise<StoreUnderTest>): void {
  const at = eachTest(open);

  it('finds nothing for a volume that never had an owner', async () => {
    const { header, segments, store } = await takeOver(at.store, 1, false);
    expect(header).toBeNull();
    expect(segments).toEqual([]);
    expect([store.volume, store.epoch]).toEqual([1, 1]);
    await store.sync();
  });

  it('gives the next owner the last header and all segments by number', async () => {
    const volume = await owner(at.store, 1, 1);
    await volume.writeHeader(pattern(1, 500));
    await Promise.all([volume.writeHeader(pattern(2, 4096)), volume.writeHeader(pattern(3, 300))]);
    await append(volume, 9, 0, pattern(1, 100));
    await append(volume, 10, 0, pattern(2, 100_000));
    await append(volume, 10, 100_000, pattern(3, 7));
    await append(volume, 16, 0, pattern(4, 1));
    const { header, segments } = await takeOver(at.other, 2);
    expectBytes(header as Uint8Array, pattern(3, 300));
    expect(segments.map(({ number }) => number)).toEqual([9, 10, 16]);
    expectBytes(segments[0]?.bytes as Uint8Array, pattern(1, 100));
    expectBytes(segments[1]?.bytes as Uint8Array, joined(pattern(2, 100_000), pattern(3, 7)));
    expectBytes(segments[2]?.bytes as Uint8Array, pattern(4, 1));
  });

  it('replaces the header only after what it waits for, and not at all when that fails', async () => {
    const volume = await owner(at.store, 1, 1);
    const header = async () => (await at.other.readHeader(volumeId(1)))?.byteLength;
    await volume.writeHeader(pattern(1, 10));
    const failed = Promise.reject(new ArchipelagoError('io-error', 'planted'));
    failed.catch(() => undefined); // heard of through the call
    await expectCode(volume.writeHeader(pattern(2, 20), failed), 'io-error');
    expect(await header()).toBe(10);
    let go = (): void => undefined;
    const after = new Promise<void>((resolve) => {
      go = resolve;
    });
    let isWritten = false;
    const written = volume.writeHeader(pattern(3, 30), after).then(() => {
      isWritten = true;
    });
    await volume.sync();
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect([isWritten, await header()]).toEqual([false, 10]);
    go();
    await written;
    expect(await header()).toBe(30);
  });

  it('cuts what lies beyond the position of an append', async () => {
    const volume = await owner(at.store, 1, 1);
    await append(volume, 1, 0, pattern(1, 1000));
    await append(volume, 1, 600, pattern(2, 10));
    const torn = await takeOver(at.other, 2);
    expectBytes(torn.segments[0]?.bytes as Uint8Array, joined(pattern(1, 600), pattern(2, 10)));
    // The tail from the owner before is torn at 300: the new owner appends there.
    await append(torn.store, 1, 300, pattern(3, 20));
    await append(torn.store, 1, 320, pattern(4, 100_000));
    await append(torn.store, 1, 0, pattern(5, 5));
    const { segments } = await takeOver(at.store, 3);
    expectBytes(segments[0]?.bytes as Uint8Array, pattern(5, 5));
  });

  it('drops segments that are no longer needed', async () => {
    const volume = await owner(at.store, 1, 1);
    for (const segment of [1, 2, 3]) await append(volume, segment, 0, pattern(segment, 10));
    await volume.dropSegments(3);
    await volume.dropSegments(3);
    await append(volume, 3, 10, pattern(9, 10));
    const { segments } = await takeOver(at.other, 2);
    expect(segments.map(({ number }) => number)).toEqual([3]);
    expectBytes(segments[0]?.bytes as Uint8Array, joined(pattern(3, 10), pattern(9, 10)));
  });

  it('keeps a segment that is begun while others are dropped, whichever of the two is quicker', async () => {
    const volume = await owner(at.store, 1, 1);
    await append(volume, 1, 0, pattern(1, 10));
    for (let segment = 2; segment <= 20; segment++) {
      const dropping = volume.dropSegments(segment - 1);
      // Also when the drop is half done.
      for (let turns = segment % 5; turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
      await append(volume, segment, 0, pattern(segment, 10));
      await dropping;
    }
    const { segments } = await takeOver(at.other, 2);
    expect(segments.map(({ number }) => number)).toEqual([19, 20]);
    expectBytes(segments[1]?.bytes as Uint8Array, pattern(20, 10));
  });

  it('keeps nothing of the buffers that it was given, and gives its own away', async () => {
    const volume = await owner(at.store, 1, 1);
    const [header, record] = [pattern(1, 100), pattern(2, 100)];
    await volume.writeHeader(header);
    await append(volume, 1, 0, record);
    header.fill(9);
    record.fill(9);
    const second = await takeOver(at.other, 2);
    expectBytes(second.header as Uint8Array, pattern(1, 100));
    expectBytes(second.segments[0]?.bytes as Uint8Array, pattern(2, 100));
    second.header?.fill(9);
    second.segments[0]?.bytes.fill(9);
    const third = await takeOver(at.store, 3);
    expectBytes(third.header as Uint8Array, pattern(1, 100));
    expectBytes(third.segments[0]?.bytes as Uint8Array, pattern(2, 100));
  });

  it('keeps the logs of volumes apart, and removes one', async () => {
    await (await owner(at.store, 1, 1)).writeHeader(pattern(1, 10));
    await (await owner(at.store, 2, 5)).writeHeader(pattern(2, 10));
    await at.store.removeLog(volumeId(2));
    await at.store.removeLog(volumeId(2));
    expectBytes((await takeOver(at.other, 2)).header as Uint8Array, pattern(1, 10));
    expect((await at.other.takeOver(volumeId(2), epochOf(1), false)).header).toBeNull();
  });
}

function takeoverContract(open: () => Promise<StoreUnderTest>): void {
  const at = eachTest(open);

  it('refuses an epoch lower than one that has taken over', async () => {
    await takeOver(at.store, 5);
    await expectCode(takeOver(at.other, 4), 'stale-epoch');
    await expectCode(takeOver(at.store, 1), 'stale-epoch');
    await takeOver(at.other, 300);
    await expectCode(takeOver(at.other, 16), 'stale-epoch');
  });

  it('repeats under the same epoch', async () => {
    const first = await owner(at.store, 1, 3);
    await first.writeHeader(pattern(1, 10));
    await append(first, 1, 0, pattern(2, 10));
    const again = await takeOver(at.other, 3, false);
    expectBytes(again.header as Uint8Array, pattern(1, 10));
    expectBytes(again.segments[0]?.bytes as Uint8Array, pattern(2, 10));
    await append(again.store, 1, 10, pattern(3, 10));
    await again.store.sync();
    expectBytes((await takeOver(at.store, 4)).segments[0]?.bytes as Uint8Array, joined(pattern(2, 10), pattern(3, 10)));
  });

  it('keeps what a stale owner does to the log from everybody', async () => {
    const old = await owner(at.store, 1, 1);
    await old.writeHeader(pattern(1, 10));
    await append(old, 1, 0, pattern(1, 10));
    await append(old, 2, 0, pattern(2, 10));
    const now = await takeOver(at.other, 2, false);
    // Refused or in vain, but nothing else.
    const attempts = [
      () => append(old, 2, 10, pattern(7, 10)),
      () => append(old, 2, 0, pattern(7, 100_000)),
      () => append(old, 3, 0, pattern(7, 10)),
      () => old.writeHeader(pattern(7, 10)),
      () => old.dropSegments(2),
    ];
    for (const attempt of attempts) await attempt().catch((error: unknown) => expect(error).toMatchObject({ code: 'stale-epoch' }));
    await append(now.store, 2, 10, pattern(3, 10));
    const { header, segments } = await takeOver(at.store, 3);
    expectBytes(header as Uint8Array, pattern(1, 10));
    expect(segments.map(({ number }) => number)).toEqual([1, 2]);
    expectBytes(segments[0]?.bytes as Uint8Array, pattern(1, 10));
    expectBytes(segments[1]?.bytes as Uint8Array, joined(pattern(2, 10), pattern(3, 10)));
  });

  it('finds what a stale owner has under way in its log, or nobody ever does', async () => {
    let known: Takeover = await takeOver(at.store, 1);
    let length = 0;
    for (let round = 1; round <= 6; round++) {
      const old = known.store;
      const attempts = [
        append(old, 1, length, pattern(round, 10)),
        append(old, 1 + round, 0, pattern(round, 70_000)),
        old.writeHeader(pattern(round, 100)),
      ].map((attempt) => attempt.catch((error: unknown) => expect(error).toMatchObject({ code: 'stale-epoch' })));
      const now = await (round % 2 === 1 ? at.other : at.store).takeOver(volumeId(1), epochOf(3 * round), false);
      await Promise.all(attempts);
      // A second failover, with nothing done in between.
      known = await takeOver(at.store, 3 * round + 1, false);
      expect(known.header).toEqual(now.header);
      expect(known.segments.filter(({ bytes }) => bytes.byteLength > 0)).toEqual(now.segments.filter(({ bytes }) => bytes.byteLength > 0));
      length = known.segments.find(({ number }) => number === 1)?.bytes.byteLength ?? 0;
    }
  });

  it('lets the objects be used by the next owner, and by the first when it comes back', async () => {
    const first = await owner(at.store, 1, 1);
    await done((waiter) => first.object(generation, 1).create(0, pattern(1, 4096), waiter));
    const second = await owner(at.other, 1, 2);
    await done((waiter) => second.object(generation, 1).write(4096, pattern(2, 200_000), waiter));
    await done((waiter) => second.object(generation, 2).create(0, pattern(3, 512), waiter));
    await second.close();
    const third = await owner(at.store, 1, 3);
    expectBytes(await readOf(third.object(generation, 1), 0, 204_096), joined(pattern(1, 4096), pattern(2, 200_000)));
    await done((waiter) => third.object(generation, 2).remove(waiter));
    expect(await at.other.objectExists({ generation, index: 2 })).toBe(false);
  });
}

function syncContract(open: () => Promise<StoreUnderTest>): void {
  const at = eachTest(open);
  const names = (list: readonly ObjectName[]) => list.map(({ generation: of, index }) => `${of}/${index}`).sort();

  it('tells what completed changes have left unsynced, until a sync', async () => {
    const volume = await owner(at.store);
    expect(volume.unsynced()).toEqual([]);
    const [one, two, three] = [volume.object(generation, 1), volume.object(generation, 2), volume.object(generationOf(8), 1)];
    await done((waiter) => one.create(0, pattern(1, 512), waiter));
    await done((waiter) => two.create(0, pattern(1, 200_000), waiter));
    await done((waiter) => three.create(0, pattern(1, 512), waiter));
    expect(names(volume.unsynced())).toEqual(['7/1', '7/2', '8/1']);
    await volume.sync();
    expect(volume.unsynced()).toEqual([]);
    await readOf(one, 0, 512);
    expect(volume.unsynced()).toEqual([]);
    await done((waiter) => one.write(0, pattern(2, 512), waiter));
    await done((waiter) => two.zero(0, 200_000, waiter));
    await done((waiter) => three.remove(waiter));
    expect(names(volume.unsynced())).toEqual(['7/1', '7/2']);
    await Promise.all([volume.sync(), volume.sync(), volume.syncJournal(), volume.sync()]);
    expect(volume.unsynced()).toEqual([]);
  });

  it('adopts what the owner before has left', async () => {
    const first = await owner(at.store, 1, 1);
    for (const index of [1, 2]) await done((waiter) => first.object(generation, index).create(0, pattern(index, 512), waiter));
    const left = first.unsynced();
    await first.close();
    const second = await owner(at.other, 1, 2);
    expect(second.unsynced()).toEqual([]);
    second.adoptUnsynced(left);
    second.adoptUnsynced(left);
    expect(names(second.unsynced())).toEqual(['7/1', '7/2']);
    await done((waiter) => second.object(generation, 2).remove(waiter));
    expect(names(second.unsynced())).toEqual(['7/1']);
    await second.sync();
    expect(second.unsynced()).toEqual([]);
  });

  it('tells bit by bit what is unsynced, and leaves nothing out', async () => {
    const volume = await owner(at.store);
    const objects = [1, 2, 3].map((index) => volume.object(generation, index));
    for (const each of objects) await done((waiter) => each.create(0, pattern(1, 512), waiter));
    volume.adoptUnsynced([{ generation, index: 9 }]);
    const watch = volume.watchUnsynced();
    expect(names(watch.take())).toEqual(expect.arrayContaining(names(volume.unsynced())));
    await volume.sync();
    const write = (place: number) => done((waiter) => (objects[place] as WritableBlockObject).write(0, pattern(2, 512), waiter));
    await write(0);
    expect(names(watch.take())).toEqual(expect.arrayContaining(names(volume.unsynced())));
    // Told before, and unsynced again since.
    const synced = volume.sync();
    await write(1);
    await synced;
    await write(0);
    await write(0);
    expect(names(watch.take())).toEqual(expect.arrayContaining(names(volume.unsynced())));
    watch.close();
    volume.watchUnsynced().close();
  });

  it('takes a set of names as it is, and leaves out what is written or removed here', async () => {
    const first = await owner(at.store, 1, 1);
    for (const index of [1, 2, 3]) await done((waiter) => first.object(generation, index).create(0, pattern(index, 512), waiter));
    const left = new ObjectNames();
    for (const name of first.unsynced()) left.add(name);
    await first.close();
    const second = await owner(at.other, 1, 2);
    second.adoptUnsynced(left);
    expect(names(second.unsynced())).toEqual(names([...left]));
    await done((waiter) => second.object(generation, 1).write(0, pattern(4, 512), waiter));
    const unsynced = names(second.unsynced());
    expect(unsynced).toEqual([...new Set(unsynced)]);
    await done((waiter) => second.object(generation, 2).remove(waiter));
    expect(names(second.unsynced())).not.toContain('7/2');
    await second.sync();
    expect(second.unsynced()).toEqual([]);
    expect(await readOf(second.object(generation, 3), 0, 512)).toEqual(pattern(3, 512));
  });

  it('syncs an adopted object that is gone without complaint', async () => {
    const volume = await owner(at.store);
    volume.adoptUnsynced([{ generation, index: 99 }]);
    await volume.sync();
    expect(volume.unsynced()).toEqual([]);
  });

  it('syncs pages and journal, and after a dead owner whatever it left', async () => {
    const volume = await owner(at.store, 1, 1);
    await volume.writePage(generation, 1, pattern(1, 4096));
    await append(volume, 1, 0, pattern(2, 100));
    await volume.syncJournal();
    await volume.sync();
    const next = await takeOver(at.other, 2, false);
    await append(next.store, 1, 100, pattern(3, 100));
    await Promise.all([next.store.sync(), next.store.syncJournal(), next.store.sync()]);
    expectBytes(await at.store.readPage(generation, 1), pattern(1, 4096));
  });
}
