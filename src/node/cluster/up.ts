/** `archipelago up`: from a directory that may be empty to a cluster that answers. */
import { mkdirSync } from 'node:fs';
import { ArchipelagoError, type Clock } from '../../base/index.ts';
import { AdminClient, type ClusterView, checkSocketPath } from '../../gateway/index.ts';
import { type ClusterEnvironment, type Daemon, inspect, type Node, sleep, startDaemon, stopDaemons } from './daemons.ts';
import { type MakeIdentity, prepareDirectory, refuseOtherCeph, type WantedShape } from './directory.ts';
import {
  type ClusterFile,
  type DirectoryFile,
  NODE_COUNTS,
  nodeNames,
  nodePaths,
  wasRemoved,
  writeClusterFile,
  writeDirectoryFile,
} from './layout.ts';
import { lockDirectory } from './lock.ts';

const READY_TIMEOUT_MS = 60_000;
const PROBE_TIMEOUT_MS = 2_000;
const POLL_MS = 50;
export const FIRST_VOLUME = { name: 'first', size: 10 * 1024 ** 3 };

export interface UpRequest extends WantedShape {
  /** Absolute. */
  directory: string;
}

export interface UpEnvironment extends ClusterEnvironment {
  makeIdentity: MakeIdentity;
}

export interface UpResult {
  cluster: ClusterFile;
  leader: string;
  shape: DirectoryFile;
  /** Names of the nodes that this call started. */
  started: string[];
  madeFirstVolume: boolean;
}

/** `signal` stops a start that is under way; what it had started is stopped again. */
export async function up(request: UpRequest, environment: UpEnvironment, signal: AbortSignal): Promise<UpResult> {
  const { directory } = request;
  if (request.nodes !== null && !NODE_COUNTS.includes(request.nodes)) {
    throw new ArchipelagoError('invalid-argument', `--nodes is ${NODE_COUNTS.join(', ')}, not ${request.nodes}`, {
      hint: 'an even number survives no more failures than the odd one below it',
    });
  }
  checkSocketPaths(directory, request.nodes ?? 1);
  mkdirSync(directory, { recursive: true });
  const unlock = await lockDirectory(directory);
  try {
    const shape = await prepareDirectory(directory, request, environment.makeIdentity);
    checkSocketPaths(directory, shape.nodes);
    const nodes = inspect(directory, shape);
    if (nodes.length === 0) {
      throw new ArchipelagoError('not-found', `${directory} has no node any more`, { hint: 'restore its nodes, or use another --data directory' });
    }
    refuseOtherCeph(directory, request.ceph, nodes[0]!.config.store);
    return await start(directory, shape, nodes, environment, signal);
  } finally {
    await unlock();
  }
}

function checkSocketPaths(directory: string, count: number): void {
  // The longest name decides for the nodes that are not there yet.
  const { directory: home } = nodePaths(directory, nodeNames(count).at(-1)!);
  for (const socket of ['admin.sock', 'nbd.sock']) checkSocketPath(`${home}/${socket}`);
}

async function start(
  directory: string,
  shape: DirectoryFile,
  nodes: readonly Node[],
  environment: UpEnvironment,
  signal: AbortSignal,
): Promise<UpResult> {
  const missing = nodes.filter(({ running }) => running === null);
  if (missing.length === 0) {
    writeClusterFile(directory, clusterFileOf(nodes));
    throw new ArchipelagoError('already-running', `all ${nodes.length} nodes of ${directory} run already`, { hint: '`archipelago down` stops them' });
  }
  const daemons: Daemon[] = [];
  try {
    for (const node of missing) {
      const daemon = await startDaemon(node, environment);
      daemons.push(daemon);
      node.running = daemon.identity;
      if (signal.aborted) throw signal.reason;
    }
    const leader = await waitUntilReady(nodes, daemons, environment, signal);
    const members = nodes.filter(({ paths }) => !wasRemoved(paths.directory));
    const cluster = clusterFileOf(members);
    writeClusterFile(directory, cluster);
    const madeFirstVolume = !shape.firstVolumeMade;
    if (madeFirstVolume) {
      await makeFirstVolume(members[0]!, environment.clock, signal);
      writeDirectoryFile(directory, { ...shape, firstVolumeMade: true });
    }
    return { cluster, leader, shape, started: missing.filter((node) => members.includes(node)).map(({ config }) => config.name), madeFirstVolume };
  } catch (error) {
    await stopDaemons(
      daemons.map(({ node }) => node),
      environment,
    );
    throw error;
  }
}

