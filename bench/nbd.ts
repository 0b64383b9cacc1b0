/**
 * NBD on the owner and through a forwarding node, beside qemu-nbd on a raw file and nbdkit memory: 4 KiB random, 1 MiB sequential.
 *
 * Each case runs ours and both peers in turn, several times; quoted are medians, and the ratio to qemu-nbd's. `file` store; all of it in the
 * page cache, as a disk that a machine has just written is. Arguments: `--seconds N` for one run (default 3), `--turns N` (default 3).
 */
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

export async function run(args: readonly string[]): Promise<BenchResult[]> {
  const { values } = parseArgs({ args: [...args], options: { seconds: { type: 'string', default: '3' }, turns: { type: 'string', default: '3' } } });
  const seconds = Number(values.seconds);
  const turns = Number(values.turns);
  return inDirectory(async (directory) => {
    const cluster = new BenchCluster(join(directory, 'data'));
    await cluster.up();
    const raw = join(directory, 'peer.raw');
    await execute('truncate', ['-s', SIZE, raw]);
    const [qemuSocket, nbdkitSocket] = [join(directory, 'qemu.sock'), join(directory, 'nbdkit.sock')];
    const servers = [
      await startServer('qemu-nbd', ['-f', 'raw', '-k', qemuSocket, '-t', '-e', '8', '--cache=writeback', raw], qemuSocket),
      await startServer('nbdkit', ['-f', '-U', nbdkitSocket, 'memory', SIZE], nbdkitSocket),
    ];
    try {
      const peers = { qemu: nbdUri(qemuSocket), nbdkit: nbdUri(nbdkitSocket) };
      await Promise.all([fill(peers.qemu), fill(peers.nbdkit)]);
      return await measure(cluster, peers, seconds, turns);
    } finally {
      for (const server of servers) await stopServer(server);
      await cluster.down();
    }
  });
}

async function measure(cluster: BenchCluster, peers: { qemu: string; nbdkit: string }, seconds: number, turns: number): Promise<BenchResult[]> {
  await cluster.cli(0, 'volume', 'create', 'written', '--size', SIZE);
  await cluster.cli(0, 'volume', 'migrate', 'written', '--to', (cluster.nodes[0] as { name: string }).name);
  await fill(cluster.uri(0, 'written'));
  const results: BenchResult[] = [];
  let fresh = 0;
  for (const load of LOADS) {
    const figures = new Map<string, number[]>();
    const note = (name: string, value: number) => figures.set(name, [...(figures.get(name) ?? []), value]);
    for (let turn = 0; turn < turns; turn++) {
      note('qemu-nbd', await fio(peers.qemu, load, seconds));
      note('owner, written', await fio(cluster.uri(0, 'written'), load, seconds));
      note('nbdkit memory', await fio(peers.nbdkit, load, seconds));
      note('forwarded, written', await fio(cluster.uri(1, 'written'), load, seconds));
      for (const [where, node] of [['owner, fresh', 0] as const, ['forwarded, fresh', 1] as const]) {
        const name = `fresh-${fresh++}`;
        await cluster.cli(0, 'volume', 'create', name, '--size', SIZE);
        await cluster.cli(0, 'volume', 'migrate', name, '--to', (cluster.nodes[0] as { name: string }).name);
        note(where, await fio(cluster.uri(node, name), load, seconds));
        await cluster.cli(0, 'volume', 'rm', name);
      }
    }
    const peer = median(figures.get('qemu-nbd') ?? []);
    for (const [name, values] of figures) {
      const ours = median(values);
      results.push({
        case: `${load.name}: ${name}`,
        ours: Math.round(ours),
        peer: Math.round(peer),
        ratio: Number((ours / peer).toFixed(3)),
        unit: load.unit,
      });
      process.stdout.write(
        `${load.name.padEnd(26)} ${name.padEnd(20)} ${Math.round(ours).toString().padStart(8)} ${load.unit}  ${(ours / peer).toFixed(2)} × qemu-nbd\n`,
      );
    }
  }
  return results;
}
