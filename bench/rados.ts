/**
 * Volumes on Ceph beside librbd and beside `qemu-nbd rbd:`, on one real cluster of one OSD in one run: I/O, clones, takeover, boot storm, CPU.
 *
 * `io`: 4 KiB random at depth 1 and 16 and 1 MiB sequential on what was written before, and first writes to what was not. `clone`: making
 * snapshots and clones, and first writes to a clone. `takeover`: SIGKILL of the owner, as a writer at another node sees it; librbd's own takes
 * half a minute and is run once. `boot`: 32 clones of one image read at once on one node, and how much of that the OSD is asked for, by its own counters.
 * `cpu`: of the process that serves, for an operation. Ours are three daemons with `--store rados`. Peers take turns with ours on the same OSD;
 * quoted are medians, with the bar beside each figure that has one. Everything is on this host, so its processors are shared with the OSD.
 *
 * Needs Ceph, QEMU's driver for RBD and root (`npm run setup:host`). All takes about eight minutes. Arguments: `--only a,b` picks (io, clone,
 * takeover, boot, cpu); `--seconds N` for one run of fio (default 2), `--turns N` (default 3), `--runs N` of takeovers (default 8).
 */
import { parseArgs } from 'node:util';
import type { BenchResult } from './main.ts';
import { measureBoot } from './rados/boot.ts';
import { measureClone } from './rados/clone.ts';
import { measureCpu } from './rados/cpu.ts';
import { measureIo } from './rados/io.ts';
import { measureTakeover } from './rados/takeover.ts';
import type { Turns } from './rados/turns.ts';
import { World } from './rados/world.ts';
import { note } from './support/figures.ts';
import { interruptible } from './support/interruptible.ts';

const CASES: Readonly<Record<string, (world: World, turns: Turns) => Promise<BenchResult[]>>> = {
  io: measureIo,
  clone: measureClone,
  takeover: measureTakeover,
  boot: measureBoot,
  cpu: measureCpu,
};

export async function run(args: readonly string[]): Promise<BenchResult[]> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: 'string', default: Object.keys(CASES).join(',') },
      seconds: { type: 'string', default: '2' },
      turns: { type: 'string', default: '3' },
      runs: { type: 'string', default: '8' },
    },
  });
  const picked = values.only.split(',');
  const unknown = picked.filter((name) => CASES[name] === undefined);
  if (unknown.length > 0) throw new Error(`no case '${unknown.join(', ')}'; there are: ${Object.keys(CASES).join(', ')}`);
  const turns = { seconds: Number(values.seconds), turns: Number(values.turns), runs: Number(values.runs) };
  return interruptible(async (undoing) => {
    const world = await World.start(undoing);
    const results: BenchResult[] = [];
    for (const name of picked) {
      const began = performance.now();
      results.push(...(await (CASES[name] as (typeof CASES)[string])(world, turns)));
      note(`  '${name}' took ${Math.round((performance.now() - began) / 1000)} s`);
    }
    return results;
  });
}
