/** What random histories of volumes reach rarely: a fold under records that never end, a drain that finds work which has just begun. */
import { expect, test } from 'vitest';
import { SimDisk } from '../../chaos/sim/volume/disk.ts';
import { SimStore } from '../../chaos/sim/volume/store.ts';
import { ArchipelagoError, type Epoch, type Generation, Prng, silentLog, type VolumeId } from '../../src/base/index.ts';
import { storeCall } from '../../src/blocker/index.ts';
import { OpenMap, PageCache } from '../../src/mapper/index.ts';

const VOLUME = 1 as VolumeId;
const GENERATION = 1 as Generation;

/** A map over a store whose operations end when the test says so. */
async function openMap(disk = new SimDisk(), number = 1): Promise<{ map: OpenMap; store: SimStore }> {
  const store = new SimStore(disk, number);
  store.atOnce = 1;
  const epoch = number as Epoch;
  const map = await OpenMap.open({
    blockStore: store,
    takeover: await store.takeOver(VOLUME, epoch, false),
    volume: VOLUME,
    epoch,
    initialRoot: null,
    naming: { generation: number as Generation },
    bootId: `boot ${disk.boot}`,
    cache: new PageCache(),
    log: silentLog,
  });
  store.atOnce = 0;
  return { map, store };
}

async function turns(store: SimStore, count: number, until: () => boolean = () => false): Promise<boolean> {
  for (let turn = 0; turn < count; turn++) {
    if (until()) return true;
    store.step();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return until();
}

test('a fold ends while each record is followed by the next', async () => {
  const { map, store } = await openMap();
  let index = 0;
  const next = (): void => map.record({ kind: 'plain', index: index++, generation: GENERATION }, { recorded: next });
  for (let i = 0; i < 3; i++) next();
  let folded = false;
  await turns(store, 3);
  const fold = map.fold().then(() => {
    folded = true;
  });
  expect(await turns(store, 500, () => folded)).toBe(true);
  await fold;
});

test('a drain waits for the fold that the last append has started', async () => {
  const { map, store } = await openMap();
  let records = 0;
  for (let index = 0; index < 70_000; index++) map.record({ kind: 'plain', index, generation: GENERATION }, { recorded: () => records++ });
  let drained = false;
  const drain = map.drain().then(() => {
    drained = true;
    return map.pageSequence;
  });
  expect(await turns(store, 2000, () => drained)).toBe(true);
  expect(records).toBe(70_000);
  const sequence = await drain;
  expect(store.busy).toBe(false);
  await turns(store, 100);
  expect(map.pageSequence).toBe(sequence);
});

test('a flush without a new record since the last mark appends none', async () => {
  const { map, store } = await openMap();
  store.atOnce = 1;
  await map.recordChange({ kind: 'plain', index: 1, generation: GENERATION });
  await map.flush();
  const before = journalBytes(store);
  await map.flush();
  expect(journalBytes(store)).toBe(before);
});

test('a change whose append failed is not found by the next owner, though its bytes had arrived', async () => {
  const { map, store } = await openMap();
  store.atOnce = 1;
  await map.recordChange({ kind: 'plain', index: 1, generation: GENERATION });
  const append = map.store.appendJournal.bind(map.store);
  map.store.appendJournal = (segment, position, bytes, waiter) => {
    map.store.appendJournal = append;
    append(segment, position, bytes, { storeDone: () => undefined });
    setImmediate(() => waiter.storeDone(new ArchipelagoError('no-space', 'told too late')));
    return false;
  };
  await expect(map.recordChange({ kind: 'absent', index: 1 })).rejects.toMatchObject({ code: 'no-space' });
  expect(map.pages.generationOf(1)).toBe(GENERATION);
  store.die();
  const next = await openMap(store.disk, 2);
  expect(next.map.pages.generationOf(1)).toBe(GENERATION);
});

test('a mark does not cover what was recorded while its flush was under way', async () => {
  let dropped = 0;
  for (let seed = 1; seed <= 12; seed++) {
    const { map, store } = await openMap(new SimDisk(), seed);
    const generation = seed as Generation;
    store.atOnce = 1;
    await map.recordChange({ kind: 'plain', index: 1, generation });
    store.atOnce = 0;
    const flush = map.flush();
    store.atOnce = 1;
    await storeCall((waiter) => map.store.object(generation, 2).create(0, new Uint8Array(512).fill(1), waiter));
    await map.recordChange({ kind: 'plain', index: 2, generation });
    await turns(store, 20);
    await flush;
    store.die();
    store.disk.losePower(new Prng(seed));
    const next = await openMap(store.disk, seed + 100);
    expect(next.map.pages.generationOf(1)).toBe(generation);
    next.store.atOnce = 1;
    const there = await next.store.objectExists({ generation, index: 2 });
    if (!there) dropped++;
    expect(there || next.map.pages.generationOf(2) === 0).toBe(true);
  }
  expect(dropped).toBeGreaterThan(0);
});

function journalBytes(store: SimStore): number {
  let bytes = 0;
  for (const log of store.disk.logs.get(VOLUME)?.values() ?? []) for (const file of log.segments.values()) bytes += file.length;
  return bytes;
}

test('no record comes without the record of its generation, whose append has failed', async () => {
  const { map, store } = await openMap();
  store.atOnce = 1;
  const { store: log } = map;
  const append = log.appendJournal.bind(log);
  const full = new ArchipelagoError('no-space', 'planted');
  // Neither the record of the cut nor its header reaches the store; only the journal is left to tell.
  let failures = 1;
  log.appendJournal = (segment, position, bytes, waiter) => {
    if (bytes.byteLength === 0 || failures-- <= 0) return append(segment, position, bytes, waiter);
    queueMicrotask(() => waiter.storeDone(full));
    return false;
  };
  log.writeHeader = () => Promise.reject(full);
  const cut = await map.cut(7 as Generation);
  await cut.durable.catch((error: unknown) => expect(error).toBe(full));
  await map.recordChange({ kind: 'plain', index: 3, generation: 7 as Generation });
  const { map: next } = await openMap(store.disk, 2);
  expect(next.isLive(7 as Generation)).toBe(true);
  expect(next.isUnclean(7 as Generation)).toBe(true);
  expect(next.isUnclean(next.naming)).toBe(false);
});

test('what has to be claimed is passed on until it was claimed, also by an owner that did not come far', async () => {
  const unclean = (map: OpenMap) => [1, 2, 3, 4].filter((generation) => map.isUnclean(generation as Generation));
  const { store: first } = await openMap();
  // The first is only paused; the second dies as soon as it has the log, or after it has recorded its start.
  const early = new SimStore(first.disk, 2);
  early.atOnce = 1;
  await early.takeOver(VOLUME, 2 as Epoch, false);
  early.die();
  const { map: third, store } = await openMap(first.disk, 3);
  expect(unclean(third)).toEqual([1]);
  store.die();
  const { map: fourth, store: last } = await openMap(first.disk, 4);
  expect(unclean(fourth)).toEqual([1]);
  last.atOnce = 1;
  await fourth.recordClaimed();
  expect(fourth.hasUnclean).toBe(false);
  last.die();
  const { map: fifth } = await openMap(first.disk, 5);
  expect(fifth.hasUnclean).toBe(false);
  const { map: sixth } = await openMap(first.disk, 6);
  expect(unclean(sixth)).toEqual([1, 3, 4]);
});
