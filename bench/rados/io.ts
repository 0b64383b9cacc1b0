/** I/O on filled volumes and images, and first writes to empty ones. */
import type { BenchResult } from '../main.ts';
import { type Bar, figure, note } from '../support/figures.ts';
import { median } from '../support/processes.ts';
import { runFio, type Target } from './fio.ts';
import type { Turns } from './turns.ts';
import type { World } from './world.ts';

const SIZE = '256M';
const SPARSE_SIZE = '4G';
/** One in each block of 4 MiB. */
const FIRST_WRITES = 1024;

interface Load {
  readonly name: string;
  readonly unit: 'IOPS' | 'MiB/s';
  readonly fio: readonly string[];
  readonly isJudged: boolean;
}

const LOADS: readonly Load[] = [
  ...[1, 16].flatMap((depth) => [random('read', depth), random('write', depth)]),
  { name: '1M sequential read', unit: 'MiB/s', fio: ['--rw=read', '--bs=1m', '--iodepth=8'], isJudged: false },
  { name: '1M sequential write', unit: 'MiB/s', fio: ['--rw=write', '--bs=1m', '--iodepth=8'], isJudged: false },
];

function random(direction: 'read' | 'write', depth: number): Load {
  const fio = [`--rw=rand${direction}`, '--bs=4k', `--iodepth=${depth}`];
  return { name: `4K random ${direction}, depth ${depth}`, unit: 'IOPS', fio, isJudged: depth === 16 };
}

const BARS: Readonly<Record<string, Bar>> = {
  'qemu-nbd': { of: 'ratio', limit: 1.5, atLeast: true },
  librbd: { of: 'ratio', limit: 0.9, atLeast: true },
};

export async function measureIo(world: World, { seconds, turns }: Turns): Promise<BenchResult[]> {
  await world.filledImage('io-librbd', SIZE);
  await world.filledImage('io-qemu', SIZE);
  const targets = [
    await world.filledVolume('io', SIZE),
    (await world.qemuNbd('io-qemu')).target,
    world.librbd('io-librbd'),
    world.librbd('io-librbd', 'cached'),
  ];
  note(`I/O on ${SIZE}, all of it written before; qemu-nbd has no cache, and neither has librbd unless it is said`);
  const results: BenchResult[] = [];
  for (const load of LOADS) {
    const figures = new Map<string, number[]>();
    for (let turn = 0; turn < turns; turn++) {
      // Each has each place in turn, because what one has written the OSD may still be putting away under the next.
      for (const target of [...targets.slice(turn % targets.length), ...targets.slice(0, turn % targets.length)]) {
        const fio = [...load.fio, `--size=${SIZE}`, '--time_based', `--runtime=${seconds}`];
        take(figures, target, rateOf(load, await runFio(world.signal, [target], fio)));
      }
    }
    results.push(...compare(load, figures));
  }
  return [...results, ...(await measureFirstWrites(world, turns))];
}

async function measureFirstWrites(world: World, turns: number): Promise<BenchResult[]> {
  const fio = ['--rw=write:4092k', '--bs=4k', '--iodepth=16', `--size=${SPARSE_SIZE}`, `--number_ios=${FIRST_WRITES}`];
  const load: Load = { name: '4K first writes, depth 16', unit: 'IOPS', fio, isJudged: false };
  const figures = new Map<string, number[]>();
  for (let turn = 0; turn < turns; turn++) {
    const [forLibrbd, forQemu] = [`sparse-${turn}`, `sparse-qemu-${turn}`];
    for (const image of [forLibrbd, forQemu]) await world.rbd('create', '--size', SPARSE_SIZE, image);
    const qemu = await world.qemuNbd(forQemu);
    for (const target of [await world.volume(`sparse-${turn}`, SPARSE_SIZE), qemu.target, world.librbd(forLibrbd)]) {
      take(figures, target, rateOf(load, await runFio(world.signal, [target], fio)));
    }
    await qemu.kill();
  }
  return compare(load, figures);
}

function rateOf(load: Load, done: Awaited<ReturnType<typeof runFio>>): number {
  const direction = done.write.total_ios > 0 ? done.write : done.read;
  return load.unit === 'IOPS' ? direction.iops : direction.bw_bytes / 2 ** 20;
}

function take(figures: Map<string, number[]>, { name }: Target, value: number): void {
  figures.set(name, [...(figures.get(name) ?? []), value]);
}

function compare(load: Load, figures: ReadonlyMap<string, number[]>): BenchResult[] {
  const ours = median(figures.get('ours') as number[]);
  return [...figures]
    .filter(([name]) => name !== 'ours')
    .map(([name, values]) => {
      const bar = load.isJudged ? (BARS[name] ?? null) : null;
      return figure(`${load.name}, beside ${name}`, ours, median(values), load.unit, bar);
    });
}
