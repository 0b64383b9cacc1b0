/**
 * A cluster of real daemons that ends with the test, and its directory goes.
 *
 *     const cluster = await startCluster();
 *     await cluster.json('volume', 'create', 'disk', '--size', '64M');
 *     await cluster.kill('n2');
 *     await cluster.up();
 */
import { afterAll, beforeAll, onTestFinished } from 'vitest';
import { type Cluster, type PrepareDirectory, prepareCluster } from '../../../chaos/process/cluster.ts';
import { Ending } from '../../../chaos/process/ending.ts';
import { sharedCeph } from './ceph.ts';
import { atTestEnd } from './processes.ts';
import { newPlace } from './rados.ts';

export type { CliResult, Cluster, ClusterStatus, VolumeInfo } from '../../../chaos/process/cluster.ts';

/** On a busy machine. */
const UP_TIMEOUT_MS = 120_000;

export interface StartOptions {
  readonly nodes?: number;
  /** By default what ARCHIPELAGO_TEST_STORE says, else `file`. A story that looks into the store, or damages it, names its own. */
  readonly store?: 'file' | 'memory' | 'rados';
  readonly prepare?: PrepareDirectory;
}

/** Starts a cluster and waits until it is ready. It ends with the test. */
export async function startCluster({ prepare, ...options }: StartOptions = {}): Promise<Cluster> {
  const cluster = await prepareCluster(atTestEnd, prepare);
  // Runs first, before the logs go.
  onTestFinished(({ task }) => {
    if (task.result?.state === 'fail') console.error(cluster.logTails());
  });
  await cluster.up(...(await upArguments(options)));
  return cluster;
}

/** For the tests of a suite together: to be called in its body. The cluster can be had once the tests run. */
export function shareCluster({ prepare, ...options }: StartOptions = {}): () => Cluster {
  let shared: Cluster | null = null;
  const ending = new Ending();
  beforeAll(async () => {
    shared = await prepareCluster(ending.add, prepare);
    await shared.up(...(await upArguments(options)));
  }, UP_TIMEOUT_MS);
  afterAll(() => ending.run());
  return () => {
    if (!shared) throw new Error('the cluster is there once the tests run');
    return shared;
  };
}

async function upArguments({ nodes, ...options }: StartOptions): Promise<string[]> {
  const store = options.store ?? process.env['ARCHIPELAGO_TEST_STORE'];
  const ceph = store === 'rados' ? await cephArguments() : [];
  return [...(nodes ? ['--nodes', String(nodes)] : []), ...(store ? ['--store', store] : []), ...ceph];
}

/** As a user with the least capabilities. */
async function cephArguments(): Promise<string[]> {
  const { confFile, user, namespace } = newPlace(await sharedCeph());
  return ['--ceph-conf', confFile, '--ceph-user', `client.${user}`, '--ceph-namespace', namespace];
}
