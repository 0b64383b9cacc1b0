/**
 * Collection by itself: how fast it lists and removes, on the file store beside `rm -rf`, and how its memory grows with the objects.
 *
 * Half of the objects are in use, in a map of their own; the other half is dead. Memory is what lives in the heap and its buffers at
 * most, program included, looked at every few thousand names. What `volume rm` and guests see of it is in `maps --only remove`. Arguments: `--objects N` (default 200000),
 * which is compared with a tenth of it; `--store rados` for a Ceph cluster of its own, where nothing comparable exists.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { startCeph, stopCeph } from '../chaos/ceph/cluster.ts';
import { type Epoch, type Generation, silentLog, type VolumeId } from '../src/base/index.ts';
import { objectPath } from '../src/blocker/file/layout.ts';
import { type BlockStore, openFileStore, storeCall } from '../src/blocker/index.ts';
import { Collection, OpenMap, PageCache, type VolumeRecord } from '../src/mapper/index.ts';
import { systemClock } from '../src/node/clock.ts';
import { newPlace, openAt } from '../test/e2e/support/rados.ts';
import type { BenchResult } from './main.ts';
import { figure } from './support/figures.ts';
import { interruptible, type Undoing } from './support/interruptible.ts';

const LIVE = 1 as Generation;
const DEAD = 2 as Generation;
const VOLUME = 1 as VolumeId;
const OTHER_VOLUME = 2 as VolumeId;
const CONTENT = Buffer.from('x');
const PARALLEL = 64;
const LOOK_EVERY = 4096;
/** At most this much more memory for ten times the objects. */
const GROWTH_BYTES = 8 << 20;

setFlagsFromString('--expose-gc');
const collectHeap = runInNewContext('gc') as () => void;

/** A store with as many objects of either generation. */
interface Filled {
  readonly store: BlockStore;
  /** Objects of one generation that the peer removes in a second. */
  readonly peerPerSecond: number | null;
}

export async function run(args: readonly string[]): Promise<BenchResult[]> {
  const { values } = parseArgs({
    args: [...args],
    options: { objects: { type: 'string', default: '200000' }, store: { type: 'string', default: 'file' } },
  });
  const objects = Number(values.objects);
  return interruptible(async (undoing) => {
    const fill = FILLS[values.store];
    if (!fill) throw new Error(`no store '${values.store}'; there are: ${Object.keys(FILLS).join(', ')}`);
    const few = await measure(await fill(undoing, objects / 10), objects / 10);
    const many = await measure(await fill(undoing, objects), objects);
    return [
      figure(`list and remove, ${objects} objects`, many.objectsPerSecond, many.peerPerSecond, 'objects/s', null),
      figure(`memory for ${objects / 10} objects`, few.peakBytes, null, 'bytes', null),
      figure(`memory for ${objects} objects, more than that`, many.peakBytes - few.peakBytes, null, 'bytes', { of: 'ours', limit: GROWTH_BYTES }),
    ];
  });
}

const FILLS: Readonly<Record<string, (undoing: Undoing, objects: number) => Promise<Filled>>> = { file: fillFiles, rados: fillRados };

async function fillFiles({ atEnd, signal }: Undoing, objects: number): Promise<Filled> {
  const directory = mkdtempSync(join(tmpdir(), 'bench-'));
  atEnd(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, 'store');
  const store = await openFileStore({ directory: path, clusterId: '0'.repeat(32), clock: systemClock });
  signal.throwIfAborted();
  for (const generation of [LIVE, DEAD]) {
    mkdirSync(dirname(objectPath(path, generation, 0)), { recursive: true });
    for (let index = 0; index < objects / 2; index++) writeFileSync(objectPath(path, generation, index), 'x');
  }
  execFileSync('cp', ['-r', dirname(objectPath(path, DEAD, 0)), join(directory, 'peer')]);
  const peerBegan = performance.now();
  execFileSync('rm', ['-rf', join(directory, 'peer')]);
  return { store, peerPerSecond: objects / 2 / ((performance.now() - peerBegan) / 1000) };
}

async function fillRados({ atEnd, signal }: Undoing, objects: number): Promise<Filled> {
  const directory = mkdtempSync(join(tmpdir(), 'bench-'));
  atEnd(() => stopCeph(directory, true));
  const store = await openAt(newPlace(await startCeph({ directory, osds: 1 })));
  // Of another volume: the map's is taken over below.
  const { store: volume } = await store.takeOver(OTHER_VOLUME, 1 as Epoch, true);
  let made = 0;
  const worker = async () => {
    while (made < objects) {
      signal.throwIfAborted();
      const place = made++;
      const object = volume.object(place % 2 === 0 ? LIVE : DEAD, place >> 1);
      await storeCall((waiter) => object.create(0, CONTENT, waiter));
      object.release();
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
  await volume.close();
  return { store, peerPerSecond: null };
}

async function measure({ store, peerPerSecond }: Filled, objects: number) {
  await mapObjects(store, objects / 2);
  const record = { id: VOLUME, name: 'volume', kind: 'volume', root: null, owner: null, epoch: 1, openGenerations: [], reservation: null };
  const begun = { cycle: 1, nextGeneration: 3 as Generation, nextVolumeId: 3 as VolumeId };
  let peakBytes = 0;
  let looked = 0;
  const watched: BlockStore = Object.create(store);
  watched.remove = (kind, names) => {
    if (collection.progress.listed >= looked) {
      looked += LOOK_EVERY;
      // Buffers that the first one finds to be garbage, as those of the logs, are counted until the next.
      collectHeap();
      collectHeap();
      peakBytes = Math.max(peakBytes, liveBytes());
    }
    return store.remove(kind, names);
  };
  const collection = new Collection(begun, {
    store: watched,
    records: async () => [record as unknown as VolumeRecord],
    takeOver: () => Promise.reject(new Error('it is not needed')),
    clock: systemClock,
    maxOperationsPerSecond: 1_000_000,
    memoryBytes: 64 << 20,
  });
  const began = performance.now();
  await collection.run();
  const seconds = (performance.now() - began) / 1000;
  if (collection.progress.freedObjects < objects / 2) throw new Error(`only ${collection.progress.freedObjects} were freed`);
  await store.close();
  return { objectsPerSecond: objects / 2 / seconds, peerPerSecond, peakBytes };
}

/** Makes a map of the live objects, durable and folded. */
async function mapObjects(store: BlockStore, count: number): Promise<void> {
  const takeover = await store.takeOver(VOLUME, 1 as Epoch, true);
  const naming = { generation: LIVE };
  const options = { blockStore: store, takeover, volume: VOLUME, epoch: 1 as Epoch, initialRoot: null, naming, bootId: 'bench' };
  const map = await OpenMap.open({ ...options, cache: new PageCache(), log: silentLog });
  for (let first = 0; first < count; first += 1000) {
    const changes = Array.from({ length: Math.min(1000, count - first) }, (_, place) =>
      map.recordChange({ kind: 'plain', index: first + place, generation: LIVE }),
    );
    await Promise.all(changes);
  }
  await map.fold();
  await map.close();
}

function liveBytes(): number {
  // Buffers are part of what is external.
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
