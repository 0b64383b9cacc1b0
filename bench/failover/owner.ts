/** The owner of one volume is killed, or stands still and goes on, while others write. */
import { closeSync, fstatSync, openSync, readdirSync, readlinkSync, readSync, statSync } from 'node:fs';
import { eventually } from '../../chaos/process/wait.ts';
import { volumePath } from '../../src/gateway/http/client.ts';
import { NbdClient } from '../../src/gateway/nbd/client.ts';
import { groupMembers } from '../../src/node/cluster/processes.ts';
import type { BenchResult } from '../main.ts';
import { figure, note, percentile } from '../support/figures.ts';
import { BLOCK_BYTES } from '../support/nbd.ts';
import { type BenchCluster, sleep } from '../support/processes.ts';

const VOLUME = 'failing';
const BLOCKS = 16;
const SECTOR_BYTES = 4096;
const SECTORS = BLOCK_BYTES / SECTOR_BYTES;
const DEPTH = 8;
/** Writers have parts of each block, so that a takeover has to claim the objects that the old owner still writes. */
const HERE = { first: 0, count: SECTORS / 2 };
const THERE = { first: SECTORS / 2, count: SECTORS / 2 };
const PAST_FAILURE_ANSWERS = 50;
const SETTLE_MS = 300;
const PATIENCE_MS = 60_000;
const LIMIT_MS = 5000;
const MOST_REPEATS = 5;

/** Writes numbers into sectors, each number once, and remembers the last that was answered. One write a sector at a time. */
class NumberedWriter {
  readonly answered = new Map<number, number>();
  readonly answersMs: number[] = [];
  private next: number;
  private stopping = false;
  private readonly workers: Promise<unknown>;

  constructor(client: NbdClient, part: { readonly first: number; readonly count: number }, firstNumber: number) {
    this.next = firstNumber;
    this.workers = Promise.all(Array.from({ length: DEPTH }, (_, worker) => this.work(client, part, worker)));
    // Seen by `progress` and `stop`.
    this.workers.catch(() => undefined);
  }

  private async work(client: NbdClient, part: { readonly first: number; readonly count: number }, worker: number): Promise<void> {
    for (let turn = worker; !this.stopping; turn += DEPTH) {
      const sector = (turn % BLOCKS) * SECTORS + part.first + (Math.floor(turn / BLOCKS) % part.count);
      const number = this.next++;
      const data = Buffer.alloc(SECTOR_BYTES);
      for (let at = 0; at < SECTOR_BYTES; at += 8) data.writeDoubleBE(number, at);
      await client.write(sector * SECTOR_BYTES, data);
      this.answered.set(sector, number);
      this.answersMs.push(performance.now());
    }
  }

  async progress(answers: number): Promise<void> {
    const from = this.answersMs.length;
    const deadlineMs = performance.now() + PATIENCE_MS;
    while (this.answersMs.length < from + answers) {
      if (performance.now() > deadlineMs) throw new Error('a writer makes no progress');
      // It only ends before `stop` if it fails.
      await Promise.race([sleep(10), this.workers]);
    }
  }

  /** The longest time between two answers that ends after `fromMs`. */
  longestGapMs(fromMs: number): number {
    let longest = 0;
    for (let at = this.answersMs.findIndex((each) => each > fromMs); at > 0 && at < this.answersMs.length; at++) {
      longest = Math.max(longest, (this.answersMs[at] as number) - (this.answersMs[at - 1] as number));
    }
    return longest;
  }

  async stop(): Promise<void> {
    this.stopping = true;
    await this.workers;
  }
}

