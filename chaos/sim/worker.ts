/** A thread that runs worlds: for each seed that it is sent it answers with the outcome. A world is a function of its seed, wherever it runs. */
import { parentPort, workerData } from 'node:worker_threads';
import { runWorld } from './raft/outcome.ts';

const { bug } = workerData as { bug: string | null };

parentPort?.on('message', (seed: number) => {
  void runWorld(seed, bug).then((outcome) => parentPort?.postMessage(outcome));
});
