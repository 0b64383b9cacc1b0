/** A thread that runs worlds: for each seed that it is sent it answers with the outcome. A world is a function of its seed, wherever it runs. */
import { parentPort, workerData } from 'node:worker_threads';
import { runWorld } from './scenario.ts';
import { scenarioOf } from './scenarios.ts';

const { bug } = workerData as { bug: string | null };

parentPort?.on('message', ({ scenario, seed }: { scenario: string; seed: number }) => {
  void runWorld(scenarioOf(scenario), seed, bug).then((outcome) => parentPort?.postMessage(outcome));
});
