/** The driver `rados` against a real Ceph. */
import { randomUUID } from 'node:crypto';
import { beforeAll } from 'vitest';
import type { CephCluster } from '../../chaos/ceph/cluster.ts';
import { silentLog } from '../../src/base/index.ts';
import { openRadosStore } from '../../src/blocker/index.ts';
import { systemClock } from '../../src/node/clock.ts';
import { blockStoreContract } from '../contract/block-store.ts';
import { requireTools } from '../support/tools.ts';
import { CEPH_TOOLS, sharedCeph } from './support/ceph.ts';

const suite = requireTools(CEPH_TOOLS);

let namespaces = 0;

suite('the store rados', () => {
  let ceph: CephCluster;

  beforeAll(async () => {
    ceph = await sharedCeph();
  }, 120_000);

  /** Two nodes of one cluster, in a namespace of their own. */
  async function open() {
    const { confFile, mapsPool, blocksPool } = ceph;
    const options = {
      user: 'admin',
      confFile,
      mapsPool,
      blocksPool,
      namespace: `test-${++namespaces}`,
      clusterId: randomUUID(),
      mustExist: false,
      clock: systemClock,
      log: silentLog,
    };
    const [first, second] = await Promise.all([openRadosStore(options), openRadosStore(options)]);
    const end = async () => {
      await Promise.all([first.close(), second.close()]);
    };
    return { first, second, end };
  }

  blockStoreContract('rados', open, { guardsObjects: true, durableAtOnce: true, tellsUsage: false, randomRuns: 8 });
});
