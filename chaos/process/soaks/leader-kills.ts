/**
 * Three daemons under I/O, whose leader is killed and started again every ten seconds. The clients' node, which owns the volumes, is never killed:
 * when it leads, its control process alone is paused until another one leads. The I/O gets slower, and nothing else.
 */
import { startCluster } from '../cluster.ts';
import { startLoads } from '../io.ts';
import type { Soak } from '../soak.ts';
import { eventually, sleepUntilAborted } from '../wait.ts';

const PERIOD_MS = 10_000;
const SPARED = 'n1';
/** With fewer a run proves nothing. */
const FEWEST_KILLS_A_MINUTE = 1;

export const soak: Soak = {
  name: 'leader-kills',
  summary: 'the leader killed and restarted every 10 s under I/O: nothing but slower I/O',
  minutes: 3,
  async run({ minutes, note, atEnd, signal }) {
    const cluster = await startCluster(atEnd);
    const others = cluster.names.filter((name) => name !== SPARED);
    const endMs = performance.now() + minutes * 60_000;
    const { ended } = await startLoads(cluster, atEnd, Math.ceil(minutes * 60), [
      { volume: 'left', owner: SPARED, node: SPARED },
      { volume: 'right', owner: SPARED, node: SPARED },
    ]);
    let kills = 0;
    let pauses = 0;
    let nextMs = performance.now();
    while (performance.now() < endMs && !signal.aborted) {
      const leader = await eventually('somebody leads', () => cluster.leaderOf(cluster.names));
      if (leader === SPARED) {
        pauses++;
        cluster.signalControl(SPARED, 'SIGSTOP');
        await eventually('another one leads', async () => (await cluster.leaderOf(others)) !== SPARED);
        cluster.signalControl(SPARED, 'SIGCONT');
        continue;
      }
      kills++;
      await cluster.kill(leader);
      await cluster.start(leader);
      await cluster.ready();
      note(`killed ${leader}, ${kills} in all`);
      nextMs = Math.max(nextMs + PERIOD_MS, performance.now());
      await sleepUntilAborted(Math.max(0, Math.min(nextMs, endMs) - performance.now()), signal);
    }
    if (signal.aborted) return { kills, pauses, writes: 0, longestWriteMs: 0, violations: 0 };
    const { writes, longestWriteMs, problems } = await ended;
    for (const problem of problems) note(problem);
    if (kills < Math.floor(minutes * FEWEST_KILLS_A_MINUTE) || kills === 0)
      throw new Error(`this run proves little: ${kills} kills in ${minutes} minutes`);
    return { kills, pauses, writes, longestWriteMs, violations: problems.length };
  },
};
