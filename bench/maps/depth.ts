/** Random reads of a clone of a clone, a thousand times over, beside a clone of the origin. */
import { join } from 'node:path';
import { Prng } from '../../src/base/index.ts';
import { volumePath } from '../../src/gateway/http/client.ts';
import type { NbdClient } from '../../src/gateway/nbd/client.ts';
import type { BenchResult } from '../main.ts';
import { figure, middlePair, note, type Pair, percentile } from '../support/figures.ts';
import { BLOCK_BYTES, SUB_BLOCK_BYTES, timed, withNbd, writeAll } from '../support/nbd.ts';
import { type BenchCluster, median, run } from '../support/processes.ts';
import { withQcow2 } from '../support/qcow2.ts';

const PEER_DEPTH = 50;
/** Every so many clones one writes a sub-block, so that the chain is one of differing disks. */
const WRITE_EVERY = 20;
const BLOCKS = 256;
const SIZE = BLOCKS * BLOCK_BYTES;
const OFFSETS = Array.from({ length: BLOCKS }, (_, index) => index * BLOCK_BYTES);
const PAIRS = 7;
const READS = 2000;

export async function measureDepth(directory: string, cluster: BenchCluster, depth: number): Promise<BenchResult[]> {
  const ours = await chainOfClones(cluster, depth);
  const peer = await chainOfOverlays(directory);
  note(`4 KiB random reads at clone depth ${depth}, median of ${PAIRS} pairs; peer: qcow2 at depth ${PEER_DEPTH}, each beside its own depth 1`);
  return [
    figure(`read at depth ${depth}, p50 beside depth 1`, ours.p50.ours, ours.p50.peer, 'ms', { of: 'ratio', limit: 1.1 }),
    figure(`read at depth ${depth}, p99 beside depth 1`, ours.p99.ours, ours.p99.peer, 'ms', { of: 'ratio', limit: 1.25 }),
    figure(`qcow2 at depth ${PEER_DEPTH}, p50 beside depth 1`, peer.p50.ours, peer.p50.peer, 'ms', null),
    figure(`qcow2 at depth ${PEER_DEPTH}, p99 beside depth 1`, peer.p99.ours, peer.p99.peer, 'ms', null),
    figure(`read at depth ${depth}, p50 beside qcow2 at ${PEER_DEPTH}`, ours.p50.ours, peer.p50.ours, 'ms', null),
  ];
}

async function chainOfClones(cluster: BenchCluster, levels: number): Promise<Pairs> {
  const admin = cluster.admin(0);
  await admin.call('POST', '/v1/volumes', { name: 'depth 0', size: SIZE });
  await withNbd(cluster.uri(0, 'depth 0'), (client) => writeAll(client, OFFSETS, SUB_BLOCK_BYTES));
  for (let depth = 1; depth <= levels; depth++) {
    const snapshot = `snapshot ${depth}`;
    await admin.call('POST', volumePath(`depth ${depth - 1}`, 'snapshot'), { name: snapshot });
    const name = `depth ${depth}`;
    await admin.call('POST', `/v1/snapshots/${encodeURIComponent(snapshot)}/clone`, { name });
    if (depth % WRITE_EVERY === 0)
      await withNbd(cluster.uri(0, name), (client) => writeAll(client, [OFFSETS[depth % BLOCKS] as number], SUB_BLOCK_BYTES));
  }
  return withNbd(cluster.uri(0, 'depth 1'), (flat) => withNbd(cluster.uri(0, `depth ${levels}`), (deep) => pairs(flat, deep)));
}

async function chainOfOverlays(directory: string): Promise<Pairs> {
  const name = (depth: number) => join(directory, `depth-${depth}.qcow2`);
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', name(0), String(SIZE)]);
  await withQcow2(name(0), (client) => writeAll(client, OFFSETS, SUB_BLOCK_BYTES));
  const overlay = (image: string, backing: string) => run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', backing, '-F', 'qcow2', image]);
  for (let depth = 1; depth <= PEER_DEPTH; depth++) await overlay(name(depth), name(depth - 1));
  // Beside the chain: what a qemu-nbd may write to, no other opens.
  const beside = join(directory, 'beside.qcow2');
  await overlay(beside, name(0));
  return withQcow2(beside, (flat) => withQcow2(name(PEER_DEPTH), (deep) => pairs(flat, deep)));
}

interface Pairs {
  readonly p50: Pair;
  readonly p99: Pair;
}

/** Ours is the deep one, its peer the flat one; of `PAIRS` times each, in turns. */
async function pairs(flat: NbdClient, deep: NbdClient): Promise<Pairs> {
  const prng = new Prng(1);
  const read = (client: NbdClient) =>
    timed(READS, () => client.read((OFFSETS[prng.below(BLOCKS)] as number) + 4096 * prng.below(SUB_BLOCK_BYTES / 4096), 4096));
  await read(flat);
  await read(deep);
  const [p50, p99]: [Pair[], Pair[]] = [[], []];
  for (let pair = 0; pair < PAIRS; pair++) {
    const first = await read(pair % 2 === 0 ? flat : deep);
    const second = await read(pair % 2 === 0 ? deep : flat);
    const [a, b] = pair % 2 === 0 ? [first, second] : [second, first];
    p50.push({ ours: median(b), peer: median(a) });
    p99.push({ ours: percentile(b, 99), peer: percentile(a, 99) });
  }
  return { p50: middlePair(p50), p99: middlePair(p99) };
}
