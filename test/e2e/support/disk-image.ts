/** A disk image of a real directory tree: packages of `node_modules`, in an ext4 file system. */
import { cpSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ADMIN_PATH } from './clients.ts';
import { run } from './processes.ts';

const PACKAGES = join(import.meta.dirname, '../../../node_modules');
/** What the pinned Node package holds besides depends on how it was installed. */
const NODE_PROGRAM = 'node/bin';
const TREE_BYTES = 200 * 1024 ** 2;
/** Room for the file system's own, and for holes. */
const IMAGE_SIZE = '300M';

export interface DiskImage {
  readonly path: string;
  readonly sizeBytes: number;
}

/** Makes `directory`/image.raw of a tree of at least 200 MB with thousands of files. */
export async function makeDiskImage(directory: string): Promise<DiskImage> {
  const tree = join(directory, 'tree');
  mkdirSync(tree);
  // The one that brings the bytes first, then those that bring the files.
  const packages = [NODE_PROGRAM, ...readdirSync(PACKAGES).filter((name) => name !== 'node' && !name.startsWith('.'))];
  let bytes = 0;
  for (const name of packages) {
    if (bytes >= TREE_BYTES) break;
    const size = sizeOf(join(PACKAGES, name));
    // Single large files tell nothing new.
    if (name !== NODE_PROGRAM && size > TREE_BYTES / 5) continue;
    cpSync(join(PACKAGES, name), join(tree, name), { recursive: true, verbatimSymlinks: true });
    bytes += size;
  }
  if (bytes < TREE_BYTES) throw new Error(`node_modules has only ${bytes} bytes`);
  const path = join(directory, 'image.raw');
  const uuid = '6f1b6f1b-0000-4000-8000-000000000001';
  const options = ['-q', '-F', '-t', 'ext4', '-U', uuid, '-E', `hash_seed=${uuid},root_owner=0:0`, '-d', tree];
  await run('mke2fs', [...options, path, IMAGE_SIZE], { environment: ADMIN_PATH });
  rmSync(tree, { recursive: true });
  return { path, sizeBytes: statSync(path).size };
}

/** Resolves when the image's file system is clean. */
export async function checkFileSystem(path: string): Promise<void> {
  await run('e2fsck', ['-f', '-n', path], { environment: ADMIN_PATH });
}

function sizeOf(path: string): number {
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
}
