/**
 * The pause that a writer sees when its volume moves: 4 KiB random writes at depth 16 under `volume migrate`, and a guest on QEMU.
 *
 * `moves`: a volume of 1 TiB with data in 100,000 blocks, three daemons, `file` store. The writer stays attached to one node while the volume
 * goes to another node and comes back, so half of the moves leave it forwarding, the other half serve it at home. The pause of a move is the
 * longest time between two answers, from just before `migrate` is asked for until shortly after it is done. Beside it stands the longest
 * time between two answers in as long a time without a move: the machine's share in it. Nothing comparable exists as a peer.
 * `qemu`: a guest that writes and syncs sector after sector is migrated live; peer: two QEMUs on one nbdkit, where no ownership has to move.
 *
 * Arguments: `--case a,b` picks (moves, qemu); `--moves N` (default 200); `--blocks N` (default 100000, which take a minute or two to write);
 * `--migrations N` of the guest (default 10).
 */
import { parseArgs } from 'node:util';
import { measureGuest } from './handover/guest.ts';
import { measureMoves } from './handover/moves.ts';
import type { BenchResult } from './main.ts';
import { inDirectory, withCluster } from './support/processes.ts';

export async function run(args: readonly string[]): Promise<BenchResult[]> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      case: { type: 'string', default: 'moves,qemu' },
      moves: { type: 'string', default: '200' },
      blocks: { type: 'string', default: '100000' },
      migrations: { type: 'string', default: '10' },
    },
  });
  const picked = values.case.split(',');
  return inDirectory((directory) =>
    withCluster(directory, async (cluster) => [
      ...(picked.includes('moves') ? await measureMoves(cluster, Number(values.moves), Number(values.blocks)) : []),
      ...(picked.includes('qemu') ? await measureGuest(directory, cluster, Number(values.migrations)) : []),
    ]),
  );
}
