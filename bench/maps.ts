/**
 * Snapshots and clones of any size, first writes to clones, deep chains, opening, removing, and bytes of map a block.
 *
 * Cases with daemons run against three of them on this host, as `up` starts them, through the admin socket and NBD of the node that owns the
 * volume; those of the map itself run in this process, on the file store. Beside each figure stands the bar that it is held to. Peers are
 * qcow2 files under qemu-nbd, with a backing file where ours is a clone. Arguments: `--case a,b` picks (snapshot, first-write, depth, open,
 * remove, bytes); `--depth N` for a chain of clones
 * other than 1000 deep, `--blocks N` for a volume to remove of other than 100,000: on a slow disk each takes minutes to make.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { BenchResult } from './main.ts';
import { measureDepth } from './maps/depth.ts';
import { measureFirstWrites } from './maps/first-write.ts';
import { measureOpening, measureSize } from './maps/in-process.ts';
import { measureRemoval } from './maps/removal.ts';
import { measureSnapshots } from './maps/snapshots.ts';
import { BenchCluster, inDirectory } from './support/processes.ts';

interface Sizes {
  readonly depth: number;
  readonly blocks: number;
}

type Case = (directory: string, cluster: () => Promise<BenchCluster>, sizes: Sizes) => Promise<BenchResult[]>;

const CASES: Record<string, Case> = {
  snapshot: async (_directory, cluster) => measureSnapshots(await cluster()),
  'first-write': async (directory, cluster) => measureFirstWrites(directory, await cluster()),
  depth: async (directory, cluster, { depth }) => measureDepth(directory, await cluster(), depth),
  open: (directory) => measureOpening(directory),
  remove: async (_directory, cluster, { blocks }) => measureRemoval(await cluster(), blocks),
  bytes: (directory) => measureSize(directory),
};

export async function run(args: readonly string[]): Promise<BenchResult[]> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      case: { type: 'string', default: Object.keys(CASES).join(',') },
      depth: { type: 'string', default: '1000' },
      blocks: { type: 'string', default: '100000' },
    },
  });
  const picked = values.case.split(',');
  const unknown = picked.filter((name) => CASES[name] === undefined);
  if (unknown.length > 0) throw new Error(`no case '${unknown.join(', ')}'; there are: ${Object.keys(CASES).join(', ')}`);
  return inDirectory(async (directory) => {
    const started: Promise<BenchCluster>[] = [];
    const start = async () => {
      const cluster = new BenchCluster(join(directory, 'data'));
      await cluster.up();
      return cluster;
    };
    const results: BenchResult[] = [];
    try {
      for (const name of picked) {
        const measure = CASES[name] as Case;
        results.push(...(await measure(directory, () => (started[0] ??= start()), { depth: Number(values.depth), blocks: Number(values.blocks) })));
      }
    } finally {
      await (await started[0])?.down();
    }
    return results;
  });
}
