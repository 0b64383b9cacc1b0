/** What one sync of a volume has to make durable. */
import { open } from 'node:fs/promises';
import { hex16 } from '../../base/index.ts';
import { ObjectNames } from '../object-names.ts';
import { objectPath } from './layout.ts';
import { type ObjectFile, syncByName } from './object-file.ts';
import type { FileStoreParts } from './parts.ts';
import { forEachBounded } from './rounds.ts';

export class PendingSync {
  readonly objects = new Set<ObjectFile>();
  /** Left by the owner before, and not written to here since. Names alone, taken as they come: there may be many, and a guest waits for a handover. */
  adopted = new ObjectNames();
  /** Paths of pages. */
  readonly pages = new Set<string>();
  /** Paths of directories that got new entries. */
  readonly directories = new Set<string>();
  private lastGeneration = -1;

  /** An entry was added to the directory of a generation, and perhaps that directory itself. */
  addGeneration(parent: string, generation: number): void {
    // The paths are built once for a run of new objects.
    if (generation === this.lastGeneration && this.directories.has(parent)) return;
    this.lastGeneration = generation;
    this.directories.add(parent).add(`${parent}/${hex16(generation)}`);
  }
}

/** Data first, then the entries that name it: a claim may give a name to another file while its data is being synced. */
export async function syncPending(parts: FileStoreParts, batch: PendingSync): Promise<void> {
  await forEachBounded(filesOf(parts, batch), parts.syncParallelism, (sync) => sync());
  await forEachBounded(batch.directories, parts.syncParallelism, (path) => syncDirectory(parts, path));
}

/** Objects that are removed meanwhile are left out. */
function* filesOf(parts: FileStoreParts, batch: PendingSync): Iterable<() => Promise<void>> {
  for (const file of batch.objects) yield () => file.makeDurable();
  for (const { generation, index } of batch.adopted) yield () => syncByName(parts, objectPath(parts.directory, generation, index));
  for (const path of batch.pages) yield () => syncPage(parts, path);
}

async function syncDirectory(parts: FileStoreParts, path: string): Promise<void> {
  try {
    await parts.durability.directory(path);
  } catch (error) {
    // An object that was handed over as unsynced and is gone with its whole generation.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

async function syncPage(parts: FileStoreParts, path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await parts.durability.data(file.fd, path);
  } finally {
    await file.close();
  }
}
