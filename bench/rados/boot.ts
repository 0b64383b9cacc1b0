/** A boot storm: clones of one image, all of them read at once, and what that costs the OSD. */
import { volumePath } from '../../src/gateway/http/client.ts';
import type { BenchResult } from '../main.ts';
import { figure, note } from '../support/figures.ts';
import { runFio, type Target } from './fio.ts';
import { HOME, type World } from './world.ts';

const CLONES = 32;
const SIZE = '256M';
const SIZE_BYTES = 256 * 2 ** 20;
const ALLOWED_IMAGES = 1.2;

export async function measureBoot(world: World): Promise<BenchResult[]> {
  const ours = await storm(world, await clonesOfOurs(world));
  const peer = await storm(world, await clonesOfRbd(world));
  note(`${CLONES} clones of an image of ${SIZE} read whole at once on one node; bytes are the OSD's own count; librbd has its cache`);
  return [
    figure('boot storm, images read from the OSD', ours.bytes / SIZE_BYTES, peer.bytes / SIZE_BYTES, 'images', { of: 'ours', limit: ALLOWED_IMAGES }),
    figure('boot storm, until the last has read all', ours.seconds, peer.seconds, 's', null),
  ];
}

async function storm(world: World, targets: readonly Target[]): Promise<{ bytes: number; seconds: number }> {
  const before = await world.bytesFromOsd();
  const began = performance.now();
  const { read } = await runFio(world.signal, targets, ['--rw=read', '--bs=128k', '--iodepth=4', `--size=${SIZE}`]);
  const seconds = (performance.now() - began) / 1000;
  if (read.io_bytes !== CLONES * SIZE_BYTES) throw new Error(`only ${read.io_bytes} bytes were read`);
  return { bytes: (await world.bytesFromOsd()) - before, seconds };
}

async function clonesOfOurs(world: World): Promise<Target[]> {
  await world.filledVolume('boot', SIZE);
  const admin = world.cluster.admin(HOME);
  await admin.call('POST', volumePath('boot', 'snapshot'), { name: 'golden' });
  const targets: Target[] = [];
  for (let place = 0; place < CLONES; place++) {
    await admin.call('POST', '/v1/snapshots/golden/clone', { name: `guest-${place}` });
    await admin.call('POST', volumePath(`guest-${place}`, 'migrate'), { to: HOME });
    targets.push(world.ours(`guest-${place}`));
  }
  return targets;
}

async function clonesOfRbd(world: World): Promise<Target[]> {
  await world.filledImage('boot', SIZE);
  await world.rbd('snap', 'create', 'boot@golden');
  const targets: Target[] = [];
  for (let place = 0; place < CLONES; place++) {
    await world.rbd('clone', '--rbd-default-clone-format', '2', 'boot@golden', `guest-${place}`);
    targets.push(world.librbd(`guest-${place}`, 'cached'));
  }
  return targets;
}
