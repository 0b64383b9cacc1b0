/**
 * What an owner does to a whole volume: snapshot, release, resize, remove. One at a time for each volume. Each proposes a command
 * that names its epoch, and stays stopped for what depends on it until the outcome has been applied here.
 */
import { ArchipelagoError, type Epoch, type VolumeId } from '../base/index.ts';
import type { VolumeRecord } from '../mapper/index.ts';
import type { VolumeContext } from './context.ts';
import type { ServedVolume } from './served-volume.ts';
import { dropShrunkSpace } from './shrink.ts';
import type { Volume } from './volume.ts';

/** How long an operation waits for the volume to be opened here. */
const OPEN_TIMEOUT_MS = 10_000;

function mapOf(served: ServedVolume) {
  const { owned } = served;
  if (!owned) throw new ArchipelagoError('read-only', 'a snapshot does not change');
  return owned.map;
}

/** Consistent at the moment when everything that was admitted has been answered; I/O goes on while it is made durable. */
export async function snapshotVolume(context: VolumeContext, volume: Volume, name: string, volumeName?: string): Promise<VolumeRecord> {
  for (;;) {
    // What an owner before has under way would land in the snapshot. A handover need not wait for this, so it is no part of the operation itself.
    await (await volume.own(OPEN_TIMEOUT_MS)).claimAll();
    const record = await snapshotClaimed(context, volume, name, volumeName);
    if (record !== null) return record;
  }
}

/** Null when there is something to claim again, under a new ownership. */
function snapshotClaimed(context: VolumeContext, volume: Volume, name: string, volumeName?: string): Promise<VolumeRecord | null> {
  return volume.exclusively(async () => {
    const served = await volume.own(OPEN_TIMEOUT_MS);
    const map = mapOf(served);
    if (map.hasUnclean) return null;
    const { id } = volume.record;
    const { epoch } = served;
    // Most of the work while I/O goes on, so that little is left for the cut; and while the registry is asked.
    const prepared = map.shortenJournal();
    prepared.catch(() => {
      // Thrown below, where the reservation is given up.
    });
    const generation = await context.registry.propose<'reserveGeneration'>({ type: 'reserveGeneration', id, epoch });
    try {
      // The answer has brought all that the registry had before it: whoever asks for the volume of this name gets no other's.
      const called = volume.record.name;
      if (called !== (volumeName ?? called)) throw new ArchipelagoError('stale-epoch', `volume '${volumeName}' is called '${called}' now`);
      await prepared;
      const cut = await volume.whileStopped(served, async () => {
        const taken = await map.cut(generation);
        served.forgetBlocks();
        return taken;
      });
      await cut.durable;
      const createdAt = new Date(context.clock.wallMs()).toISOString();
      return await context.registry.propose<'snapshot'>({ type: 'snapshot', id, epoch, generation, name, root: cut.root, createdAt });
    } catch (error) {
      // Collection waits for snapshots that are under way; on a full disk, which is what may have failed this one, it would wait for ever.
      await context.registry.propose<'cancelReservation'>({ type: 'cancelReservation', id, epoch, generation }).catch(() => {
        // The ownership is gone, and the reservation with it.
      });
      throw error;
    }
  });
}

/** Gives the volume up, with everything synced and folded, so that the next owner finds nothing to do. */
export function releaseVolume(context: VolumeContext, volume: Volume): Promise<void> {
  return volume.exclusively(async () => {
    const served = volume.served;
    if (!served) return;
    const map = mapOf(served);
    await map.fold();
    await volume.whileStopped(served, async () => {
      await map.fold();
      await map.drain();
      await context.registry.propose<'release'>({ type: 'release', id: volume.record.id, epoch: served.epoch });
    });
  });
}

export function resizeVolume(context: VolumeContext, volume: Volume, sizeBytes: number, shrink: boolean): Promise<VolumeRecord> {
  return volume.exclusively(async () => {
    const served = await volume.own(OPEN_TIMEOUT_MS);
    const { id } = volume.record;
    const { epoch } = served;
    return volume.whileStopped(served, async () => {
      // Growing over space that a shrink has not dropped yet would bring old data back.
      await dropShrunkSpace(context, volume.record, served);
      await context.registry.propose<'resize'>({ type: 'resize', id, epoch, sizeBytes, shrink });
      await dropShrunkSpace(context, volume.record, served);
      return volume.record;
    });
  });
}

/** What was known of a volume that is removed. */
export interface RemovedVolume {
  /** Null where its map was not open. */
  readonly blocks: number | null;
}

/** Removes a volume that no client is attached to, here or through `otherClients` at other nodes. */
export function removeVolume(context: VolumeContext, volume: Volume, otherClients: () => number): Promise<RemovedVolume> {
  return volume.exclusively(async () => {
    const { id, name } = volume.record;
    const propose = async (epoch: Epoch): Promise<VolumeRecord> => {
      const clients = volume.clients + otherClients();
      if (clients > 0) {
        throw new ArchipelagoError('in-use', `volume '${name}' has ${clients} attached client${clients === 1 ? '' : 's'}`, {
          hint: 'detach them first',
        });
      }
      return context.registry.propose<'remove'>({ type: 'remove', id, epoch });
    };
    const served = await volume.own(OPEN_TIMEOUT_MS).catch((error: unknown) => {
      // Nobody can open it any more; it would stay for ever.
      if (error instanceof ArchipelagoError && (error.code === 'corrupt' || error.code === 'not-found')) return null;
      throw error;
    });
    const blocks = served?.pages.blocks ?? null;
    await (served === null ? propose(volume.record.epoch) : volume.whileStopped(served, () => propose(served.epoch)));
    // It is gone once the registry says so. A fold under way may take long to end, and what is left here if this process dies, collection removes.
    removeLogLater(context, id, served).catch((error: unknown) => {
      context.log.warn({ error: String(error), volume: id }, 'the log of a removed volume could not be removed; the next collection tries again');
    });
    return { blocks };
  });
}

async function removeLogLater(context: VolumeContext, id: VolumeId, served: ServedVolume | null): Promise<void> {
  if (served !== null) await mapOf(served).drain();
  await context.blockStore.removeLog(id);
}