function clusterFileOf(nodes: readonly Node[]): ClusterFile {
  return {
    nodes: nodes.map(({ config, running }) => ({
      name: config.name,
      peerId: (config.bootstrap ?? config.join)?.members.find(({ name }) => name === config.name)?.peerId ?? '',
      pid: running?.pid ?? 0,
      adminSocket: config.http.socket,
      nbdSocket: config.nbd.socket,
      httpUrl: config.http.listen === null ? null : `http://${config.http.listen.host}:${config.http.listen.port}`,
      listen: config.listen,
    })),
  };
}

/** Until every node answers, has a lease and knows the leader; resolves to its name. One that learns that it was removed ends, and is left out. */
async function waitUntilReady(
  nodes: readonly Node[],
  daemons: readonly Daemon[],
  { clock, note }: ClusterEnvironment,
  signal: AbortSignal,
): Promise<string> {
  const deadline = clock.nowMs() + READY_TIMEOUT_MS;
  const waiting = new Map(nodes.map((node) => [node.config.name, 'does not answer on its admin socket']));
  let leader = '';
  for (;;) {
    for (const daemon of daemons) {
      const failure = daemon.failure();
      if (failure === null) continue;
      const { name, directory } = daemon.node.paths;
      if (!wasRemoved(directory)) throw failure;
      if (waiting.delete(name)) note(`node ${name} was removed from the cluster; ${directory} can be deleted`);
    }
    for (const { config } of nodes.filter((node) => waiting.has(node.config.name))) {
      const state = await readiness(config.http.socket, clock);
      if ('leader' in state) {
        leader = state.leader;
        waiting.delete(config.name);
      } else waiting.set(config.name, state.lacks);
    }
    if (waiting.size === 0) return leader;
    if (signal.aborted) throw signal.reason;
    if (clock.nowMs() >= deadline) {
      const list = [...waiting].map(([name, lacks]) => `node ${name} ${lacks}`).join('; ');
      throw new ArchipelagoError('timeout', `the cluster is not ready after ${READY_TIMEOUT_MS / 1000} s: ${list}`, {
        hint: 'see node.log of each node',
      });
    }
    await sleep(clock, POLL_MS);
  }
}

async function readiness(socketPath: string, clock: Clock): Promise<{ leader: string } | { lacks: string }> {
  const client = new AdminClient(socketPath, clock);
  try {
    const { leader, quorum } = await client.call<ClusterView>('GET', '/v1/cluster', undefined, { timeoutMs: PROBE_TIMEOUT_MS });
    if (leader === null || !quorum) return { lacks: leader === null ? 'knows no leader' : 'has no quorum' };
    await client.call('GET', '/readyz', undefined, { timeoutMs: PROBE_TIMEOUT_MS });
    return { leader };
  } catch (error) {
    return { lacks: error instanceof Error ? `is not ready: ${error.message}` : 'is not ready' };
  }
}

async function makeFirstVolume(node: Node, clock: Clock, signal: AbortSignal): Promise<void> {
  const client = new AdminClient(node.config.http.socket, clock);
  const deadline = clock.nowMs() + READY_TIMEOUT_MS;
  for (;;) {
    try {
      await client.call('POST', '/v1/volumes', FIRST_VOLUME, { timeoutMs: READY_TIMEOUT_MS });
      return;
    } catch (error) {
      const { code } = ArchipelagoError.from(error, 'making the first volume');
      // An `up` before this one made it and was killed before it noted that.
      if (code === 'exists') return;
      // The leader may change in the first moments.
      if ((code !== 'unavailable' && code !== 'timeout') || signal.aborted || clock.nowMs() >= deadline) throw error;
      await sleep(clock, POLL_MS);
    }
  }
}
