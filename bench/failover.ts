/**
 * How long a writer at another node waits when the owner of its volume dies or stands still, and how long 500 volumes of a dead node take.
 *
 * `owner`: SIGKILL and SIGSTOP of the owner in turns, `--runs N` (default 50), in half of them it leads the cluster; a run is the longest time without an
 * answer at a node that stays, so the lease, the election and the takeover are in it. In a run with SIGSTOP the owner has a writer of its own: what it had taken
 * from that one when it stopped, and what arrived since, it writes when it goes on, into files that were its own. These late writes are counted
 * there; the run is done again if there were none. None of them may be in a file that a map names; afterwards the node forwards, all nodes
 * read the same, and the map is in order. Nothing comparable exists here as a peer: what RBD needs is in the literature, 30 s.
 * `many`: 500 volumes of a node that is killed, each with a client at another node that writes.
 *
 * Arguments: `--case a,b` picks (owner, many); `--runs N`; `--volumes N` (default 500).
 */
import { parseArgs } from 'node:util';
import { measureMany } from './failover/many.ts';
import { measureOwner } from './failover/owner.ts';
import type { BenchResult } from './main.ts';
import { inDirectory, withCluster } from './support/processes.ts';

export async function run(args: readonly string[]): Promise<BenchResult[]> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      case: { type: 'string', default: 'owner,many' },
      runs: { type: 'string', default: '50' },
      volumes: { type: 'string', default: '500' },
    },
  });
  const picked = values.case.split(',');
  return inDirectory((directory) =>
    withCluster(directory, async (cluster) => [
      ...(picked.includes('owner') ? await measureOwner(cluster, Number(values.runs)) : []),
      ...(picked.includes('many') ? await measureMany(cluster, Number(values.volumes)) : []),
    ]),
  );
}
