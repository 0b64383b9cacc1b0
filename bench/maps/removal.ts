/** Removing a volume of 100,000 blocks: how long the answer takes, and what collection gives back while others work. */
import { join } from 'node:path';
import { Prng } from '../../src/base/index.ts';
import { type AdminClient, volumePath } from '../../src/gateway/http/client.ts';
import type { BenchResult } from '../main.ts';
import { figure, note, percentile } from '../support/figures.ts';
import { BLOCK_BYTES, DATA, SUB_BLOCK_BYTES, timed, withNbd, writeAll } from '../support/nbd.ts';
import { type BenchCluster, sleep } from '../support/processes.ts';
import { roomOf } from '../support/room.ts';

/** Written whole before, so that it takes no more room later. */
const FOREGROUND_BYTES = 16 << 20;
const WRITES = 4000;

export async function measureRemoval(cluster: BenchCluster, blocks: number): Promise<BenchResult[]> {
  const admin = cluster.admin(0);
  await admin.call('POST', '/v1/volumes', { name: 'foreground', size: FOREGROUND_BYTES });
  return withNbd(cluster.uri(0, 'foreground'), async (client) => {
    const prng = new Prng(1);
    const write = () => client.write(prng.below(FOREGROUND_BYTES / 4096) * 4096, DATA.subarray(0, 4096));
    const whole = Array.from({ length: FOREGROUND_BYTES / SUB_BLOCK_BYTES }, (_, place) => place * SUB_BLOCK_BYTES);
    await writeAll(client, whole, SUB_BLOCK_BYTES);
    await timed(WRITES, write);
    // What other cases have left to collect is not this one's.
    await collect(admin);
    const before = roomOf(join(cluster.directory, 'store/blocks'));
    await admin.call('POST', '/v1/volumes', { name: 'large', size: blocks * BLOCK_BYTES });
    const offsets = Array.from({ length: blocks }, (_, index) => index * BLOCK_BYTES);
    await withNbd(cluster.uri(0, 'large'), (large) => writeAll(large, offsets, 4096));
    const alone = await timed(WRITES, write);
    const began = performance.now();
    await admin.call('DELETE', volumePath('large'));
    const answeredMs = performance.now() - began;
    note(`Removing a volume of ${blocks} blocks of 4 KiB`);
    const results = [figure('volume rm, until it is answered', answeredMs, null, 'ms', { of: 'ours', limit: 100 })];
    const collection = collect(admin);
    let ended = false;
    void collection.then(() => {
      ended = true;
    });
    const beside: number[] = [];
    while (!ended) beside.push(...(await timed(100, write)));
    await collection;
    const left = roomOf(join(cluster.directory, 'store/blocks')) - before;
    results.push(figure('space of the volume that is left after collection', Math.max(0, left) / 1024, null, 'KiB', { of: 'ours', limit: 0 }));
    results.push(figure('foreground write beside collection, p99', percentile(beside, 99), percentile(alone, 99), 'ms', { of: 'ratio', limit: 1.2 }));
    return results;
  });
}

async function collect(admin: AdminClient): Promise<void> {
  const { cycle } = await admin.call<{ cycle: number }>('POST', '/v1/gc');
  for (;;) {
    const { last } = await admin.call<{ last: { cycle: number; error: unknown } | null }>('GET', '/v1/gc');
    if (last !== null && last.cycle >= cycle) {
      if (last.error !== null) throw new Error(`collection failed: ${JSON.stringify(last.error)}`);
      return;
    }
    await sleep(100);
  }
}
