/** Removing a volume of 100,000 blocks: how long the answer takes, and what collection gives back while others work. */

import { ArchipelagoError, Prng } from '../../src/base/index.ts';
import { volumePath } from '../../src/gateway/http/client.ts';
import type { BenchResult } from '../main.ts';
import { figure, note, percentile } from '../support/figures.ts';
import { BLOCK_BYTES, DATA, timed, withNbd, writeAll } from '../support/nbd.ts';
import type { BenchCluster } from '../support/processes.ts';

const BLOCKS = 100_000;
const FOREGROUND_BLOCKS = 64;
const WRITES = 4000;

export async function measureRemoval(cluster: BenchCluster): Promise<BenchResult[]> {
  const admin = cluster.admin(0);
  await admin.call('POST', '/v1/volumes', { name: 'large', size: BLOCKS * BLOCK_BYTES });
  const offsets = Array.from({ length: BLOCKS }, (_, index) => index * BLOCK_BYTES);
  await withNbd(cluster.uri(0, 'large'), (client) => writeAll(client, offsets, 4096));
  await admin.call('POST', '/v1/volumes', { name: 'foreground', size: FOREGROUND_BLOCKS * BLOCK_BYTES });
  return withNbd(cluster.uri(0, 'foreground'), async (client) => {
    const prng = new Prng(1);
    const write = () => client.write(prng.below(FOREGROUND_BLOCKS * 1024) * 4096, DATA.subarray(0, 4096));
    await writeAll(
      client,
      Array.from({ length: FOREGROUND_BLOCKS }, (_, index) => index * BLOCK_BYTES),
      4096,
    );
    await timed(WRITES, write);
    const alone = await timed(WRITES, write);
    const began = performance.now();
    await admin.call('DELETE', volumePath('large'));
    const answeredMs = performance.now() - began;
    note(`Removing a volume of ${BLOCKS} blocks of 4 KiB`);
    const results = [figure('volume rm, until it is answered', answeredMs, null, 'ms', { of: 'ours', limit: 100 })];
    const collection = admin.call<{ freedBytes: number; freedObjects: number }>('POST', '/v1/gc').then(
      (freed) => freed,
      (error: unknown) => ArchipelagoError.from(error, 'collection'),
    );
    let ended = false;
    void collection.then(() => (ended = true));
    const beside: number[] = [];
    while (!ended) beside.push(...(await timed(100, write)));
    const freed = await collection;
    if (freed instanceof ArchipelagoError) {
      note(`  no collection: ${freed.message}`);
      return results;
    }
    results.push(
      figure('collection, objects left of those removed', Math.max(0, BLOCKS - freed.freedObjects), null, 'objects', { of: 'ours', limit: 0 }),
    );
    results.push(figure('foreground write beside collection, p99', percentile(beside, 99), percentile(alone, 99), 'ms', { of: 'ratio', limit: 1.2 }));
    return results;
  });
}
