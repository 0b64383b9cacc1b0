/** What the admin API answers, for eyes. */
import type { CheckView, ClusterView, MigrationView, VolumeView } from '../admin.ts';
import { sheet, table } from './output.ts';
import { formatSize } from './sizes.ts';

const NOTHING = '-';

export function volumeTable(volumes: readonly VolumeView[]): string {
  if (volumes.length === 0) return 'No volumes. Make one with `archipelago volume create NAME --size 10G`.';
  const rows = volumes.map((volume) => [
    volume.name,
    volume.kind,
    formatSize(volume.size),
    formatSize(volume.allocatedBytes),
    volume.owner?.node ?? NOTHING,
    String(volume.clients),
    volume.origin ?? NOTHING,
    labelsText(volume) || NOTHING,
  ]);
  return table(['NAME', 'KIND', 'SIZE', 'ALLOCATED', 'OWNER', 'CLIENTS', 'ORIGIN', 'LABELS'], rows, ['SIZE', 'ALLOCATED', 'CLIENTS']);
}

export function volumeSheet(volume: VolumeView): string {
  return sheet([
    ['name', volume.name],
    ['id', volume.id],
    ['kind', volume.kind],
    ['size', exactSize(volume.size)],
    ['block size', formatSize(volume.blockSize)],
    ['allocated', exactSize(volume.allocatedBytes)],
    ['origin', volume.origin ?? NOTHING],
    ['owner', volume.owner === null ? NOTHING : `${volume.owner.node}, epoch ${volume.owner.epoch}`],
    ['clients', String(volume.clients)],
    ['created', volume.createdAt],
    ['labels', labelsText(volume) || NOTHING],
  ]);
}

export function volumeLine(verb: string, volume: VolumeView): string {
  return `${verb} ${volume.kind} '${volume.name}', ${formatSize(volume.size)}.`;
}

export function migrationLine({ name, from, to, epoch, pauseMs }: MigrationView): string {
  return `'${name}' moved from ${from} to ${to}, epoch ${epoch}; it admitted no I/O for ${pauseMs.toFixed(1)} ms.`;
}

export function checkReport({ name, ok, blocks, pages, problems }: CheckView): string {
  const read = `${blocks} blocks and ${pages} pages read`;
  return ok ? `'${name}' is sound: ${read}.` : [`'${name}' is damaged (${read}):`, ...problems.map((problem) => `  ${problem}`)].join('\n');
}

export function clusterReport({ leader, term, quorum, nodes, volumes, store }: ClusterView): string {
  const available = store.availableBytes === null ? '' : `, ${formatSize(store.availableBytes)} available`;
  const head = sheet([
    ['quorum', quorum ? 'yes' : 'NO: volumes cannot be made, changed or moved until more nodes are up'],
    ['leader', leader === null ? 'none known' : `${leader}, term ${term}`],
    ['volumes', String(volumes)],
    ['store', `${store.kind} ${store.location}`.trimEnd()],
    ['', `${formatSize(store.usedBytes)} used${available}`],
  ]).replace(/^: +/gm, (colon) => ' '.repeat(colon.length));
  const rows = nodes.map((node) => [
    node.name,
    node.role,
    node.up ? 'yes' : 'NO',
    node.lease ? 'yes' : 'NO',
    String(node.volumes),
    node.version,
    [node.pids.control, ...node.pids.data].filter((pid) => pid !== null).join(' ') || NOTHING,
    node.peerId,
  ]);
  return `${head}\n\n${table(['NODE', 'ROLE', 'UP', 'LEASE', 'VOLUMES', 'VERSION', 'PIDS', 'PEER ID'], rows, ['VOLUMES'])}`;
}

function exactSize(bytes: number): string {
  return bytes < 1000 ? `${bytes} bytes` : `${formatSize(bytes)} (${bytes} bytes)`;
}

function labelsText({ labels }: VolumeView): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(' ');
}
