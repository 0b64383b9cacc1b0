/** CPU of the process that serves, for each operation of 4 KiB at depth 16. */
import type { BenchResult } from '../main.ts';
import { cpuSeconds } from '../support/cpu.ts';
import { figure, note } from '../support/figures.ts';
import { median } from '../support/processes.ts';
import { runFio, type Target } from './fio.ts';
import type { Turns } from './turns.ts';
import { HOME, type World } from './world.ts';

const SIZE = '256M';
const ALLOWED_US = 120;
/** Some ten thousand operations: until then V8 still compiles, on threads that count, what a process that has run for a minute has compiled. */
const WARM_UP_SECONDS = 6;

interface Server {
  readonly target: Target;
  readonly pid: number;
}

export async function measureCpu(world: World, { seconds, turns }: Turns): Promise<BenchResult[]> {
  await world.filledImage('cpu', SIZE);
  const target = await world.filledVolume('cpu', SIZE);
  const ours = { target, pid: world.cluster.dataPid(HOME) as number };
  const peer = await world.qemuNbd('cpu');
  note('CPU of our data process, librados in it, and of qemu-nbd, librbd in it, without a cache; fio is not in it');
  const results: BenchResult[] = [];
  for (const direction of ['read', 'write'] as const) {
    for (const server of [ours, peer]) await usPerOperation(world, server, direction, WARM_UP_SECONDS);
    const [values, peerValues]: [number[], number[]] = [[], []];
    for (let turn = 0; turn < turns; turn++) {
      values.push(await usPerOperation(world, ours, direction, seconds));
      peerValues.push(await usPerOperation(world, peer, direction, seconds));
    }
    const bar = { of: 'ours', limit: ALLOWED_US } as const;
    results.push(figure(`CPU for a 4K random ${direction}, depth 16, beside qemu-nbd`, median(values), median(peerValues), 'µs', bar));
  }
  return results;
}

async function usPerOperation(world: World, { target, pid }: Server, direction: 'read' | 'write', seconds: number): Promise<number> {
  const load = [`--rw=rand${direction}`, '--bs=4k', '--iodepth=16', `--size=${SIZE}`, '--time_based', `--runtime=${seconds}`];
  const before = cpuSeconds(pid);
  const done = await runFio(world.signal, [target], load);
  return ((cpuSeconds(pid) - before) / done[direction].total_ios) * 1e6;
}
