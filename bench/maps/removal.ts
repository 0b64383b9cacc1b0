/**
 * Removing a volume of 100,000 blocks: how long the answer takes, what collection gives back, and what a guest's writes feel of it.
 *
 * For the last, volumes of a few thousand blocks are removed one after the other. While the collection of one runs, a guest writes, and
 * just before, or just after, as long again without it.
 */
import { join } from 'node:path';
import { Prng } from '../../src/base/index.ts';
import { type AdminClient, volumePath } from '../../src/gateway/http/client.ts';
import type { NbdClient } from '../../src/gateway/nbd/client.ts';
import type { BenchResult } from '../main.ts';
import { figure, middlePair, note, type Pair, percentile } from '../support/figures.ts';
import { BLOCK_BYTES, DATA, SUB_BLOCK_BYTES, timed, withNbd, writeAll } from '../support/nbd.ts';
import { type BenchCluster, median, sleep } from '../support/processes.ts';
import { roomOf } from '../support/room.ts';

/** Written whole before, so that it takes no more room later. */
const FOREGROUND_BYTES = 16 << 20;
/** Of the volumes whose collections are compared with a time without one: at the default rate each takes some seconds. */
const PAIR_BLOCKS = 3000;
const PAIRS = 7;
/** Written between two looks at whether a window is over. */
const WRITES = 50;

export async function measureRemoval(cluster: BenchCluster, blocks: number): Promise<BenchResult[]> {
  const admin = cluster.admin(0);
  await admin.call('POST', '/v1/volumes', { name: 'foreground', size: FOREGROUND_BYTES });
  const store = join(cluster.directory, 'store/blocks');
  return withNbd(cluster.uri(0, 'foreground'), async (client) => {
    const foreground = new Foreground(client);
    await foreground.prepare();
    const before = roomOf(store);
    await fill(cluster, blocks);
    const written = roomOf(store) - before;
    note(`Removing a volume of ${blocks} blocks of 4 KiB`);
    const largeMs = await removal(admin);
    await collect(admin);
    const left = Math.max(0, roomOf(store) - before);

    const [pairs, smallMs]: [Pair[], number[]] = [[], []];
    let lastMs = 0;
    for (let pair = 0; pair < PAIRS; pair++) {
      await fill(cluster, PAIR_BLOCKS);
      // As long as the collection before: the first one is not known yet, and its window without comes after it.
      const aloneBefore = pair % 2 === 1 ? await foreground.during(sleep(lastMs)) : null;
      smallMs.push(await removal(admin));
      const began = performance.now();
      const beside = await foreground.during(collect(admin));
      lastMs = performance.now() - began;
      const alone = aloneBefore ?? (await foreground.during(sleep(lastMs)));
      pairs.push({ ours: percentile(beside, 99), peer: percentile(alone, 99) });
    }
    const { ours, peer } = middlePair(pairs);
    return [
      figure('volume rm, until it is answered', largeMs, median(smallMs), 'ms', { of: 'ours', limit: 100 }),
      figure('space of the volume that collection gave back', (100 * (written - left)) / written, null, '%', null),
      figure('space of the volume that is left after collection', left / 1024, null, 'KiB', { of: 'ours', limit: 0 }),
      figure(`foreground write beside collection, p99, middle of ${PAIRS} pairs`, ours, peer, 'ms', { of: 'ratio', limit: 1.2 }),
    ];
  });
}

/** A guest that overwrites, one write after the other. */
class Foreground {
  private readonly client: NbdClient;
  private readonly prng = new Prng(1);

  constructor(client: NbdClient) {
    this.client = client;
  }

  async prepare(): Promise<void> {
    const whole = Array.from({ length: FOREGROUND_BYTES / SUB_BLOCK_BYTES }, (_, place) => place * SUB_BLOCK_BYTES);
    await writeAll(this.client, whole, SUB_BLOCK_BYTES);
    await this.writes(80 * WRITES);
  }

  /** Milliseconds of each write until `work` has ended. */
  async during(work: Promise<unknown>): Promise<number[]> {
    let ended = false;
    const watched = work.finally(() => {
      ended = true;
    });
    const times: number[] = [];
    while (!ended) times.push(...(await this.writes(WRITES)));
    await watched;
    return times;
  }

  private writes(count: number): Promise<number[]> {
    return timed(count, () => this.client.write(this.prng.below(FOREGROUND_BYTES / 4096) * 4096, DATA.subarray(0, 4096)));
  }
}

async function fill(cluster: BenchCluster, blocks: number): Promise<void> {
  await cluster.admin(0).call('POST', '/v1/volumes', { name: 'removed', size: blocks * BLOCK_BYTES });
  const offsets = Array.from({ length: blocks }, (_, index) => index * BLOCK_BYTES);
  await withNbd(cluster.uri(0, 'removed'), (client) => writeAll(client, offsets, 4096));
}

/** How long it takes until it is answered. */
async function removal(admin: AdminClient): Promise<number> {
  const began = performance.now();
  await admin.call('DELETE', volumePath('removed'));
  return performance.now() - began;
}

async function collect(admin: AdminClient): Promise<void> {
  const { cycle } = await admin.call<{ cycle: number }>('POST', '/v1/gc');
  for (;;) {
    const { last } = await admin.call<{ last: { cycle: number; error: unknown } | null }>('GET', '/v1/gc');
    if (last !== null && last.cycle >= cycle) {
      if (last.error !== null) throw new Error(`collection failed: ${JSON.stringify(last.error)}`);
      return;
    }
    await sleep(250);
  }
}
