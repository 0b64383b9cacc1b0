/** The Ceph cluster of this run, and stores on it. */
import { join } from 'node:path';
import { inject } from 'vitest';
import { type CephCluster, startCeph, stopCeph } from '../../../chaos/ceph/cluster.ts';
import { run } from './processes.ts';

const BUILD = join(import.meta.dirname, '../../../scripts/build-rados.sh');

/** What suites on it need, for `requireTools`. */
export const CEPH_TOOLS = ['ceph-mon', 'ceph-osd', 'ceph', 'rados', 'g++'];

/** The cluster, running, and the binding, built. Files share it: whoever breaks something on purpose mends it, or starts a cluster of its own. */
export async function sharedCeph(): Promise<CephCluster> {
  await run('sh', [BUILD]);
  return startCeph({ directory: inject('cephDirectory'), osds: 1 });
}

/** For the end of a file that has stopped daemons on purpose: an OSD that stood still may leave requests unanswered. The next file starts it anew. */
export function endSharedCeph(): Promise<void> {
  return stopCeph(inject('cephDirectory'), false);
}

/** Stops daemons of the cluster for the time of `body`. */
export async function whileStopped<Result>(pids: readonly number[], body: () => Promise<Result>): Promise<Result> {
  for (const pid of pids) process.kill(pid, 'SIGSTOP');
  try {
    return await body();
  } finally {
    for (const pid of pids) process.kill(pid, 'SIGCONT');
  }
}
