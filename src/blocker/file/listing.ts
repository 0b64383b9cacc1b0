/** Lists and removes objects and pages in a directory, for collection. */
import type { Dirent } from 'node:fs';
import { opendir, rmdir, stat, unlink } from 'node:fs/promises';
import { ArchipelagoError, type Generation, hex16, type VolumeId } from '../../base/index.ts';
import { LIST_BATCH } from '../batches.ts';
import type { CollectedKind, ObjectName, Removed } from '../store.ts';
import { BLOCKS, objectPath, PAGES, pagePath, VOLUMES } from './layout.ts';

const UNIT_BYTES = 512;
const DIRECTORIES = { object: BLOCKS, page: PAGES } as const;
/** Other files may lie beside them: what is being made has other names. */
const NAMES = { object: /^[0-9a-f]{8,16}$/, page: /^[0-9a-f]{16}$/ } as const;
const GENERATION = /^[0-9a-f]{16}$/;

export async function* listNames(
  directory: string,
  kind: CollectedKind,
  wanted: (generation: Generation) => boolean,
): AsyncGenerator<readonly ObjectName[]> {
  const parent = `${directory}/${DIRECTORIES[kind]}`;
  for await (const { name } of entries(parent)) {
    const generation = Number.parseInt(name, 16) as Generation;
    if (!GENERATION.test(name) || !wanted(generation)) continue;
    yield* inBatches(entries(`${parent}/${name}`), (file) => (NAMES[kind].test(file) ? { generation, index: Number.parseInt(file, 16) } : null));
  }
}

export function listLogNames(directory: string): AsyncGenerator<readonly VolumeId[]> {
  return inBatches(entries(`${directory}/${VOLUMES}`), (name) => (GENERATION.test(name) ? (Number.parseInt(name, 16) as VolumeId) : null));
}

/** One after the other: libuv's few threads are for guests. */
export async function removeNames(directory: string, kind: CollectedKind, names: readonly ObjectName[]): Promise<Removed> {
  let count = 0;
  let bytes = 0;
  const generations = new Set<number>();
  for (const { generation, index } of names) {
    const path = kind === 'object' ? objectPath(directory, generation, index) : pagePath(directory, generation, index);
    try {
      const { blocks } = await stat(path);
      await unlink(path);
      count++;
      bytes += blocks * UNIT_BYTES;
      generations.add(generation);
    } catch (error) {
      if (!isCode(error, 'ENOENT')) throw ArchipelagoError.from(error, `removing ${path}`);
    }
  }
  for (const generation of generations) await removeIfEmpty(`${directory}/${DIRECTORIES[kind]}/${hex16(generation)}`);
  return { count, bytes };
}

async function removeIfEmpty(path: string): Promise<void> {
  try {
    await rmdir(path);
  } catch (error) {
    // Something is left in it, or another collector was faster.
    if (!isCode(error, 'ENOTEMPTY') && !isCode(error, 'EEXIST') && !isCode(error, 'ENOENT')) throw ArchipelagoError.from(error, `removing ${path}`);
  }
}

/** A directory that is not there any more has no entries. */
async function* entries(path: string): AsyncGenerator<Dirent> {
  try {
    for await (const entry of await opendir(path, { bufferSize: LIST_BATCH })) yield entry;
  } catch (error) {
    if (!isCode(error, 'ENOENT')) throw ArchipelagoError.from(error, `listing ${path}`);
  }
}

async function* inBatches<Item>(from: AsyncIterable<Dirent>, itemOf: (name: string) => Item | null): AsyncGenerator<Item[]> {
  let batch: Item[] = [];
  for await (const { name } of from) {
    const item = itemOf(name);
    if (item === null) continue;
    batch.push(item);
    if (batch.length < LIST_BATCH) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

function isCode(error: unknown, code: string): boolean {
  return (error as NodeJS.ErrnoException | null)?.code === code;
}
