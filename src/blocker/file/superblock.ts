/**
 * The file that says what a directory is: the store of one cluster, in one format.
 *
 *     {"format":"archipelago-store","version":1,"clusterId":"…"}
 */
import { link, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ArchipelagoError } from '../../base/index.ts';
import { type Durability, writeDurably } from './durability.ts';
import { BLOCKS, PAGES, SUPERBLOCK, VOLUMES } from './layout.ts';

const FORMAT = 'archipelago-store';
/** Grows with each change that an older program would misread. */
const VERSION = 1;
const MAKING = 'making-';

/** Makes the directory a store of `clusterId` if it is empty, and checks that it is one. Several processes may do so at once. */
export async function prepareDirectory(directory: string, clusterId: string, durability: Durability): Promise<void> {
  try {
    const made = await mkdir(directory, { recursive: true, mode: 0o700 });
    if (made !== undefined) await durability.directory(dirname(directory));
    let text = await readSuperblock(directory);
    if (text === null) {
      await refuseForeign(directory);
      await makeSuperblock(directory, clusterId, durability);
      text = await readSuperblock(directory);
    }
    check(text ?? '', `${directory}/${SUPERBLOCK}`, clusterId);
    for (const name of [BLOCKS, PAGES, VOLUMES]) await mkdir(`${directory}/${name}`, { recursive: true, mode: 0o700 });
    // Always: the process that made them may have died before it could.
    await durability.directory(directory);
  } catch (error) {
    throw ArchipelagoError.from(error, `opening the store in ${directory}`);
  }
}

/** Checks that the directory is the store of `clusterId` already, and makes nothing. Rejects with `not-found` where there is no store. */
export async function checkFileStore(directory: string, clusterId: string): Promise<void> {
  const path = `${directory}/${SUPERBLOCK}`;
  let text: string | null;
  try {
    text = await readSuperblock(directory);
  } catch (error) {
    throw ArchipelagoError.from(error, `reading ${path}`);
  }
  if (text === null)
    throw new ArchipelagoError('not-found', `there is no store in ${directory}`, { hint: 'mount it there first, or name where it is' });
  check(text, path, clusterId);
}

/** Whoever links first wins, and nobody sees half a superblock. */
async function makeSuperblock(directory: string, clusterId: string, durability: Durability): Promise<void> {
  const workshop = await mkdtemp(`${directory}/${MAKING}`);
  try {
    const text = `${JSON.stringify({ format: FORMAT, version: VERSION, clusterId })}\n`;
    await writeDurably(durability, `${workshop}/${SUPERBLOCK}`, Buffer.from(text));
    await link(`${workshop}/${SUPERBLOCK}`, `${directory}/${SUPERBLOCK}`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    await rm(workshop, { recursive: true, force: true });
  }
}

async function readSuperblock(directory: string): Promise<string | null> {
  try {
    return await readFile(`${directory}/${SUPERBLOCK}`, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** A store whose superblock was lost, or somebody's home directory, is not taken for an empty one. */
async function refuseForeign(directory: string): Promise<void> {
  const foreign = (await readdir(directory)).filter((name) => !name.startsWith(MAKING) && name !== SUPERBLOCK && name !== 'lost+found');
  // Read again: another process may have laid the store out since.
  if (foreign.length === 0 || (await readSuperblock(directory)) !== null) return;
  throw new ArchipelagoError('conflict', `${directory} has no superblock, but is not empty: ${foreign.slice(0, 3).join(', ')}`, {
    hint: 'give the store a directory of its own',
  });
}

function check(text: string, path: string, clusterId: string): void {
  let found: { format?: unknown; version?: unknown; clusterId?: unknown } | null;
  try {
    found = JSON.parse(text) as typeof found;
  } catch (error) {
    throw damaged(path, error);
  }
  if (found?.format !== FORMAT || typeof found.version !== 'number') {
    throw damaged(path, null);
  }
  if (found.version > VERSION) {
    throw new ArchipelagoError('unsupported-version', `${path} has format ${found.version}; this program knows up to ${VERSION}`, {
      hint: 'run a newer version of Archipelago on this store',
    });
  }
  if (found.clusterId !== clusterId) {
    throw new ArchipelagoError('conflict', `${path} belongs to cluster ${String(found.clusterId)}, not ${clusterId}`, {
      hint: 'point this node at the store of its own cluster',
    });
  }
}

function damaged(path: string, cause: unknown): ArchipelagoError {
  return new ArchipelagoError('corrupt', `${path} is not a superblock`, { cause, hint: 'restore it from another copy of the store' });
}
