/** Stores on the Ceph cluster of this run, without daemons. */
import { randomUUID } from 'node:crypto';
import { type CephCluster, NAMESPACE_PREFIX } from '../../../chaos/ceph/cluster.ts';
import { silentLog } from '../../../src/base/index.ts';
import { type BlockStore, openRadosStore, type RadosStoreOptions } from '../../../src/blocker/index.ts';
import { systemClock } from '../../../src/node/clock.ts';

/** Where a store is; plain data, so that it can be told to another process. */
export type Place = Omit<RadosStoreOptions, 'clock' | 'log' | 'shutOut'>;

/** A namespace that nobody has used. */
export function newPlace({ confFile, user, mapsPool, blocksPool }: CephCluster): Place {
  const id = randomUUID();
  return { user, confFile, mapsPool, blocksPool, namespace: NAMESPACE_PREFIX + id, clusterId: id, mustExist: false, cacheBytes: 1 << 20 };
}

export function openAt(place: Place, shutOut: () => void = () => undefined): Promise<BlockStore> {
  return openRadosStore({ ...place, shutOut, clock: systemClock, log: silentLog });
}