export async function measureOwner(cluster: BenchCluster, runs: number): Promise<BenchResult[]> {
  const [owner, other] = cluster.nodes.map(({ name }) => name) as [string, string];
  const admin = cluster.admin(1);
  await admin.call('POST', '/v1/volumes', { name: VOLUME, size: BLOCKS * BLOCK_BYTES });
  const waits: { readonly how: 'kill' | 'stop'; readonly led: boolean; readonly ms: number }[] = [];
  const client = await NbdClient.connect(cluster.uri(1, VOLUME));
  let [late, repeats, number] = [0, 0, 1];
  const writer = new NumberedWriter(client, HERE, 1);
  await writer.progress(BLOCKS * 8);
  for (let run = 0; run < runs; run++) {
    const led = run % 4 < 2;
    await moved(cluster, owner);
    await leading(cluster, led ? owner : other);
    await writer.progress(PAST_FAILURE_ANSWERS);
    if (run % 2 === 0) {
      waits.push({ how: 'kill', led, ms: await waited(cluster, owner, writer, 'SIGKILL') });
      await cluster.up();
      continue;
    }
    number += 1e9;
    const stopped = await stopAndGoOn(cluster, owner, writer, number);
    late += stopped.late;
    if (stopped.late > 0) waits.push({ how: 'stop', led, ms: stopped.waitedMs });
    else if (++repeats <= MOST_REPEATS + runs) run--;
    else throw new Error('too few late writes: the runs prove nothing');
  }
  await writer.stop();
  await client.close();
  await verify(cluster, writer.answered);
  const of = (part: (wait: (typeof waits)[number]) => boolean) => waits.filter(part).map(({ ms }) => ms);
  const [kills, stops] = [of(({ how }) => how === 'kill'), of(({ how }) => how === 'stop')];
  const all = of(() => true);
  const [leaders, followers] = [of(({ led }) => led), of(({ led }) => !led)];
  note(`${kills.length} kills and ${stops.length} pauses of ${owner}, seen from ${other}; ${late} late writes, ${repeats} runs without any`);
  return [
    figure('writer waits after SIGKILL of the owner, p50', percentile(kills, 50), null, 'ms', null),
    figure('writer waits after SIGSTOP of the owner, p50', percentile(stops, 50), null, 'ms', null),
    figure('writer waits where the owner led, too, p50', percentile(leaders, 50), null, 'ms', null),
    figure('writer waits where another node led, p50', percentile(followers, 50), null, 'ms', null),
    figure('writer waits after either, p99', percentile(all, 99), null, 'ms', { of: 'ours', limit: LIMIT_MS }),
    figure('late writes of paused owners that arrived, none visible', late, null, 'writes', null),
  ];
}

/** Until it is there; a node that has just started may refuse it for a moment. */
async function moved(cluster: BenchCluster, to: string): Promise<void> {
  const deadlineMs = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      const { owner } = await cluster.admin(1).call<{ owner: { node: string } | null }>('GET', volumePath(VOLUME));
      if (owner?.node !== to) await cluster.admin(1).call('POST', volumePath(VOLUME, 'migrate'), { to });
      return;
    } catch (error) {
      if (performance.now() > deadlineMs) throw error;
      await sleep(100);
    }
  }
}

async function leading(cluster: BenchCluster, wanted: string): Promise<void> {
  const admin = cluster.admin(1);
  await eventually(
    `${wanted} leads`,
    async () => {
      const { leader } = await admin.call<{ leader: string | null }>('GET', '/v1/cluster');
      if (leader === wanted) return true;
      // One that has just started, or is behind, is not given it yet.
      await admin.call('POST', '/v1/cluster/leader', { to: wanted }).catch(() => undefined);
      return false;
    },
    PATIENCE_MS,
  );
}

async function waited(cluster: BenchCluster, owner: string, writer: NumberedWriter, signal: 'SIGKILL' | 'SIGSTOP'): Promise<number> {
  const fromMs = performance.now();
  cluster.signal(owner, signal);
  // What was answered on the way does not count.
  await sleep(SETTLE_MS);
  await writer.progress(PAST_FAILURE_ANSWERS);
  return writer.longestGapMs(fromMs);
}

