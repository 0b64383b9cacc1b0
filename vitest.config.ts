import { delimiter } from 'node:path';
import { defineConfig } from 'vitest/config';

/** First the system's own programs: libnbd's Python interface belongs to the system's Python, whichever other one is on the PATH. */
const PATH = ['/usr/bin', process.env['PATH'] ?? '', '/usr/sbin', '/sbin'].join(delimiter);

/**
 * Two projects. `unit` runs two files at a time. `e2e` starts real daemons and real clients, which would starve one another, so its
 * files run one by one, after the others.
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
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          globalSetup: 'test/e2e/support/ceph-lifetime.ts',
          // Real programs on a machine that may be busy: this is for what hangs, not a measure of anything.
          testTimeout: 8 * 60_000,
          hookTimeout: 2 * 60_000,
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
