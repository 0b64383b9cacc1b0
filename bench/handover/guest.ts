/** A guest on QEMU whose disk moves along with it, beside one whose disk is where it was. */
import { join } from 'node:path';
import { Ending } from '../../chaos/process/ending.ts';
import { bootSector } from '../../chaos/process/qemu/guest.ts';
import type { Disk } from '../../chaos/process/qemu/machine.ts';
import { TravellingGuest } from '../../chaos/process/qemu/travel.ts';
import { volumePath } from '../../src/gateway/http/client.ts';
import type { BenchResult } from '../main.ts';
import { figure, note, percentile } from '../support/figures.ts';
import { withNbd } from '../support/nbd.ts';
import { type BenchCluster, type ClusterNode, nbdUri, run, startServer, stopServer } from '../support/processes.ts';

const SIZE = 1 << 30;
/** Numbers that the guest writes at each place. */
const STAY = 100;

export async function measureGuest(directory: string, cluster: BenchCluster, migrations: number): Promise<BenchResult[]> {
  const admin = cluster.admin(0);
  const diskAt = ({ nbdSocket }: ClusterNode): Disk => ({ socket: nbdSocket, exportName: 'guest' });
  await admin.call('POST', '/v1/volumes', { name: 'guest', size: SIZE });
  await admin.call('POST', volumePath('guest', 'migrate'), { to: (cluster.nodes[0] as ClusterNode).name });
  const peer = join(directory, 'nbdkit');
  await run('truncate', ['-s', String(SIZE), `${peer}.raw`]);
  const nbdkit = await startServer('nbdkit', ['-f', '-U', `${peer}.sock`, 'file', `${peer}.raw`], `${peer}.sock`);
  const ending = new Ending();
  try {
    const shared: Disk = { socket: `${peer}.sock`, exportName: '' };
    await withNbd(cluster.uri(0, 'guest'), (client) => client.write(0, bootSector()));
    await withNbd(nbdUri(`${peer}.sock`), (client) => client.write(0, bootSector()));
    const guest = await TravellingGuest.boot(ending.add, directory, 'ours', diskAt(cluster.nodes[0] as ClusterNode));
    const other = await TravellingGuest.boot(ending.add, directory, 'peer', shared);
    const [ours, theirs]: [number[], number[]] = [[], []];
    for (let count = 1; count <= migrations; count++) {
      const node = cluster.nodes[count % cluster.nodes.length] as ClusterNode;
      const follow = () => admin.call('POST', volumePath('guest', 'migrate'), { to: node.name });
      ours.push((await guest.migrate(diskAt(node), STAY, follow)).pauseMs);
      theirs.push((await other.migrate(shared, STAY, () => Promise.resolve())).pauseMs);
    }
    note(`Live migration of a guest that writes and syncs, ${migrations} times; peer: both QEMUs on one nbdkit`);
    return [
      figure('longest pause of the guest, p50', percentile(ours, 50), percentile(theirs, 50), 'ms', null),
      figure('longest pause of the guest, longest', Math.max(...ours), Math.max(...theirs), 'ms', null),
    ];
  } finally {
    await ending.run();
    await stopServer(nbdkit);
  }
}
