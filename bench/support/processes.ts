/** Child processes of benchmarks: commands that run to their end, servers that are ended by pid, and a cluster of real daemons. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { AdminClient } from '../../src/gateway/http/client.ts';
import { systemClock } from '../../src/node/clock.ts';
import { nodePaths } from '../../src/node/cluster/layout.ts';
import { groupMembers, type ProcessIdentity, readPidFile, signalProcess } from '../../src/node/cluster/processes.ts';

const LAUNCHER = join(import.meta.dirname, '../../bin/archipelago.js');
const execute = promisify(execFile);

export async function run(command: string, args: readonly string[]): Promise<string> {
  const { stdout } = await execute(command, [...args], { maxBuffer: 64 << 20 });
  return stdout;
}

/** Runs `body` in a directory that is removed afterwards. */
export async function inDirectory<Result>(body: (directory: string) => Promise<Result>): Promise<Result> {
  const directory = mkdtempSync(join(tmpdir(), 'bench-'));
  try {
    return await body(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Starts a server and waits until its socket is there. */
export async function startServer(command: string, args: readonly string[], socket: string): Promise<ChildProcess> {
  const child = spawn(command, [...args], { stdio: ['ignore', 'ignore', 'inherit'] });
  const failed = once(child, 'exit').then(() => {
    throw new Error(`${command} ended before its socket was there`);
  });
  failed.catch(() => undefined); // looked at below, while it matters
  while (!existsSync(socket)) await Promise.race([failed, sleep(20)]);
  return child;
}

export async function stopServer(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  await exit;
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

export interface ClusterNode {
  readonly name: string;
  readonly pid: number;
  readonly adminSocket: string;
  readonly nbdSocket: string;
}

/** Three daemons with their data in the directory, and none when it resolves. */
export async function withCluster<Result>(directory: string, body: (cluster: BenchCluster) => Promise<Result>): Promise<Result> {
  const cluster = new BenchCluster(join(directory, 'data'));
  await cluster.up();
  try {
    return await body(cluster);
  } finally {
    await cluster.kill();
  }
}

export class BenchCluster {
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
  }

  async up(nodes = 3): Promise<void> {
    await run(process.execPath, [LAUNCHER, 'up', '--data', this.directory, '--nodes', String(nodes), '--detach', '--json']);
  }

  async down(): Promise<void> {
    await run(process.execPath, [LAUNCHER, 'down', '--data', this.directory, '--json']);
  }

  /** Whatever runs of it, paused or not, without a good-bye. It is gone when this resolves. */
  async kill(): Promise<void> {
    const daemons = this.nodes.map(({ name }) => this.processOf(name));
    for (const { name } of this.nodes) this.signal(name, 'SIGKILL');
    while (daemons.some((daemon) => groupMembers(daemon).length > 0)) await sleep(20);
  }

  /** The process that leads a node's group. */
  processOf(name: string): ProcessIdentity {
    const recorded = readPidFile(nodePaths(this.directory, name).pid);
    if (recorded === null) throw new Error(`node ${name} was not started, or was stopped`);
    return recorded;
  }

  /** Signals both processes of a node. */
  signal(name: string, signal: NodeJS.Signals): void {
    const daemon = this.processOf(name);
    // The pid of one that is gone may be somebody else's by now.
    if (groupMembers(daemon).length > 0) signalProcess(-daemon.pid, signal);
  }

  get nodes(): readonly ClusterNode[] {
    return (JSON.parse(readFileSync(join(this.directory, 'cluster.json'), 'utf8')) as { nodes: ClusterNode[] }).nodes;
  }

  /** Runs the CLI at a node, by its place. */
  async cli(node: number, ...args: readonly string[]): Promise<unknown> {
    const { adminSocket } = this.nodes[node] as ClusterNode;
    return JSON.parse(await run(process.execPath, [LAUNCHER, ...args, '--socket', adminSocket, '--json']));
  }

  /** The admin API of a node, without the start of a CLI. */
  admin(node: number): AdminClient {
    return new AdminClient((this.nodes[node] as ClusterNode).adminSocket, systemClock);
  }

  uri(node: number, volume: string): string {
    return nbdUri((this.nodes[node] as ClusterNode).nbdSocket, volume);
  }
}

export function nbdUri(socket: string, name = ''): string {
  return `nbd+unix:///${encodeURIComponent(name)}?socket=${socket}`;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}
