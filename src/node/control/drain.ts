/** Gives away what this node owns, many volumes at a time. */
import { ArchipelagoError, type Clock, type Log, type VolumeId } from '../../base/index.ts';
import type { DataChild } from './data-child.ts';

/** Handovers and releases under way at a time: each mostly waits for disks and Raft. */
const PARALLEL = 8;
/** After this long the rest is left: its next owner recovers it as after a crash. */
const DRAIN_TIMEOUT_MS = 15_000;

export interface DrainOptions {
  readonly child: Pick<DataChild, 'request'>;
  /** Nodes that can take volumes. */
  readonly targets: readonly string[];
  /** This node's own clients are gone for good. */
  readonly last: boolean;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Volumes with clients are handed over, so that those wait as little as possible; the others are released with everything synced, and so
 * are all of them when there is no node to take them and `last` says that nobody will attach here again. Resolves to the number of volumes
 * that are no longer owned here.
 */
export async function drain({ child, targets, last, clock, log }: DrainOptions): Promise<number> {
  const owned = await child.request<{ id: VolumeId; clients: number }[]>('owned', {});
  const deadlineMs = clock.nowMs() + DRAIN_TIMEOUT_MS;
  const queue = owned.map((volume, place) => ({ ...volume, place, refusals: 0 }));
  let moved = 0;
  const work = async (): Promise<void> => {
    for (let volume = queue.shift(); volume; volume = queue.shift()) {
      if (clock.nowMs() >= deadlineMs) return;
      const { id, clients } = volume;
      const target = targets[(volume.place + volume.refusals) % Math.max(1, targets.length)];
      if (clients > 0 && target === undefined && !last) continue;
      const gone = clients > 0 && target !== undefined ? child.request('handOver', { id, to: target }) : child.request('release', { id });
      try {
        await withTimeout(gone, deadlineMs - clock.nowMs(), clock);
        moved++;
      } catch (error) {
        // Not taken, so it has not moved.
        const refused = error instanceof ArchipelagoError && error.code === 'unavailable';
        if (refused && ++volume.refusals < targets.length) queue.push(volume);
        else log.warn({ volume: id, error: String(error) }, 'a volume could not be given away: its next owner recovers it');
      }
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, work));
  return moved;
}

/** Rejects with `timeout` when the work takes longer; it goes on all the same. */
export function withTimeout(work: Promise<unknown>, timeoutMs: number, clock: Clock): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = clock.setTimer(Math.max(1, timeoutMs), () => reject(new ArchipelagoError('timeout', 'took too long')));
    work.then(() => resolve(), reject).finally(() => timer.cancel());
  });
}
