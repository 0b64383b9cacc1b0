/** The whole of a run of end-to-end tests shares one Ceph cluster. The first test that wants it starts it; here it ends. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { stopCeph } from '../../../chaos/ceph/cluster.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    cephDirectory: string;
  }
}

let directory: string | null = null;

export function setup(project: TestProject): void {
  directory = mkdtempSync(join(tmpdir(), 'archipelago-ceph-'));
  project.provide('cephDirectory', directory);
}

export async function teardown(): Promise<void> {
  if (directory !== null) await stopCeph(directory, true);
}
