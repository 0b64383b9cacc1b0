/**
 * NBD on the owner and through a forwarding node, beside qemu-nbd on a raw file and nbdkit memory: 4 KiB random, 1 MiB sequential.
 *
 * Each case runs ours and both peers in turn, several times; quoted are medians, and the ratio to qemu-nbd's on a raw file in the same state,
 * written before or fresh. `file` store; all of it in the page cache, as a disk that a machine has just written is. Arguments: `--seconds N` for one run (default 3), `--turns N` (default 3).
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { BenchResult } from './main.ts';
import { BenchCluster, run as execute, inDirectory, median, nbdUri, startServer, stopServer } from './support/processes.ts';

const SIZE = '512M';

interface Load {
  readonly name: string;
  readonly unit: 'IOPS' | 'MiB/s';
  readonly fio: readonly string[];
}

const LOADS: readonly Load[] = [
  ...[1, 16].flatMap((depth): Load[] => [
    { name: `4K random read, depth ${depth}`, unit: 'IOPS', fio: ['--rw=randread', '--bs=4k', `--iodepth=${depth}`] },
    { name: `4K random write, depth ${depth}`, unit: 'IOPS', fio: ['--rw=randwrite', '--bs=4k', `--iodepth=${depth}`] },
  ]),
  { name: '1M sequential read', unit: 'MiB/s', fio: ['--rw=read', '--bs=1m', '--iodepth=8'] },
  { name: '1M sequential write', unit: 'MiB/s', fio: ['--rw=write', '--bs=1m', '--iodepth=8'] },
];

interface FioReport {
  readonly jobs: readonly { readonly error: number; readonly read: Direction; readonly write: Direction }[];
}

interface Direction {
  readonly iops: number;
  readonly bw_bytes: number;
}

async function fio(uri: string, load: Load, seconds: number): Promise<number> {
  const common = [
    '--name=bench',
    '--ioengine=nbd',
    `--size=${SIZE}`,
    '--time_based',
    `--runtime=${seconds}`,
    '--randrepeat=0',
    '--output-format=json',
  ];
  const text = await execute('fio', [...common, `--uri=${uri}`, ...load.fio]);
  const job = (JSON.parse(text.slice(text.indexOf('{'))) as FioReport).jobs[0];
  if (job?.error !== 0) throw new Error(`fio failed on ${uri}`);
  const direction = load.fio[0]?.includes('write') ? job.write : job.read;
  return load.unit === 'IOPS' ? direction.iops : direction.bw_bytes / 2 ** 20;
}

async function fill(uri: string): Promise<void> {
  await execute('fio', ['--name=fill', '--ioengine=nbd', `--uri=${uri}`, '--rw=write', '--bs=1m', '--iodepth=8', `--size=${SIZE}`]);
}

/** qemu-nbd on a raw file. */
class QemuNbd {
  private readonly directory: string;
  private count = 0;

  constructor(directory: string) {
    this.directory = directory;
  }

  async serve<Result>(body: (uri: string) => Promise<Result>): Promise<Result> {
    const name = join(this.directory, `peer-${this.count++}`);
    await execute('truncate', ['-s', SIZE, `${name}.raw`]);
    const server = await startServer(
      'qemu-nbd',
      ['-f', 'raw', '-k', `${name}.sock`, '-t', '-e', '8', '--cache=writeback', `${name}.raw`],
      `${name}.sock`,
    );
    try {
      return await body(nbdUri(`${name}.sock`));
    } finally {
      await stopServer(server);
      rmSync(`${name}.raw`);
    }
  }
}

export async function run(args: readonly string[]): Promise<BenchResult[]> {
  const { values } = parseArgs({ args: [...args], options: { seconds: { type: 'string', default: '3' }, turns: { type: 'string', default: '3' } } });
  const [seconds, turns] = [Number(values.seconds), Number(values.turns)];
  return inDirectory(async (directory) => {
    const cluster = new BenchCluster(join(directory, 'data'));
    await cluster.up();
    const qemu = new QemuNbd(directory);
    const nbdkitSocket = join(directory, 'nbdkit.sock');
    const nbdkit = await startServer('nbdkit', ['-f', '-U', nbdkitSocket, 'memory', SIZE], nbdkitSocket);
    try {
      await fill(nbdUri(nbdkitSocket));
      return await qemu.serve(async (written) => {
        await fill(written);
        return measure(cluster, { qemu, written, nbdkit: nbdUri(nbdkitSocket) }, seconds, turns);
      });
    } finally {
      await stopServer(nbdkit);
      await cluster.down();
    }
  });
}

interface Peers {
  readonly qemu: QemuNbd;
  /** qemu-nbd on a file that was written before. */
  readonly written: string;
  readonly nbdkit: string;
}

async function measure(cluster: BenchCluster, peers: Peers, seconds: number, turns: number): Promise<BenchResult[]> {
  await makeVolume(cluster, 'written');
  await fill(cluster.uri(0, 'written'));
  const results: BenchResult[] = [];
  for (const load of LOADS) {
    const figures = new Map<string, number[]>();
    const note = (name: string, value: number) => figures.set(name, [...(figures.get(name) ?? []), value]);
    for (let turn = 0; turn < turns; turn++) {
      note('qemu-nbd, written', await fio(peers.written, load, seconds));
      note('owner, written', await fio(cluster.uri(0, 'written'), load, seconds));
      note('forwarded, written', await fio(cluster.uri(1, 'written'), load, seconds));
      note('nbdkit memory', await fio(peers.nbdkit, load, seconds));
      note('qemu-nbd, fresh', await peers.qemu.serve((uri) => fio(uri, load, seconds)));
      for (const [where, node] of [['owner, fresh', 0] as const, ['forwarded, fresh', 1] as const]) {
        await makeVolume(cluster, 'fresh');
        note(where, await fio(cluster.uri(node, 'fresh'), load, seconds));
        await cluster.cli(0, 'volume', 'rm', 'fresh');
      }
    }
    results.push(...compare(load, figures));
  }
  return results;
}

/** A new volume, owned by the first node. */
async function makeVolume(cluster: BenchCluster, name: string): Promise<void> {
  await cluster.cli(0, 'volume', 'create', name, '--size', SIZE);
  await cluster.cli(0, 'volume', 'migrate', name, '--to', (cluster.nodes[0] as { name: string }).name);
}

/** Each beside qemu-nbd on a file in the same state. */
function compare(load: Load, figures: ReadonlyMap<string, number[]>): BenchResult[] {
  return [...figures].map(([name, values]) => {
    const ours = median(values);
    const peer = median(figures.get(name.endsWith('fresh') ? 'qemu-nbd, fresh' : 'qemu-nbd, written') ?? []);
    const ratio = ours / peer;
    process.stdout.write(
      `${load.name.padEnd(26)} ${name.padEnd(20)} ${Math.round(ours).toString().padStart(8)} ${load.unit}  ${ratio.toFixed(2)} × qemu-nbd\n`,
    );
    return { case: `${load.name}: ${name}`, ours: Math.round(ours), peer: Math.round(peer), ratio: Number(ratio.toFixed(3)), unit: load.unit };
  });
}
