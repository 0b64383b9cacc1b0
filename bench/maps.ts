/**
 * Snapshots and clones of any size, first writes to clones, deep chains, opening, removing, and bytes of map a block.
 *
 * Cases with daemons run against three of them on this host, as `up` starts them, through the admin socket and NBD of the node that owns the
 * volume; those of the map itself run in this process, on the file store. Beside each figure stands the bar that it is held to. Peers are
 * qcow2 files under qemu-nbd, with a backing file where ours is a clone. A ratio is that of the middle pair of several, each taken one right
 * after the other. All takes less than ten minutes on a quiet machine. Arguments: `--only a,b` picks (snapshot, first-write, depth, open,
 * remove, bytes); `--depth N` for a chain of clones other than 1000 deep, `--blocks N` for a volume to remove of other than 100,000.
 */
import { parseArgs } from 'node:util';
import type { BenchResult } from './main.ts';
import { measureDepth } from './maps/depth.ts';
import { measureFirstWrites } from './maps/first-write.ts';
import { measureOpening, measureSize } from './maps/in-process.ts';
import { measureRemoval } from './maps/removal.ts';
import { measureSnapshots } from './maps/snapshots.ts';
import { note } from './support/figures.ts';
import { inDirectory, withCluster } from './support/processes.ts';

interface Sizes {
  readonly depth: number;
  readonly blocks: number;
}

type Case = (directory: string, sizes: Sizes) => Promise<BenchResult[]>;

const CASES: Record<string, Case> = {
  snapshot: (directory) => withCluster(directory, (cluster) => measureSnapshots(cluster)),
  'first-write': (directory) => withCluster(directory, (cluster) => measureFirstWrites(directory, cluster)),
  depth: (directory, { depth }) => withCluster(directory, (cluster) => measureDepth(directory, cluster, depth)),
  open: (directory) => measureOpening(directory),
  remove: (directory, { blocks }) => withCluster(directory, (cluster) => measureRemoval(cluster, blocks)),
  bytes: (directory) => measureSize(directory),
};

export async function run(args: readonly string[]): Promise<BenchResult[]> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: 'string', default: Object.keys(CASES).join(',') },
      depth: { type: 'string', default: '1000' },
      blocks: { type: 'string', default: '100000' },
    },
  });
  const picked = values.only.split(',');
  const unknown = picked.filter((name) => CASES[name] === undefined);
  if (unknown.length > 0) throw new Error(`no case '${unknown.join(', ')}'; there are: ${Object.keys(CASES).join(', ')}`);
  const sizes = { depth: Number(values.depth), blocks: Number(values.blocks) };
  const results: BenchResult[] = [];
  for (const name of picked) {
    const began = performance.now();
    // What one case leaves behind is not the next one's to collect.
    results.push(...(await inDirectory((directory) => (CASES[name] as Case)(directory, sizes))));
    note(`  '${name}' took ${Math.round((performance.now() - began) / 1000)} s`);
  }
  return results;
}
