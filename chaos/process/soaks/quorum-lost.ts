/**
 * Three daemons under I/O, of which two control processes are paused for the whole time and then go on. I/O waits or goes on meanwhile, commands
 * fail as unavailable, and afterwards both work, without an error to any client.
 */
import { ArchipelagoError } from '../../../src/base/index.ts';
import { type Cluster, startCluster } from '../cluster.ts';
import { startLoads } from '../io.ts';
import type { Soak } from '../soak.ts';
import { eventually, sleepUntilAborted } from '../wait.ts';

/** I/O before and after. */
const MARGIN_MS = 5_000;
const OWNER = 'n1';

export const soak: Soak = {
  name: 'quorum-lost',
  summary: 'two of three control processes paused and back: I/O waits or goes on, without an error',
  minutes: 1,
  async run({ minutes, note, atEnd, signal }) {
    const cluster = await startCluster(atEnd);
    const others = cluster.names.filter((name) => name !== OWNER);
    const { ended } = await startLoads(cluster, atEnd, Math.ceil((minutes * 60_000 + 2 * MARGIN_MS) / 1000), [
      { volume: 'near', owner: OWNER, node: OWNER },
      { volume: 'far', owner: OWNER, node: others[0] as string },
    ]);
    await sleepUntilAborted(MARGIN_MS, signal);
    for (const name of others) cluster.signalControl(name, 'SIGSTOP');
    note('two control processes are paused');
    const problems: string[] = [];
    const outage = sleepUntilAborted(minutes * 60_000, signal);
    const code = await commandWithoutQuorum(cluster);
    if (code !== 'unavailable' && code !== 'timeout') problems.push(`a command without a quorum ended as ${code}`);
    await outage;
    for (const name of others) cluster.signalControl(name, 'SIGCONT');
    note('and go on');
    if (signal.aborted) return { writes: 0, longestWriteMs: 0, violations: problems.length };
    await cluster.ready();
    await eventually('commands work again', async () => (await cluster.cli(['volume', 'create', 'after', '--size', '1M'])).status === 0);
    const load = await ended;
    for (const problem of [...problems, ...load.problems]) note(problem);
    if (load.writes === 0) throw new Error('this run proves nothing: nothing was written');
    const { writes, longestWriteMs } = load;
    return { writes, longestWriteMs, violations: problems.length + load.problems.length };
  },
};

/** What it ends as. */
async function commandWithoutQuorum(cluster: Cluster): Promise<string> {
  try {
    await cluster.admin(OWNER).call('POST', '/v1/volumes', { name: 'during', size: 1 << 20 });
    return 'done';
  } catch (error) {
    return ArchipelagoError.from(error, 'a command without a quorum').code;
  }
}