async function stopAndGoOn(
  cluster: BenchCluster,
  owner: string,
  writer: NumberedWriter,
  firstNumber: number,
): Promise<{ waitedMs: number; late: number }> {
  const own = await NbdClient.connect(cluster.uri(0, VOLUME));
  const ownWriter = new NumberedWriter(own, THERE, firstNumber);
  await ownWriter.progress(BLOCKS * 8);
  let files: OldFile[] = [];
  try {
    const waitedMs = await waited(cluster, owner, writer, 'SIGSTOP');
    files = oldFiles(cluster, owner);
    const before = newest(files);
    cluster.signal(owner, 'SIGCONT');
    await ownWriter.progress(PAST_FAILURE_ANSWERS);
    // What was written into the old files, and by what the old owner had: its writer's numbers only grow.
    const late = files.reduce((sum, file, place) => sum + countAbove(file, before[place] as number, firstNumber), 0);
    for (const file of files) {
      if (countAbove(file, before[files.indexOf(file)] as number, firstNumber) > 0 && isNamed(file))
        throw new Error(`a late write has arrived in ${file.path}, which the new owner serves`);
    }
    const { owner: now } = await cluster.admin(1).call<{ owner: { node: string } | null }>('GET', volumePath(VOLUME));
    if (now?.node === owner) throw new Error('the node that was paused owns the volume, and has not been asked to');
    await ownWriter.stop();
    await own.close();
    await verify(cluster, ownWriter.answered);
    return { waitedMs, late };
  } finally {
    for (const { fd } of files) closeSync(fd);
  }
}

interface OldFile {
  readonly fd: number;
  readonly path: string;
}

/** What the paused owner has open of the volume's blocks, held here as well: whatever becomes of the names, late writes show in them. */
function oldFiles(cluster: BenchCluster, owner: string): OldFile[] {
  const files: OldFile[] = [];
  for (const pid of groupMembers(cluster.processOf(owner))) {
    for (const fd of readdirSync(`/proc/${pid}/fd`)) {
      let path: string;
      try {
        path = readlinkSync(`/proc/${pid}/fd/${fd}`);
      } catch {
        // Not a file.
        continue;
      }
      if (path.includes('/store/blocks/')) files.push({ fd: openSync(`/proc/${pid}/fd/${fd}`, 'r'), path: path.replace(/ \(deleted\)$/, '') });
    }
  }
  return files;
}

function isNamed({ fd, path }: OldFile): boolean {
  const now = statSync(path, { throwIfNoEntry: false });
  return now !== undefined && now.ino === fstatSync(fd).ino;
}

/** The largest number in the paused owner's part of each file. */
function newest(files: readonly OldFile[]): number[] {
  return files.map((file) => Math.max(0, ...numbers(file)));
}

function countAbove(file: OldFile, above: number, atLeast: number): number {
  return numbers(file).filter((each) => each > above && each >= atLeast).length;
}

function numbers({ fd }: OldFile): number[] {
  const found: number[] = [];
  const buffer = Buffer.alloc(8);
  for (let sector = THERE.first; sector < THERE.first + THERE.count; sector++) {
    if (readSync(fd, buffer, 0, 8, sector * SECTOR_BYTES) === 8) found.push(buffer.readDoubleBE(0));
  }
  return found;
}

/** Every node reads what was answered last, and the map is in order. */
async function verify(cluster: BenchCluster, expected: ReadonlyMap<number, number>): Promise<void> {
  for (const place of cluster.nodes.keys()) {
    const client = await NbdClient.connect(cluster.uri(place, VOLUME));
    for (const [sector, number] of expected) {
      const data = Buffer.from(await client.read(sector * SECTOR_BYTES, SECTOR_BYTES));
      for (let at = 0; at < SECTOR_BYTES; at += 8) {
        if (data.readDoubleBE(at) !== number)
          throw new Error(`node ${place}, sector ${sector}: ${data.readDoubleBE(at)} where ${number} was answered`);
      }
    }
    await client.close();
  }
  const check = await cluster.admin(1).call<{ ok: boolean; problems?: string[] }>('POST', volumePath(VOLUME, 'check'));
  if (!check.ok) throw new Error(`the check finds: ${JSON.stringify(check.problems)}`);
}
