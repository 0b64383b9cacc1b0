import { delimiter } from 'node:path';
import { defineConfig } from 'vitest/config';

/** First the system's own programs: libnbd's Python interface belongs to the system's Python, whichever other one is on the PATH. */
const PATH = ['/usr/bin', process.env['PATH'] ?? '', '/usr/sbin', '/sbin'].join(delimiter);

/** What runs over a real Ceph: with ARCHIPELAGO_TEST_STORE=rados all stories about ownership too, else those that only Ceph can tell. */
const OVER_CEPH =
  process.env['ARCHIPELAGO_TEST_STORE'] === 'rados'
    ? 'rados-* failover faults-{migration,node,data-process,commands,killed-cluster} snapshots diff qemu-migration'
    : 'rados-*';

/**
 * Three projects. `unit` runs two files at a time. `e2e` starts real daemons and real clients, which would starve one another, so its
 * files run one by one, after the others; and so do those of `rados`, which are on a Ceph cluster that they share.
 */
export default defineConfig({
  test: {
    reporters: ['default', './test/support/reporter.ts'],
    env: { PATH },
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: [
      { extends: true, test: { name: 'unit', include: ['test/**/*.test.ts'], exclude: ['test/e2e/**'], maxWorkers: 2, sequence: { groupOrder: 0 } } },
      {
        extends: true,
        test: { name: 'e2e', include: ['test/e2e/**/*.test.ts'], exclude: ['test/e2e/rados-*'], maxWorkers: 1, sequence: { groupOrder: 1 } },
      },
      {
        extends: true,
        test: {
          name: 'rados',
          include: OVER_CEPH.split(' ').map((name) => `test/e2e/${name}.test.ts`),
          env: { ARCHIPELAGO_TEST_STORE: 'rados' },
          globalSetup: 'test/e2e/support/ceph-lifetime.ts',
          // Real programs on a machine that may be busy: this is for what hangs, not a measure of anything.
          testTimeout: 8 * 60_000,
          hookTimeout: 2 * 60_000,
          maxWorkers: 1,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
