/** The part of the contract of stores that collection relies on: listing, removal, and reading logs without owning them. */
import { describe, expect, it } from 'vitest';
import { LIST_BATCH } from '../../src/blocker/batches.ts';
import type { BlockStore, CollectedKind, ObjectName, VolumeStore } from '../../src/blocker/index.ts';
import {
  done,
  eachTest,
  epochOf,
  expectBytes,
  expectCode,
  generationOf,
  owner,
  pattern,
  readOf,
  type StoreUnderTest,
  volumeId,
} from './store-support.ts';

const KIB = 1024;
const all = () => true;
const text = ({ generation, index }: ObjectName) => `${generation}/${index}`;

async function listed(store: BlockStore, kind: CollectedKind, wanted: (generation: number) => boolean = all): Promise<string[]> {
  const names: string[] = [];
  for await (const batch of store.list(kind, wanted)) {
    expect(batch.length).toBeLessThanOrEqual(LIST_BATCH);
    names.push(...batch.map(text));
  }
  return names.sort();
}

const create = (volume: VolumeStore, generation: number, index: number, length = 512) =>
  done((waiter) => volume.object(generationOf(generation), index).create(0, pattern(index, length), waiter));

export function blockStoreCollectionContract(name: string, open: () => Promise<StoreUnderTest>): void {
  describe(`${name}: listing and removal`, () => listingContract(open));
  describe(`${name}: reading a log`, () => readLogContract(open));
}

function listingContract(open: () => Promise<StoreUnderTest>): void {
  const at = eachTest(open);

  it('lists all objects and pages, of the generations that are wanted', async () => {
    const volume = await owner(at.store);
    expect(await listed(at.other, 'object')).toEqual([]);
    const expected: string[] = [];
    for (let index = 0; index < 2.5 * LIST_BATCH; index++) {
      await create(volume, index % 3 === 0 ? 7 : 300, index);
      expected.push(`${index % 3 === 0 ? 7 : 300}/${index}`);
    }
    await create(volume, 8, 2 ** 33);
    for (const sequence of [1, 2, 2 ** 40]) await volume.writePage(generationOf(9), sequence, pattern(1, 100));
    expect(await listed(at.other, 'object')).toEqual([...expected, `8/${2 ** 33}`].sort());
    expect(await listed(at.other, 'object', (generation) => generation === 8)).toEqual([`8/${2 ** 33}`]);
    expect(await listed(at.other, 'page')).toEqual(['9/1', '9/1099511627776', '9/2']);
    expect(await listed(at.other, 'page', (generation) => generation !== 9)).toEqual([]);
  });

  it('lists everything that is there all the while, whatever comes and goes', async () => {
    const volume = await owner(at.store);
    const count = 3 * LIST_BATCH;
    for (let index = 0; index < count; index++) await create(volume, 7, index);
    const seen = new Set<number>();
    let next = count;
    for await (const batch of at.other.list('object', all)) {
      for (const { index } of batch) seen.add(index);
      // Every third one goes, and as many come.
      const gone = batch.filter(({ index }) => index % 3 === 0);
      await at.other.remove('object', gone);
      for (let i = 0; i < 50; i++) await create(volume, 7, next++);
      if (next > 2 * count) break;
    }
    for (let index = 0; index < count; index++) if (index % 3 !== 0) expect(seen.has(index)).toBe(true);
  });

  it('removes objects, tells the room that they had, and minds none that are not there', async () => {
    const volume = await owner(at.store);
    await create(volume, 7, 1, 200 * KIB);
    await create(volume, 7, 2);
    await create(volume, 8, 1);
    const reader = at.other.immutableObject(generationOf(7), 1);
    await readOf(reader, 0, KIB);
    const names = [1, 2, 3].map((index) => ({ generation: generationOf(7), index }));
    const removed = await at.other.remove('object', names);
    expect(removed.count).toBe(2);
    expect(removed.bytes).toBeGreaterThanOrEqual(200 * KIB);
    expect(await at.other.remove('object', names)).toEqual({ count: 0, bytes: 0 });
    expect(await listed(at.store, 'object')).toEqual(['8/1']);
    await expectCode(readOf(at.other.immutableObject(generationOf(7), 1), 0, 512), 'not-found');
    reader.release();
    at.store.closeIdle();
    at.other.closeIdle();
    expectBytes(await readOf(at.other.immutableObject(generationOf(8), 1), 0, 512), pattern(1, 512));
    // The owner goes on, in the same generation as well.
    await create(volume, 7, 4);
    await volume.sync();
    expect(await listed(at.other, 'object')).toEqual(['7/4', '8/1']);
  });

  it('removes pages', async () => {
    const volume = await owner(at.store);
    for (const sequence of [1, 2]) await volume.writePage(generationOf(7), sequence, pattern(sequence, 5000));
    await volume.sync();
    expect((await at.other.remove('page', [{ generation: generationOf(7), index: 1 }])).bytes).toBeGreaterThanOrEqual(5000);
    await expectCode(at.store.readPage(generationOf(7), 1), 'not-found');
    expectBytes(await at.store.readPage(generationOf(7), 2), pattern(2, 5000));
  });
}

function readLogContract(open: () => Promise<StoreUnderTest>): void {
  const at = eachTest(open);
  const logs = async () => {
    const volumes: number[] = [];
    for await (const batch of at.other.listLogs()) volumes.push(...batch);
    return volumes.sort();
  };

  it('finds nothing where there is no log', async () => {
    expect(await at.store.readLog(volumeId(1))).toBeNull();
    expect(await logs()).toEqual([]);
    await owner(at.store, 3, 2);
    expect(await logs()).toEqual([3]);
    expect(await at.other.readLog(volumeId(3))).toEqual({ epoch: 2, header: null, segments: [] });
    await at.store.removeLog(volumeId(3));
    expect(await logs()).toEqual([]);
    expect(await at.store.readLog(volumeId(3))).toBeNull();
  });

  it('shows what the owner has written, and takes nothing from it', async () => {
    const volume = await owner(at.store, 1, 4);
    await volume.writeHeader(pattern(1, 300));
    await done((waiter) => volume.appendJournal(3, 0, pattern(2, 100), waiter));
    await done((waiter) => volume.appendJournal(4, 0, pattern(3, 70), waiter));
    const log = await at.other.readLog(volumeId(1));
    expect(log?.epoch).toBe(4);
    expectBytes(log?.header as Uint8Array, pattern(1, 300));
    expect(log?.segments.map(({ number }) => number)).toEqual([3, 4]);
    expectBytes(log?.segments[1]?.bytes as Uint8Array, pattern(3, 70));
    await done((waiter) => volume.appendJournal(4, 70, pattern(4, 10), waiter));
    await volume.dropSegments(4);
    expect((await at.other.readLog(volumeId(1)))?.segments.map(({ number, bytes }) => [number, bytes.byteLength])).toEqual([[4, 80]]);
  });

  it('reads the log of the owner that took over last', async () => {
    const first = await owner(at.store, 1, 1);
    await first.writeHeader(pattern(1, 300));
    const second = await at.other.takeOver(volumeId(1), epochOf(5), false);
    // In vain, or refused.
    await first.writeHeader(pattern(7, 300)).catch((error: unknown) => expect(error).toMatchObject({ code: 'stale-epoch' }));
    const log = await at.store.readLog(volumeId(1));
    expect(log?.epoch).toBe(5);
    expectBytes(log?.header as Uint8Array, pattern(1, 300));
    await second.store.writeHeader(pattern(2, 200));
    expectBytes((await at.store.readLog(volumeId(1)))?.header as Uint8Array, pattern(2, 200));
  });
}
