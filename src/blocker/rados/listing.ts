/** Names in the pools, for collection. librados lists a pool in the order of its hashes, so names come in no order of ours. */
import type { Generation, VolumeId } from '../../base/index.ts';
import { LIST_BATCH } from '../batches.ts';
import type { CollectedKind, ObjectName, Removed } from '../store.ts';
import { BLOCK, BLOCKS_POOL, MAPS_POOL, PAGE } from './binding.ts';
import type { RadosClient } from './client.ts';
import { MISSING, radosError } from './errors.ts';
import { removeObject } from './volume-log.ts';

/** Removals under way at a time. */
const PARALLEL = 16;

let lastListing = 0;

const OBJECT_NAME = /^block\.([0-9a-f]{16})\.([0-9a-f]{8,})$/;
const PAGE_NAME = /^page\.([0-9a-f]{16})\.([0-9a-f]{16})$/;
const LOG_NAME = /^(?:header\.([0-9a-f]{16})|journal\.([0-9a-f]{16})\.[0-9a-f]{8})$/;

export async function* listNames(
  client: RadosClient,
  kind: CollectedKind,
  wanted: (generation: Generation) => boolean,
): AsyncGenerator<readonly ObjectName[]> {
  const [pool, pattern] = kind === 'object' ? [BLOCKS_POOL, OBJECT_NAME] : [MAPS_POOL, PAGE_NAME];
  for await (const lines of batchesOf(client, pool)) {
    const names: ObjectName[] = [];
    for (const line of lines) {
      const found = pattern.exec(line);
      const generation = Number.parseInt(found?.[1] ?? '0', 16) as Generation;
      if (found && wanted(generation)) names.push({ generation, index: Number.parseInt(found[2] as string, 16) });
    }
    if (names.length > 0) yield names;
  }
}

/** A volume comes once for each object of its log in a batch. */
export async function* listLogs(client: RadosClient): AsyncGenerator<readonly VolumeId[]> {
  for await (const lines of batchesOf(client, MAPS_POOL)) {
    const volumes = new Set<VolumeId>();
    for (const line of lines) {
      const found = LOG_NAME.exec(line);
      if (found) volumes.add(Number.parseInt(found[1] ?? (found[2] as string), 16) as VolumeId);
    }
    if (volumes.size > 0) yield [...volumes];
  }
}

async function* batchesOf(client: RadosClient, pool: number): AsyncGenerator<string[]> {
  const listing = ++lastListing;
  let ended = false;
  try {
    while (!ended) {
      const { result, text } = await client.call((cluster, slot, binding) => binding.list(cluster, slot, pool, listing, LIST_BATCH));
      if (result < 0) throw radosError(result, 'listing a pool');
      ended = result < LIST_BATCH;
      yield text.split('\n').filter(Boolean);
    }
  } finally {
    if (!ended) await client.call((cluster, slot, binding) => binding.list(cluster, slot, pool, listing, 0));
  }
}

/** The room that an object took up is told by its size: RADOS does not say how much of it is there. */
export async function removeNames(client: RadosClient, kind: CollectedKind, names: readonly ObjectName[]): Promise<Removed> {
  const type = kind === 'object' ? BLOCK : PAGE;
  let count = 0;
  let bytes = 0;
  const removeOne = async ({ generation, index }: ObjectName): Promise<void> => {
    const { result } = await client.call((cluster, slot, binding) => binding.stat(cluster, slot, type, generation, index));
    if (result === MISSING) return;
    if (result < 0) throw radosError(result, `looking for ${kind} ${generation}/${index}`);
    if (!(await removeObject(client, type, generation, index))) return;
    count++;
    bytes += result;
  };
  for (let at = 0; at < names.length; at += PARALLEL) await Promise.all(names.slice(at, at + PARALLEL).map(removeOne));
  return { count, bytes };
}
