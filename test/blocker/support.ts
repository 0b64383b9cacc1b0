/** What the tests of the file driver share. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../../src/base/index.ts';
import { type BlockStore, type FileStoreOptions, openFileStore } from '../../src/blocker/index.ts';

export const realClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  setTimer(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};

export function freshDirectory(parent = tmpdir()): string {
  return mkdtempSync(join(parent, 'archipelago-store-'));
}

export function removeDirectory(directory: string): void {
  rmSync(directory, { recursive: true, force: true });
}

export function openFiles(directory: string, options: Partial<FileStoreOptions> = {}): Promise<BlockStore> {
  return openFileStore({ directory, clusterId: 'cluster', clock: realClock, ...options });
}
