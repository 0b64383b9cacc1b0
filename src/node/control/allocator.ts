/** The allocator that a data process on the store `rados` runs with, where the host has it. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const LIBRARY = 'libtcmalloc_minimal.so.4';
const FOLDERS = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64', '/usr/lib'];

/**
 * librados takes dozens of small pieces of memory for an operation and gives them back on other threads, which is what glibc's `malloc` does
 * worst: it was a seventh of a data process's CPU, in locks and in putting pieces together. Ceph's own daemons use tcmalloc for that reason.
 * It has to be there before the program starts, so this is what to add to the environment. Whoever preloads something, or the empty string,
 * is left alone.
 */
export function allocatorEnvironment(
  storeKind: string,
  environment: Readonly<Record<string, string | undefined>>,
  exists: (path: string) => boolean = existsSync,
): Readonly<Record<string, string>> {
  if (storeKind !== 'rados' || environment.LD_PRELOAD !== undefined) return {};
  const found = FOLDERS.map((folder) => join(folder, LIBRARY)).find(exists);
  return found === undefined ? {} : { LD_PRELOAD: found };
}
