/**
 * A guest on QEMU that writes numbered, checksummed sectors, each durable before the next, is migrated live from node to node, its disk with
 * it: the source has it through one node, the target through another, and the ownership follows. Twenty times at full length. Every other time
 * the volume is opened and closed at the two nodes in the order in which Ganeti does it.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NbdClient } from '../../../src/gateway/nbd/client.ts';
import { type Cluster, startCluster } from '../cluster.ts';
import { bootSector, problemsOfDisk, problemsOfReports, SECTOR_BYTES } from '../qemu/guest.ts';
import type { Disk } from '../qemu/machine.ts';
import { TravellingGuest } from '../qemu/travel.ts';
import type { Soak } from '../soak.ts';

const MIGRATIONS_A_MINUTE = 4;
/** Numbers that the guest writes at each place. */
const STAY = 100;
/** Room for more numbers than the guest gets to write. */
const SIZE = '2G';
/** Small, so that the guest makes many first writes. */
const BLOCK_SIZE = '64K';
/** Sectors that are read after the last number. */
const MARGIN = 4096;

export const soak: Soak = {
  name: 'qemu',
  summary: 'a guest on QEMU that writes and syncs is migrated live with its disk from node to node, 20 times',
  minutes: 5,
  async run({ minutes, note, atEnd, signal }) {
    const cluster = await startCluster(atEnd);
    const directory = mkdtempSync(join(tmpdir(), 'qemu-'));
    atEnd(() => rmSync(directory, { recursive: true, force: true }));
    await makeDisk(cluster);
    const guest = await TravellingGuest.boot(atEnd, directory, 'vm', diskAt(cluster, 'n1'));
    await guest.progress(STAY);
    const problems: string[] = [];
    const migrations = Math.round(minutes * MIGRATIONS_A_MINUTE);
    let longestMs = 0;
    let done = 0;
    for (let from = 'n1'; done < migrations && !signal.aborted; done++) {
      const to = ROUTE[done % ROUTE.length] as string;
      const opened = done % 2 === 1 ? { from, to } : null;
      if (opened) await openBoth(cluster, opened);
      const { pauseMs, downtimeMs } = await guest.migrate(diskAt(cluster, to), STAY, async () => {
        if (opened) await openTarget(cluster, opened);
        await cluster.migrate('disk', to);
      });
      if (opened) await cluster.jsonVia(to, 'volume', 'close', 'disk');
      const owner = await cluster.owner('disk');
      if (owner !== to) problems.push(`after migration ${done + 1} the owner is ${owner}, not ${to}`);
      longestMs = Math.max(longestMs, pauseMs);
      note(`migration ${done + 1} to ${to}: longest pause of the guest ${pauseMs.toFixed(1)} ms, of which QEMU says ${downtimeMs} ms`);
      from = to;
    }
    await guest.end();
    const reports = guest.reports();
    problems.push(...problemsOfReports(reports));
    for (const node of cluster.names) problems.push(...(await problemsAt(cluster, node, reports.length)));
    for (const problem of problems) note(problem);
    return { migrations: done, numbers: reports.length, longestPauseMs: Math.round(longestMs), violations: problems.length };
  },
};

/** There, back, and on to the third. */
const ROUTE = ['n2', 'n1', 'n3', 'n1', 'n2', 'n3'];

async function makeDisk(cluster: Cluster): Promise<void> {
  await cluster.json('volume', 'create', 'disk', '--size', SIZE, '--block-size', BLOCK_SIZE);
  await cluster.migrate('disk', 'n1');
  const client = await NbdClient.connect(cluster.uri('disk', 'n1'));
  await client.write(0, bootSector(), { fua: true });
  await client.close();
}

interface Ends {
  readonly from: string;
  readonly to: string;
}

/** Before the migration: the source has used the volume alone, and gives that up. */
async function openBoth(cluster: Cluster, { from, to }: Ends): Promise<void> {
  await cluster.jsonVia(from, 'volume', 'open', 'disk');
  await cluster.jsonVia(from, 'volume', 'open', 'disk', '--shared');
  await cluster.jsonVia(to, 'volume', 'open', 'disk', '--shared');
}

/** After it: the target uses the volume alone. */
async function openTarget(cluster: Cluster, { from, to }: Ends): Promise<void> {
  await cluster.jsonVia(from, 'volume', 'close', 'disk');
  await cluster.jsonVia(to, 'volume', 'open', 'disk');
}

function diskAt(cluster: Cluster, node: string): Disk {
  return { socket: cluster.node(node).nbdSocket, exportName: 'disk' };
}

async function problemsAt(cluster: Cluster, node: string, last: number): Promise<string[]> {
  const client = await NbdClient.connect(cluster.uri('disk', node));
  try {
    const content = Buffer.from(await client.read(0, (last + MARGIN) * SECTOR_BYTES));
    return problemsOfDisk(content, last)
      .slice(0, 10)
      .map((problem) => `read through ${node}: ${problem}`);
  } finally {
    await client.close();
  }
}
