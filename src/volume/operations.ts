/**
 * What an owner does to a whole volume: snapshot, handover, release, resize, remove. One at a time for each volume. Each proposes a command
 * that names its epoch, and stays stopped for what depends on it until the outcome has been applied here.
 */
import { ArchipelagoError, type Epoch, type VolumeId } from '../base/index.ts';
import type { NodeRecord, VolumeRecord } from '../mapper/index.ts';
import type { VolumeContext } from './context.ts';
import type { ServedVolume } from './served-volume.ts';
import { dropShrunkSpace } from './shrink.ts';
import type { Volume } from './volume.ts';
import { DONE, encodeAnswered, encodeObjectNames, HAND_OVER, handOverCodec } from './wire.ts';

/** How long an operation waits for the volume to be opened here. */
const OPEN_TIMEOUT_MS = 10_000;
/** How long the link to the next owner may be down: both nodes may have started a moment ago, on a machine that is busy with just that. */
const CONNECT_TIMEOUT_MS = 5_000;
/** How long the next owner may take to take its message. */
const HAND_OVER_TIMEOUT_MS = 2000;
/** How long a finished handover waits to see the first I/O pass. */
const SETTLE_TIMEOUT_MS = 5000;

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
    const prepared = map.prepareCut();
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

export interface HandOverResult {
  readonly epoch: Epoch;
  /** How long the volume admitted no I/O. */
  readonly pauseMs: number;
}

export interface HandOverTarget extends Pick<NodeRecord, 'name' | 'livenessEpoch'> {
  /** For a handover that nobody asked for: the epoch under which it is a good idea. */
  readonly onlyUnder?: Epoch;
}

/** Gives the volume to a node, whose data process has to be reachable. Nothing is in the store's hands when the entry is proposed. */
export function handOverVolume(context: VolumeContext, volume: Volume, to: HandOverTarget): Promise<HandOverResult> {
  return volume.exclusively(async () => {
    const placed = to.onlyUnder === undefined;
    const expected = (epoch: Epoch | undefined): void => {
      if (!placed && epoch !== to.onlyUnder) throw new ArchipelagoError('stale-epoch', 'the volume has moved meanwhile');
    };
    // What has been given up while this waited for its turn is not taken back, only to be given away.
    expected(volume.record.owner?.epoch);
    const served = await volume.own(OPEN_TIMEOUT_MS);
    expected(served.epoch);
    if (to.name === context.node) {
      volume.followWriter.stay();
      return { epoch: served.epoch, pauseMs: 0 };
    }
    const map = mapOf(served);
    const { id } = volume.record;
    const next = (served.epoch + 1) as Epoch;
    const link = context.linkTo(to.name);
    if (!link) throw new ArchipelagoError('unavailable', `node ${to.name} is not known here`, { hint: 'see `archipelago cluster status`' });
    await link.waitUp(CONNECT_TIMEOUT_MS).catch((error: unknown) => {
      throw notTaken(to.name, error);
    });
    // Leaves the new owner a header and almost no journal to read.
    await map.fold();
    const startedMs = context.clock.nowMs();
    const record = await volume.whileStopped(served, async () => {
      await map.drain();
      if (map.failed) throw map.failed;
      // All that was admitted is answered by now, so this is whole.
      const answered = encodeAnswered(served.answered.toHandOver());
      const message = handOverCodec.encode({ volume: id, epoch: next, nextPageSequence: map.pageSequence, answered, placed });
      const unsynced = encodeObjectNames(map.store.unsynced());
      const reply = await link.call(HAND_OVER, message, unsynced, { timeoutMs: HAND_OVER_TIMEOUT_MS }).catch((error: unknown) => {
        throw notTaken(to.name, error);
      });
      if (reply.status !== DONE) throw notTaken(to.name, null);
      return context.registry.propose<'handOver'>({ type: 'handOver', id, epoch: served.epoch, to: to.name, toLivenessEpoch: to.livenessEpoch });
    });
    await volume.whenAdmitting(SETTLE_TIMEOUT_MS);
    return { epoch: record.epoch, pauseMs: context.clock.nowMs() - startedMs };
  });
}

/** Whatever became of the message, no handover was proposed: the volume has not moved, and it may be tried again. */
function notTaken(node: string, cause: unknown): unknown {
  if (cause instanceof ArchipelagoError && cause.code !== 'unavailable' && cause.code !== 'timeout') return cause;
  const why = cause instanceof ArchipelagoError ? `: ${cause.message}` : '';
  return new ArchipelagoError('unavailable', `node ${node} did not take the handover${why}`, { cause, hint: 'see `archipelago cluster status`' });
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
