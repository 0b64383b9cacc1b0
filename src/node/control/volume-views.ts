/** Volumes as the admin API shows them: what the registry says, with what the nodes know of those that are open. */
import type { VolumeId } from '../../base/index.ts';
import type { CollectionView, VolumeView } from '../../gateway/index.ts';
import type { CollectionProgress, CollectionRecord, VolumeRecord } from '../../mapper/index.ts';
import type { Registry } from '../../mapper/registry/index.ts';
import type { VolumeStats } from '../../volume/index.ts';

/** What all nodes that answered know, added up by volume. */
export type GatheredStats = ReadonlyMap<VolumeId, { clients: number; blocks: number | null }>;

export function gatherStats(answers: readonly (readonly VolumeStats[])[]): GatheredStats {
  const gathered = new Map<VolumeId, { clients: number; blocks: number | null }>();
  for (const { id, clients, blocks } of answers.flat()) {
    const sum = gathered.get(id) ?? { clients: 0, blocks: null };
    sum.clients += clients;
    // A volume's map is open at its owner alone; a snapshot's is the same wherever it is.
    sum.blocks ??= blocks;
    gathered.set(id, sum);
  }
  return gathered;
}

export function volumeView(registry: Registry, record: VolumeRecord, stats: GatheredStats): VolumeView {
  const known = stats.get(record.id);
  const blocks = record.kind === 'snapshot' ? (record.root?.blocks ?? 0) : (known?.blocks ?? record.root?.blocks ?? 0);
  return {
    name: record.name,
    id: String(record.id),
    kind: record.kind,
    size: record.sizeBytes,
    blockSize: record.blockSizeBytes,
    origin: registry.originName(record),
    owner: record.owner && { node: record.owner.node, epoch: String(record.owner.epoch) },
    clients: known?.clients ?? 0,
    allocatedBytes: Math.min(blocks * record.blockSizeBytes, Math.ceil(record.sizeBytes / record.blockSizeBytes) * record.blockSizeBytes),
    createdAt: record.createdAt,
    labels: { ...record.labels },
  };
}

/** `progress` is null where the node does not answer; it may be of an older cycle, if that node has not heard of the newer one. */
export function collectionView(
  running: CollectionRecord['running'],
  progress: CollectionProgress | null,
  last: CollectionRecord['last'],
  totals: CollectionRecord['totals'],
): CollectionView {
  const known = running !== null && progress?.cycle === running.cycle ? progress : null;
  return {
    running: running && {
      cycle: running.cycle,
      node: running.node,
      startedAt: running.startedAt,
      phase: known?.phase ?? 'unknown',
      pass: known?.pass ?? 0,
      volumesRead: known?.volumesRead ?? 0,
      volumes: known?.volumes ?? 0,
      pagesRead: known?.pagesRead ?? 0,
      listed: known?.listed ?? 0,
      freedBytes: known?.freedBytes ?? 0,
      freedObjects: known?.freedObjects ?? 0,
    },
    last,
    cycles: totals.cycles,
    freedBytes: totals.freedBytes,
    freedObjects: totals.freedObjects,
  };
}
