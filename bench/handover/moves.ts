/** A writer at one node, while its volume leaves that node and comes back. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { volumePath } from '../../src/gateway/http/client.ts';
import type { NbdClient } from '../../src/gateway/nbd/client.ts';
import type { BenchResult } from '../main.ts';
import { figure, note, percentile } from '../support/figures.ts';
import { BLOCK_BYTES, DATA, withNbd, writeAll } from '../support/nbd.ts';
import { type BenchCluster, sleep } from '../support/processes.ts';

const SIZE = 2 ** 40;
const VOLUME_BLOCKS = SIZE / BLOCK_BYTES;
const DEPTH = 16;
const WRITE_BYTES = 4096;
/** The writer is watched for so long after `migrate` was answered, and is then left alone for so long. */
const AFTER_MS = 50;
const REST_MS = 100;
/** Without a move it is watched as long as with one, but a move that waited for the disk before the pause is not repeated in full. */
const MOST_QUIET_MS = 1000;

/** Keeps writes under way and notes when each was answered. */
class Load {
  readonly answersMs: number[] = [];
  private stopping = false;
  private readonly workers: Promise<unknown>;

  constructor(client: NbdClient, blocks: readonly number[]) {
    this.workers = Promise.all(Array.from({ length: DEPTH }, () => this.work(client, blocks)));
    // Seen by `stop`.
    this.workers.catch(() => undefined);
  }

  private async work(client: NbdClient, blocks: readonly number[]): Promise<void> {
    while (!this.stopping) {
      const block = blocks[Math.floor(Math.random() * blocks.length)] as number;
      const place = Math.floor((Math.random() * BLOCK_BYTES) / WRITE_BYTES);
      await client.write(block * BLOCK_BYTES + place * WRITE_BYTES, DATA.subarray(0, WRITE_BYTES));
      this.answersMs.push(performance.now());
    }
  }

  async stop(): Promise<void> {
    this.stopping = true;
    await this.workers;
  }

  /** The longest time without an answer that touches the given one. */
  longestGapMs(fromMs: number, toMs: number): number {
    let last = this.answersMs.findLastIndex((each) => each <= fromMs);
    let longest = 0;
    for (; last >= 0 && last + 1 < this.answersMs.length && (this.answersMs[last] as number) < toMs; last++) {
      longest = Math.max(longest, (this.answersMs[last + 1] as number) - (this.answersMs[last] as number));
    }
    return longest;
  }
}

/** What each owner and its successor say in their logs of how long each step took. */
function steps(cluster: BenchCluster): void {
  const lines = cluster.nodes.flatMap(({ name }) => readFileSync(join(cluster.directory, name, 'node.log'), 'utf8').split('\n'));
  const taken = new Map<string, number[]>();
  for (const line of lines) {
    if (!/"msg":"(handed over|serving)"/.test(line)) continue;
    for (const [step, value] of Object.entries(JSON.parse(line) as Record<string, unknown>)) {
      if (typeof value === 'number' && (step.endsWith('Ms') || step === 'unsynced')) taken.set(step, [...(taken.get(step) ?? []), value]);
    }
  }
  for (const [step, values] of taken) {
    figure(`step: ${step}, p50`, percentile(values, 50), null, step === 'unsynced' ? 'objects' : 'ms', null);
    figure(`step: ${step}, p99`, percentile(values, 99), null, step === 'unsynced' ? 'objects' : 'ms', null);
  }
}

export async function measureMoves(cluster: BenchCluster, moves: number, blockCount: number): Promise<BenchResult[]> {
  const [home, away] = cluster.nodes.map(({ name }) => name) as [string, string];
  const admin = cluster.admin(0);
  await admin.call('POST', '/v1/volumes', { name: 'moving', size: SIZE });
  await admin.call('POST', volumePath('moving', 'migrate'), { to: home });
  const blocks = Array.from({ length: blockCount }, (_, place) => Math.floor((place * VOLUME_BLOCKS) / blockCount));
  return withNbd(cluster.uri(0, 'moving'), async (client) => {
    const began = performance.now();
    await writeAll(
      client,
      blocks.map((block) => block * BLOCK_BYTES),
      WRITE_BYTES,
    );
    note(`${blockCount} blocks written in ${((performance.now() - began) / 1000).toFixed(0)} s`);
    const load = new Load(client, blocks);
    await sleep(1000);
    const pauses = { away: [] as number[], home: [] as number[] };
    const [told, quiet]: [number[], number[]] = [[], []];
    for (let move = 0; move < moves; move++) {
      const to = move % 2 === 0 ? away : home;
      const startMs = performance.now();
      const { pauseMs } = await admin.call<{ pauseMs: number }>('POST', volumePath('moving', 'migrate'), { to });
      await sleep(AFTER_MS);
      const endMs = performance.now();
      await sleep(REST_MS);
      const restMs = performance.now();
      await sleep(Math.min(endMs - startMs, MOST_QUIET_MS));
      pauses[to === home ? 'home' : 'away'].push(load.longestGapMs(startMs, endMs));
      quiet.push(load.longestGapMs(restMs, restMs + Math.min(endMs - startMs, MOST_QUIET_MS)));
      told.push(pauseMs);
    }
    await load.stop();
    steps(cluster);
    const all = [...pauses.away, ...pauses.home];
    note(`The longest time without an answer to a writer at depth ${DEPTH} over ${moves} moves, and without a move`);
    return [
      figure('pause at a move, p50', percentile(all, 50), null, 'ms', { of: 'ours', limit: 10 }),
      figure('pause at a move, p99', percentile(all, 99), null, 'ms', { of: 'ours', limit: 25 }),
      figure('pause as the volume leaves, p50', percentile(pauses.away, 50), null, 'ms', null),
      figure('pause as the volume comes home, p50', percentile(pauses.home, 50), null, 'ms', null),
      figure('no I/O admitted, as the old owner says, p50', percentile(told, 50), null, 'ms', null),
      figure('no I/O admitted, as the old owner says, p99', percentile(told, 99), null, 'ms', null),
      figure('longest time without an answer, no move, p50', percentile(quiet, 50), null, 'ms', null),
      figure('longest time without an answer, no move, p99', percentile(quiet, 99), null, 'ms', null),
    ];
  });
}
