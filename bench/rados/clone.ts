/** Making snapshots and clones, and the first write to each block that a clone shares. */
import { volumePath } from '../../src/gateway/http/client.ts';
import type { BenchResult } from '../main.ts';
import { figure, note } from '../support/figures.ts';
import { timed } from '../support/nbd.ts';
import { median } from '../support/processes.ts';
import { runFio, type Target } from './fio.ts';
import type { Turns } from './turns.ts';
import { HOME, type World } from './world.ts';

const SIZE = '512M';
/** One in each block of 4 MiB. */
const FIRST_WRITES = 128;
/** Five times as fast. */
const ALLOWED_RATIO = 0.2;
const ROUNDS = 7;

export async function measureClone(world: World, { turns }: Turns): Promise<BenchResult[]> {
  await world.filledVolume('origin', SIZE);
  await world.filledImage('origin', SIZE);
  note('Snapshots and clones: both by their command lines, and ours through the admin API, without a process to start');
  const made = await measureMaking(world);
  note(`The first write of 4 KiB to each of ${FIRST_WRITES} blocks of a clone, one at a time; librbd has no cache`);
  const [ours, peer]: [number[], number[]] = [[], []];
  for (let turn = 0; turn < turns; turn++) {
    await world.cluster.json('volume', 'clone', 'cli-0', `written-${turn}`);
    await world.cluster.migrate(`written-${turn}`, HOME);
    ours.push(await firstWriteMs(world, world.ours(`written-${turn}`)));
    await world.rbd('clone', '--rbd-default-clone-format', '2', 'origin@cli-0', `written-${turn}`);
    peer.push(await firstWriteMs(world, world.librbd(`written-${turn}`)));
  }
  const bar = { of: 'ratio', limit: ALLOWED_RATIO } as const;
  return [...made, figure('first write to a block of a clone, p50, beside librbd', median(ours), median(peer), 'ms', bar)];
}

async function firstWriteMs(world: World, target: Target): Promise<number> {
  const load = ['--rw=write:4092k', '--bs=4k', '--iodepth=1', `--size=${SIZE}`, `--number_ios=${FIRST_WRITES}`];
  const { write } = await runFio(world.signal, [target], load);
  if (write.total_ios !== FIRST_WRITES) throw new Error(`${write.total_ios} writes where there should be ${FIRST_WRITES}`);
  return (write.clat_ns.percentile?.['50.000000'] as number) / 1e6;
}

async function measureMaking(world: World): Promise<BenchResult[]> {
  const admin = world.cluster.admin(HOME);
  const ways: Record<string, (place: number) => Promise<unknown>> = {
    'our snapshot': (place) => world.cluster.jsonVia(HOME, 'volume', 'snapshot', 'origin', `cli-${place}`),
    'their snapshot': (place) => world.rbd('snap', 'create', '--no-progress', `origin@cli-${place}`),
    'our clone': (place) => world.cluster.jsonVia(HOME, 'volume', 'clone', `cli-${place}`, `cli-clone-${place}`),
    'their clone': (place) => world.rbd('clone', '--rbd-default-clone-format', '2', `origin@cli-${place}`, `cli-clone-${place}`),
    'snapshot by API': (place) => admin.call('POST', volumePath('origin', 'snapshot'), { name: `api-${place}` }),
    'clone by API': (place) => admin.call('POST', `/v1/snapshots/api-${place}/clone`, { name: `api-clone-${place}` }),
  };
  const times = new Map<string, number[]>(Object.keys(ways).map((way) => [way, []]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const [way, make] of Object.entries(ways)) times.get(way)?.push(...(await timed(1, () => make(round))));
  }
  const of = (way: string) => median(times.get(way) as number[]);
  return [
    figure('volume snapshot, beside rbd snap create', of('our snapshot'), of('their snapshot'), 'ms', null),
    figure('volume clone, beside rbd clone', of('our clone'), of('their clone'), 'ms', null),
    figure('snapshot through the admin API', of('snapshot by API'), null, 'ms', null),
    figure('clone through the admin API', of('clone by API'), null, 'ms', null),
  ];
}
