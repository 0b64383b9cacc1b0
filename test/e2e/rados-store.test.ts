/** The driver `rados` against a real Ceph. */
import { beforeAll } from 'vitest';
import type { CephCluster } from '../../chaos/ceph/cluster.ts';
import { blockStoreContract } from '../contract/block-store.ts';
import { requireTools } from '../support/tools.ts';
import { CEPH_TOOLS, sharedCeph } from './support/ceph.ts';
import { newPlace, openAt } from './support/rados.ts';

requireTools(CEPH_TOOLS)('the store rados', () => {
  let ceph: CephCluster;

  beforeAll(async () => {
    ceph = await sharedCeph();
  });

  /** Two nodes of one cluster, in a namespace of their own. */
  async function open() {
    const place = newPlace(ceph);
    const [first, second] = await Promise.all([openAt(place), openAt(place)]);
    const end = async () => {
      await Promise.all([first.close(), second.close()]);
    };
    return { first, second, end };
  }

  blockStoreContract('rados', open, { guardsObjects: true, durableAtOnce: true, tellsUsage: false, randomRuns: 8 });
});
