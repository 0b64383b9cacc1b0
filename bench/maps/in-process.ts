/** The map by itself, on the file store: opening a large one, what it takes in memory, and what it takes on the disk. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { type Epoch, type Generation, Prng, silentLog, type VolumeId } from '../../src/base/index.ts';
import { pagePath } from '../../src/blocker/file/layout.ts';
import { type BlockStore, openFileStore } from '../../src/blocker/index.ts';
import { OpenMap, PageCache, type PageRef, PageWalk } from '../../src/mapper/index.ts';
import { systemClock } from '../../src/node/clock.ts';
import type { BenchResult } from '../main.ts';
import { figure, note } from '../support/figures.ts';
import { median, sleep } from '../support/processes.ts';

const MILLION = 1_000_000;
const OPENS = 100;
const BLOCK_BYTES = 4 << 20;
const TOUCHED = 10_000;
const SIZES = [
  ['64 GiB', 64 * 2 ** 30],
  ['1 TiB', 2 ** 40],
  ['1 PiB', 2 ** 50],
] as const;
const TEN_TIB_BLOCKS = (10 * 2 ** 40) / BLOCK_BYTES;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

class Volume {
  private epoch = 0;
  private generation = 0;
  private sequence = 0;
  private readonly id: VolumeId;
  private readonly store: BlockStore;

  constructor(store: BlockStore, id: number) {
    this.store = store;
    this.id = id as VolumeId;
  }

  /** As after a handover, with a new cache, or (the first time) as the first owner. */
  async open(clean: boolean): Promise<OpenMap> {
    const { store, id } = this;
    const epoch = ++this.epoch as Epoch;
    const takeover = await store.takeOver(id, epoch, clean);
    return OpenMap.open({
      blockStore: store,
      takeover,
      volume: id,
      epoch,
      initialRoot: null,
      naming: clean ? { nextPageSequence: this.sequence } : { generation: (id * 1000 + ++this.generation) as Generation },
      bootId: 'boot',
      cache: new PageCache(),
      log: silentLog,
    });
  }

  /** Makes the map of a million blocks by its records; the objects that they name do not exist. */
  async fill(index: (place: number) => number): Promise<PageRef> {
    const map = await this.open(false);
    for (let place = 0; place < MILLION; place += 1000) {
      const changes: Promise<void>[] = [];
      for (let i = place; i < place + 1000; i++) changes.push(map.recordChange({ kind: 'plain', index: index(i), generation: map.naming }));
      await Promise.all(changes);
    }
    const root = (await map.fold()) as PageRef;
    await map.drain();
    this.sequence = map.pageSequence;
    await map.close();
    return root;
  }
}

const openStore = (directory: string) => openFileStore({ directory, clusterId: 'bench', clock: systemClock });

export async function measureOpening(directory: string): Promise<BenchResult[]> {
  const store = await openStore(join(directory, 'opening'));
  const volume = new Volume(store, 1);
  const prng = new Prng(1);
  await volume.fill(() => prng.below(TEN_TIB_BLOCKS));
  const memory = async () => {
    // Twice, with a turn between: what was freed by finalizers counts as gone.
    for (let i = 0; i < 3; i++) {
      collect();
      await sleep(20);
    }
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  // The first one warms up.
  const warm = await volume.open(true);
  const before = await memory();
  const [times, maps]: [number[], OpenMap[]] = [[], []];
  for (let open = 0; open < OPENS; open++) {
    const began = performance.now();
    maps.push(await volume.open(true));
    times.push(performance.now() - began);
  }
  const bytes = ((await memory()) - before) / maps.length;
  const unclean: number[] = [];
  for (let open = 0; open < 10; open++) {
    const began = performance.now();
    maps.push(await volume.open(false));
    unclean.push(performance.now() - began);
  }
  note('Opening a map of 10 TiB with a million blocks (its records made by themselves, without objects): takeover and OpenMap.open, file store');
  const results = [
    figure('open after a handover, p50 of 100', median(times), null, 'ms', { of: 'ours', limit: 100 }),
    figure('open after a death, p50 of 10', median(unclean), null, 'ms', { of: 'ours', limit: 100 }),
    figure('memory of an open map until it is used, mean of 100', bytes / 1024, null, 'KiB', { of: 'ours', limit: 1024 }),
  ];
  for (const map of [warm, ...maps]) await map.close();
  await store.close();
  return [...results, ...(await measureTouched(directory))];
}

/** Memory follows what was touched, not the size. */
async function measureTouched(directory: string): Promise<BenchResult[]> {
  const results: BenchResult[] = [];
  for (const layout of ['in order', 'spread']) {
    let smallest = 0;
    for (const [name, bytes] of SIZES) {
      const store = await openStore(join(directory, `touched-${layout}-${bytes}`));
      const map = await new Volume(store, 1).open(false);
      const step = layout === 'spread' ? bytes / BLOCK_BYTES / TOUCHED : 1;
      for (let place = 0; place < TOUCHED; place++) map.record({ kind: 'plain', index: Math.floor(place * step), generation: map.naming }, null);
      await map.fold();
      const perBlock = map.pages.tree.bytes / TOUCHED;
      smallest ||= perBlock;
      const bar = layout === 'in order' ? ({ of: 'ratio', limit: 1.2 } as const) : null;
      results.push(figure(`memory of the map a block touched, ${TOUCHED} ${layout}, ${name}`, perBlock, smallest, 'B', bar));
      await map.close();
      await store.close();
    }
  }
  return results;
}

export async function measureSize(directory: string): Promise<BenchResult[]> {
  note('Bytes of map a block on the disk, a million blocks; allocated is what the files of the pages take, in blocks of the file system');
  const prng = new Prng(1);
  const places = [
    ['in order', (place: number) => place, 16],
    ['at random within 10 TiB', () => prng.below(TEN_TIB_BLOCKS), null],
  ] as const;
  const results: BenchResult[] = [];
  for (const [name, index, limit] of places) {
    const path = join(directory, `size-${results.length}`);
    const store = await openStore(path);
    const root = await new Volume(store, 1).fill(index);
    const { bytes, allocated } = await sizeOf(store, path, root);
    const bar = limit === null ? null : ({ of: 'ours', limit } as const);
    results.push(figure(`map, ${name}, bytes a block`, bytes / root.blocks, null, 'B', bar));
    results.push(figure(`map, ${name}, allocated bytes a block`, allocated / root.blocks, null, 'B', bar));
    await store.close();
  }
  return results;
}

/** Of the pages that the root leads to. */
async function sizeOf(store: BlockStore, path: string, root: PageRef): Promise<{ bytes: number; allocated: number }> {
  let [bytes, allocated] = [0, 0];
  const walk = new PageWalk({ page: () => undefined, object: () => undefined });
  walk.add(root);
  for (let page = walk.next(); page !== null; page = walk.next()) {
    const data = await store.readPage(page.generation, page.sequence);
    bytes += data.byteLength;
    allocated += statSync(pagePath(path, page.generation, page.sequence)).blocks * 512;
    walk.supply(page, data);
  }
  return { bytes, allocated };
}
