/** What owners do to whole volumes of a world, as `src/volume/operations.ts` does it: snapshots, handovers, removals, releases. */
import type { Generation } from '../../../src/base/index.ts';
import { type Disk, MAX_SNAPSHOTS, MAX_VOLUMES, usedSectors } from './setting.ts';
import { Twin } from './twin.ts';
import type { World } from './world.ts';

export async function fold(world: World, volume: Disk): Promise<void> {
  const { life } = world;
  const end = world.begin('fold');
  await volume.map?.fold().catch((error: unknown) => world.expected(error, life));
  end();
}

/** As `snapshotVolume` does it. */
export async function snapshot(world: World, volume: Disk): Promise<void> {
  const { served, map } = volume;
  const { life } = world;
  if (!served || !map || volume.maintained) return;
  await served.claimAll().catch((error: unknown) => world.expected(error, life));
  if (life !== world.life || volume.served !== served || volume.maintained || map.hasUnclean) return;
  volume.maintained = true;
  const end = world.begin('snapshot');
  let reserved: Generation | null = null;
  try {
    await map.shortenJournal();
    if (life !== world.life) return;
    reserved = world.registry.reserve(volume.id);
    const generation = reserved;
    await served.stopAdmitting();
    const possible = volume.twin.possibleNow(usedSectors());
    const cut = await map.cut(generation).finally(() => {
      served.forgetBlocks();
      served.resumeAdmitting();
    });
    await cut.durable;
    if (life !== world.life) return;
    world.snapshotsTaken++;
    const id = world.registry.snapshot(volume.id, generation, cut.root);
    world.snapshots.push({ id, root: cut.root, values: null, possible });
    if (world.snapshots.length > MAX_SNAPSHOTS) dropSnapshot(world, world.prng.below(MAX_SNAPSHOTS));
  } catch (error) {
    if (life === world.life && reserved !== null) world.registry.cancel(volume.id, reserved);
    world.expected(error, life);
  } finally {
    end();
    if (life === world.life) volume.maintained = false;
  }
}

/** As `handOverVolume` does it, to another process of the same host. */
export async function handOver(world: World, volume: Disk): Promise<void> {
  const { served, map } = volume;
  const { life } = world;
  if (!served || !map || volume.maintained) return;
  const end = world.begin('handOver');
  volume.maintained = true;
  try {
    await map.fold();
    await served.stopAdmitting();
    await map.drain();
    if (map.failed) throw map.failed;
    const unsynced = map.store.unsynced();
    const naming = { nextPageSequence: map.pageSequence };
    served.forgetBlocks();
    await map.close();
    if (life !== world.life) return;
    volume.served = null;
    volume.map = null;
    const epoch = world.registry.handOver(volume.id);
    const takeover = await world.store.takeOver(volume.id, epoch, true);
    if (life !== world.life) return;
    takeover.store.adoptUnsynced(unsynced);
    await world.serve(volume, epoch, takeover, naming);
    world.handovers++;
  } catch (error) {
    world.expected(error, life);
    if (life !== world.life) return;
    if (volume.served) volume.served.resumeAdmitting();
    // Handed over, and the new owner could not open it: it is as good as dead.
    else world.registry.void(volume.id);
  } finally {
    end();
    if (life === world.life) volume.maintained = false;
  }
}

/** As `removeVolume` does it. */
export async function remove(world: World, volume: Disk): Promise<void> {
  const { served, map } = volume;
  const { life } = world;
  if (!served || !map || volume.maintained || world.volumes.length < 2) return;
  volume.maintained = true;
  const end = world.begin('remove');
  try {
    await served.stopAdmitting();
    if (life !== world.life) return;
    world.registry.remove(volume.id);
    world.volumes.splice(world.volumes.indexOf(volume), 1);
    served.forgetBlocks();
    await map.drain();
    if (life === world.life) await world.store.removeLog(volume.id);
  } catch (error) {
    world.expected(error, life);
  } finally {
    end();
  }
}

export function cloneOne(world: World): void {
  const known = world.snapshots.filter(({ values }) => values !== null);
  if (known.length === 0 || world.volumes.length >= MAX_VOLUMES || world.volumes.some(({ maintained }) => maintained)) return;
  const { id, values } = world.pick(known);
  world.addVolume(world.registry.clone(id), Twin.of(values as Map<number, number>));
}

export function dropSnapshot(world: World, place: number): void {
  const [gone] = world.snapshots.splice(place, 1);
  if (gone) world.registry.remove(gone.id);
}

/** As `releaseVolume` does it. */
export async function release(world: World, volume: Disk): Promise<void> {
  const { served, map } = volume;
  if (!served || !map) return;
  await served.stopAdmitting();
  await map.fold();
  await map.drain();
  served.forgetBlocks();
  await map.close();
  world.registry.release(volume.id);
  volume.served = null;
  volume.map = null;
}
