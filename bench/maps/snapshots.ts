/** Snapshot and clone through the admin API at three sizes, with 10,000 blocks written in each, in order and spread over the size. */

import { Prng } from '../../src/base/index.ts';
import { volumePath } from '../../src/gateway/http/client.ts';
import type { BenchResult } from '../main.ts';
import { figure, middlePair, note } from '../support/figures.ts';
import { BLOCK_BYTES, withNbd, writeAll } from '../support/nbd.ts';
import { type BenchCluster, median } from '../support/processes.ts';

const SIZES = [
  ['64 GiB', 64 * 2 ** 30],
  ['1 TiB', 2 ** 40],
  ['1 PiB', 2 ** 50],
] as const;
const BLOCKS = 10_000;
const ROUNDS = 11;
const ALLOWED_MS = 20;

interface Measured {
  readonly name: string;
  readonly size: string;
  readonly layout: string;
  readonly offsets: readonly number[];
  readonly snapshotMs: number[];
  readonly cloneMs: number[];
}

export async function measureSnapshots(cluster: BenchCluster): Promise<BenchResult[]> {
  const admin = cluster.admin(0);
  const volumes: Measured[] = [];
  for (const [size, bytes] of SIZES) {
    for (const layout of ['in order', 'spread']) {
      const name = `${size} ${layout}`;
      const step = layout === 'spread' ? bytes / BLOCK_BYTES / BLOCKS : 1;
      const offsets = Array.from({ length: BLOCKS }, (_, place) => Math.floor(place * step) * BLOCK_BYTES);
      await admin.call('POST', '/v1/volumes', { name, size: bytes });
      await withNbd(cluster.uri(0, name), (client) => writeAll(client, offsets, 512));
      volumes.push({ name, size, layout, offsets, snapshotMs: [], cloneMs: [] });
    }
  }
  const prng = new Prng(1);
  // In turns, so that what else the machine does meets all alike. The first round, which finds 10,000 blocks changed, is not counted.
  for (let round = 0; round <= ROUNDS; round++) {
    for (const volume of volumes) {
      const offset = volume.offsets[prng.below(BLOCKS)] as number;
      await withNbd(cluster.uri(0, volume.name), (client) => writeAll(client, [offset], 4096));
      const snapshot = `${volume.name} ${round}`;
      const [began, made] = [
        performance.now(),
        await admin.call('POST', volumePath(volume.name, 'snapshot'), { name: snapshot }).then(() => performance.now()),
      ];
      await admin.call('POST', `/v1/snapshots/${encodeURIComponent(snapshot)}/clone`, { name: `${snapshot} clone` });
      if (round === 0) continue;
      volume.snapshotMs.push(made - began);
      volume.cloneMs.push(performance.now() - made);
    }
  }
  note('Snapshot and clone, three nodes, 10,000 blocks written; the ratio is to 64 GiB, in the same round');
  return volumes.flatMap((volume) => [...figuresOf(volume, volumes, 'snapshot', 'snapshotMs'), ...figuresOf(volume, volumes, 'clone', 'cloneMs')]);
}

function figuresOf(volume: Measured, all: readonly Measured[], what: string, times: 'snapshotMs' | 'cloneMs'): BenchResult[] {
  const { size, layout } = volume;
  const smallest = all.find((other) => other.size === SIZES[0][0] && other.layout === layout) as Measured;
  const name = `${what}, ${size}, ${layout}`;
  const results = [figure(`${name}, p50`, median(volume[times]), null, 'ms', { of: 'ours', limit: ALLOWED_MS })];
  if (volume === smallest) return results;
  const { ours, peer } = middlePair(volume[times].map((ours, round) => ({ ours, peer: smallest[times][round] as number })));
  return [...results, figure(`${name}, beside 64 GiB`, ours, peer, 'ms', { of: 'ratio', limit: 1.2 })];
}
