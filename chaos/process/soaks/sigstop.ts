/**
 * Three daemons under I/O, of which one after the other stands still for half a second to ten: its whole process group, or its control process
 * alone. Two volumes are written and verified from two nodes, which are paused like any other, owners and forwarders alike. The I/O gets slower,
 * and nothing else.
 */
import { Prng } from '../../../src/base/index.ts';
import { prepareCluster } from '../cluster.ts';
import { startLoads } from '../io.ts';
import type { Soak } from '../soak.ts';
import { sleep, sleepUntilAborted } from '../wait.ts';

const MIN_PAUSE_MS = 500;
const MAX_PAUSE_MS = 10_000;
/** Until the next one. Often too short for the cluster to have come to rest. */
const MIN_GAP_MS = 200;
const MAX_GAP_MS = 3_000;
/** With fewer a run proves nothing. */
const FEWEST_PAUSES_A_MINUTE = 2;

export const soak: Soak = {
  name: 'sigstop',
  summary: 'random daemons paused for 0.5 to 10 s, whole or their control process alone, under I/O from two nodes: nothing but slower I/O',
  minutes: 5,
  async run({ minutes, seed, note, atEnd, signal }) {
    const prng = new Prng(seed);
    const cluster = await prepareCluster(atEnd);
    await cluster.up();
    const endMs = performance.now() + minutes * 60_000;
    const { ended } = await startLoads(cluster, atEnd, Math.ceil(minutes * 60), [
      { volume: 'left', owner: 'n1', node: 'n1' },
      { volume: 'right', owner: 'n1', node: 'n2' },
    ]);
    const pauses = { whole: 0, control: 0 };
    while (performance.now() < endMs && !signal.aborted) {
      const node = cluster.names[prng.below(cluster.names.length)] as string;
      const kind = prng.chance(0.5) ? 'whole' : 'control';
      const pauseMs = MIN_PAUSE_MS + prng.below(MAX_PAUSE_MS - MIN_PAUSE_MS);
      const gapMs = MIN_GAP_MS + prng.below(MAX_GAP_MS - MIN_GAP_MS);
      const send = (which: 'SIGSTOP' | 'SIGCONT') => (kind === 'whole' ? cluster.signal(node, which) : cluster.signalControl(node, which));
      send('SIGSTOP');
      await sleepUntilAborted(pauseMs, signal);
      send('SIGCONT');
      pauses[kind]++;
      note(`${node} stood still for ${pauseMs} ms, ${kind === 'whole' ? 'with all its processes' : 'its control process alone'}`);
      await sleep(gapMs);
    }
    const count = pauses.whole + pauses.control;
    if (signal.aborted) return { ...pauses, writes: 0, longestWriteMs: 0, violations: 0 };
    const { writes, longestWriteMs, problems } = await ended;
    for (const problem of problems) note(problem);
    if (pauses.whole === 0 || pauses.control === 0 || count < minutes * FEWEST_PAUSES_A_MINUTE)
      throw new Error(`this run proves little: ${pauses.whole} and ${pauses.control} pauses in ${minutes} minutes`);
    return { ...pauses, writes, longestWriteMs, violations: problems.length };
  },
};
