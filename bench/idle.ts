/**
 * Three idle nodes: memory (PSS, children included) and CPU of each over a minute, and the time from `up` to the first served read.
 *
 * `ours` is the figure, `peer` the bar that it has to stay under. Argument: `--seconds N` (default 60).
 */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { BenchResult } from './main.ts';
import { cpuSeconds } from './support/cpu.ts';
import { BenchCluster, type ClusterNode, run as execute, inDirectory, sleep } from './support/processes.ts';

const BARS = { pssMib: 200, cpuPercent: 2, startSeconds: 5 };

/** The processes of a node: its control process leads a group. */
function pidsOf(node: ClusterNode): number[] {
  const pids: number[] = [];
  for (const file of globSync('/proc/[0-9]*/stat')) {
    try {
      const text = readFileSync(file, 'latin1');
      const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
      if (Number(fields[2]) === node.pid) pids.push(Number(file.split('/')[2]));
    } catch {
      // It ended while we looked.
    }
  }
  return pids;
}

function pssMib(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
  return Number(/^Pss:\s+(\d+) kB/m.exec(text)?.[1] ?? 0) / 1024;
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

export async function run(args: readonly string[]): Promise<BenchResult[]> {
  const { values } = parseArgs({ args: [...args], options: { seconds: { type: 'string', default: '60' } } });
  const seconds = Number(values.seconds);
  return inDirectory(async (directory) => {
    const cluster = new BenchCluster(join(directory, 'data'));
    const began = performance.now();
    await cluster.up();
    await execute('qemu-io', ['-f', 'raw', '-r', '-c', 'read 0 4k', cluster.uri(0, 'first')]);
    const startSeconds = (performance.now() - began) / 1000;
    try {
      await sleep(5000);
      const before = cluster.nodes.map((node) => sum(pidsOf(node).map(cpuSeconds)));
      await sleep(seconds * 1000);
      const cpu = cluster.nodes.map((node, place) => ((sum(pidsOf(node).map(cpuSeconds)) - (before[place] as number)) / seconds) * 100);
      const pss = cluster.nodes.map((node) => sum(pidsOf(node).map(pssMib)));
      const result = (name: string, ours: number, bar: number, unit: string): BenchResult => ({
        case: name,
        ours: Number(ours.toFixed(2)),
        peer: bar,
        ratio: Number((ours / bar).toFixed(3)),
        unit,
      });
      return [
        result('first served read after up', startSeconds, BARS.startSeconds, 's'),
        ...cluster.nodes.flatMap(({ name }, place) => [
          result(`${name}: memory (PSS)`, pss[place] as number, BARS.pssMib, 'MiB'),
          result(`${name}: CPU`, cpu[place] as number, BARS.cpuPercent, '% of a core'),
        ]),
      ];
    } finally {
      await cluster.down();
    }
  });
}
