/** `archipelago down`, and the end of an `up` in the foreground. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ArchipelagoError } from '../../base/index.ts';
import { type ClusterEnvironment, inspect, pause, runningDaemon, type Stopped, sleep, stopDaemons } from './daemons.ts';
import { presentNodes, readDirectoryFile, removeClusterFile, wasRemoved } from './layout.ts';
import { lockDirectory } from './lock.ts';

const WATCH_MS = 500;
const LOCK_TIMEOUT_MS = 60_000;

/** Stops what runs; nothing running is no failure. */
export async function down(directory: string, environment: ClusterEnvironment): Promise<Stopped[]> {
  const shape = existsSync(directory) ? readDirectoryFile(directory) : null;
  if (shape === null) throw new ArchipelagoError('not-found', `${directory} holds no cluster`, { hint: 'name its directory with --data' });
  const unlock = await lockDirectory(directory);
  try {
    const stopped = await stopDaemons(inspect(directory, shape), environment);
    removeClusterFile(directory);
    return stopped;
  } finally {
    await unlock();
  }
}

/**
 * The second half of an `up` in the foreground: says so when a daemon dies, and stops the rest when `signal` aborts. Fails when all of them
 * died and nobody had asked for it.
 */
export async function watch(directory: string, environment: ClusterEnvironment, signal: AbortSignal): Promise<Stopped[]> {
  const { clock, note } = environment;
  const nodes = presentNodes(directory, readDirectoryFile(directory)!);
  const dead = new Set<string>();
  while (!signal.aborted) {
    await pause(clock, WATCH_MS, signal);
    const gone = nodes.filter((paths) => runningDaemon(paths) === null);
    if (gone.length === nodes.length) return ended(directory, environment);
    for (const { name, log, pid, directory: home } of gone) {
      // A `down` takes the pid file away with the daemon.
      if (dead.has(name) || signal.aborted || !existsSync(pid)) continue;
      dead.add(name);
      if (wasRemoved(home)) note(`node ${name} was removed from the cluster; ${home} can be deleted`);
      else note(`node ${name} has ended; see ${log}. \`archipelago up --data ${directory}\` starts it again`);
    }
    for (const name of dead) if (!gone.some((paths) => paths.name === name)) dead.delete(name);
  }
  return downWhenFree(directory, environment);
}

/** All are gone: by a `down` elsewhere, which takes `cluster.json` away before it gives up its lock, or by themselves. */
async function ended(directory: string, environment: ClusterEnvironment): Promise<Stopped[]> {
  const stopped = existsSync(join(directory, 'cluster.json')) ? await withoutDown(directory, environment) : [];
  if (stopped === null)
    throw new ArchipelagoError('io-error', 'all nodes have ended by themselves', { hint: `see the logs in ${directory}/*/node.log` });
  return stopped;
}

async function withoutDown(directory: string, environment: ClusterEnvironment): Promise<Stopped[] | null> {
  const unlock = await lockWhenFree(directory, environment);
  try {
    if (!existsSync(join(directory, 'cluster.json'))) return [];
    removeClusterFile(directory);
    return null;
  } finally {
    await unlock();
  }
}

/** Another command may just hold the lock; Ctrl-C waits for it. */
async function downWhenFree(directory: string, environment: ClusterEnvironment): Promise<Stopped[]> {
  const unlock = await lockWhenFree(directory, environment);
  await unlock();
  return down(directory, environment);
}

async function lockWhenFree(directory: string, { clock }: ClusterEnvironment): Promise<() => Promise<void>> {
  const deadline = clock.nowMs() + LOCK_TIMEOUT_MS;
  for (;;) {
    try {
      return await lockDirectory(directory);
    } catch (error) {
      if (!(error instanceof ArchipelagoError) || clock.nowMs() >= deadline) throw error;
      await sleep(clock, WATCH_MS);
    }
  }
}
