/** The owner of a volume is killed: how long a writer at another node waits. */
import { eventually } from '../../chaos/process/wait.ts';
import { NbdClient } from '../../src/gateway/nbd/client.ts';
import type { BenchResult } from '../main.ts';
import { figure, note, percentile } from '../support/figures.ts';
import { BLOCK_BYTES, DATA } from '../support/nbd.ts';
import type { Turns } from './turns.ts';
import { HOME, type World } from './world.ts';

const VOLUME = 'taken';
const SIZE = '64M';
const BLOCKS = 16;
const WRITE_BYTES = 4096;
const LIMIT_MS = 5000;
const PATIENCE_MS = 120_000;
/** Where the writer is. */
const ELSEWHERE = 'n2';

/** Writes to one block after the other, one write at a time, and notes when each was answered. */
class Writer {
  readonly answersMs: number[] = [performance.now()];
  private stopping = false;
  private readonly work: Promise<void>;

  constructor(client: NbdClient) {
    this.work = this.write(client);
    // Seen by `progress` and `stop`.
    this.work.catch(() => undefined);
  }

  private async write(client: NbdClient): Promise<void> {
    for (let turn = 0; !this.stopping; turn++) {
      await client.write((turn % BLOCKS) * BLOCK_BYTES, DATA.subarray(0, WRITE_BYTES));
      this.answersMs.push(performance.now());
    }
  }

  async progress(answers: number): Promise<void> {
    const goal = this.answersMs.length + answers;
    const going = eventually('the writer goes on', () => this.answersMs.length >= goal, PATIENCE_MS);
    await Promise.race([going, this.work]);
  }

  /** The longest time between two answers of which the later one came after `fromMs`. */
  longestGapMs(fromMs: number): number {
    const gaps = this.answersMs.map((at, place) => (at > fromMs && place > 0 ? at - (this.answersMs[place - 1] as number) : 0));
    return gaps.reduce((longest, gap) => Math.max(longest, gap), 0);
  }

  async stop(): Promise<void> {
    this.stopping = true;
    await this.work;
  }
}

export async function measureTakeover(world: World, { runs }: Turns): Promise<BenchResult[]> {
  const waits: number[] = [];
  await world.volume(VOLUME, SIZE);
  const client = await NbdClient.connect(world.cluster.uri(VOLUME, ELSEWHERE), { signal: world.signal });
  const writer = new Writer(client);
  for (let run = 0; run < runs; run++) waits.push(await takeOver(world, writer, run % 2 === 0));
  await writer.stop();
  await client.close();
  const peer = await peerMs(world);
  note(`SIGKILL of the owner, ${runs} times, in half of them it led the cluster; RBD: qemu-nbd with the image's lock is killed, once`);
  return [
    figure('write at another node after the death of the owner, p50', percentile(waits, 50), peer, 'ms', null),
    figure('write at another node after the death of the owner, p99', percentile(waits, 99), peer, 'ms', { of: 'ours', limit: LIMIT_MS }),
  ];
}

async function takeOver({ cluster, signal }: World, writer: Writer, leads: boolean): Promise<number> {
  signal.throwIfAborted();
  if ((await cluster.owner(VOLUME)) !== HOME) await cluster.migrate(VOLUME, HOME);
  const leader = leads ? HOME : ELSEWHERE;
  if ((await cluster.leader(ELSEWHERE)) !== leader) await cluster.json('cluster', 'transfer-leader', leader);
  await eventually(`${leader} leads`, async () => (await cluster.leader(ELSEWHERE)) === leader);
  // All blocks are the owner's before it dies, and are there to be claimed.
  await writer.progress(2 * BLOCKS);
  const fromMs = performance.now();
  await cluster.kill(HOME);
  await writer.progress(2 * BLOCKS);
  const waitedMs = writer.longestGapMs(fromMs);
  await cluster.start(HOME);
  await cluster.ready();
  return waitedMs;
}

/** The same with librbd, whose lock on an image a client takes from one that is dead. */
async function peerMs(world: World): Promise<number> {
  await world.rbd('create', '--size', SIZE, VOLUME);
  const [owner, other] = [await world.qemuNbd(VOLUME), await world.qemuNbd(VOLUME)];
  const connect = (uri: string) => NbdClient.connect(uri, { signal: world.signal });
  const clients = [await connect(owner.uri), await connect(other.uri)] as const;
  for (let block = 0; block < BLOCKS; block++) await clients[0].write(block * BLOCK_BYTES, DATA.subarray(0, WRITE_BYTES));
  const began = performance.now();
  await owner.kill();
  await clients[1].write(0, DATA.subarray(0, WRITE_BYTES));
  const waitedMs = performance.now() - began;
  await clients[1].close();
  await other.kill();
  return waitedMs;
}
