/**
 * A cluster of real daemons, in a directory of its own, as `archipelago up` starts it. It ends with the test, and its directory goes.
 *
 *     const cluster = await startCluster();
 *     await cluster.json('volume', 'create', 'disk', '--size', '64M');
 *     cluster.kill('n2');
 *     await cluster.up();
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, onTestFinished } from 'vitest';
import { type Ended, run, runToEnd } from './processes.ts';
import { eventually } from './wait.ts';

const LAUNCHER = join(import.meta.dirname, '../../../bin/archipelago.js');
const LOG_TAIL_LINES = 25;
const LOG_LINE_CHARACTERS = 300;
/** On a busy machine. */
const UP_TIMEOUT_MS = 120_000;

export interface NodeEntry {
  readonly name: string;
  readonly peerId: string;
  readonly pid: number;
  readonly adminSocket: string;
  readonly nbdSocket: string;
  readonly httpUrl: string | null;
  readonly listen: string;
}

/** What `cluster status --json` says. */
export interface ClusterStatus {
  readonly leader: string | null;
  readonly term: number | string;
  readonly quorum: boolean;
  readonly volumes: number;
  readonly nodes: {
    readonly name: string;
    readonly role: string;
    readonly up: boolean;
    readonly lease: boolean;
    readonly volumes: number;
    readonly pids: { readonly control: number | null; readonly data: readonly number[] };
  }[];
  readonly store: { readonly kind: string; readonly location: string; readonly usedBytes: number; readonly availableBytes: number | null };
}

/** What `volume info --json` says. */
export interface VolumeInfo {
  readonly name: string;
  readonly id: string;
  readonly kind: 'volume' | 'snapshot' | 'image';
  readonly size: number;
  readonly blockSize: number;
  readonly origin: string | null;
  readonly owner: { readonly node: string; readonly epoch: string } | null;
  readonly clients: number;
  readonly allocatedBytes: number;
  readonly createdAt: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** What the CLI did: its exit status, and its JSON from standard output or, after a failure, from standard error. */
export interface CliResult extends Ended {
  readonly value: unknown;
  readonly error: { readonly code: string; readonly message: string; readonly hint?: string } | null;
}

export interface StartOptions {
  readonly nodes?: number;
  readonly store?: 'file' | 'memory';
  /** Called with the data directory before anything is in it. Steps given to `atEnd` run when the daemons are gone. */
  readonly prepare?: (directory: string, atEnd: (step: () => unknown) => void) => void | Promise<void>;
}

/** Starts a cluster and waits until it is ready. It ends with the test. */
export async function startCluster(options: StartOptions = {}): Promise<Cluster> {
  const cluster = await prepareCluster(options, (step) => onTestFinished(async () => void (await step())));
  // Runs first, before the logs go.
  onTestFinished(({ task }) => {
    if (task.result?.state === 'fail') console.error(cluster.logTails());
  });
  await cluster.up(...upArguments(options));
  return cluster;
}

/** For the tests of a suite together: to be called in its body. The cluster can be had once the tests run. */
export function shareCluster(options: StartOptions = {}): () => Cluster {
  let shared: Cluster | null = null;
  const steps: (() => unknown)[] = [];
  beforeAll(async () => {
    const cluster = await prepareCluster(options, (step) => steps.push(step));
    shared = cluster;
    await cluster.up(...upArguments(options));
  }, UP_TIMEOUT_MS);
  afterAll(async () => {
    for (const step of steps.reverse()) await step();
  });
  return () => {
    if (!shared) throw new Error('the cluster is there once the tests run');
    return shared;
  };
}

/** `atEnd` takes the steps of the clean-up, which run last one first. */
async function prepareCluster(options: StartOptions, atEnd: (step: () => unknown) => void): Promise<Cluster> {
  // Short: a socket's path has at most 107 bytes.
  const home = mkdtempSync(join(tmpdir(), 'e2e-'));
  atEnd(() => rmSync(home, { recursive: true, force: true }));
  const cluster = new Cluster(home);
  mkdirSync(cluster.directory);
  await options.prepare?.(cluster.directory, atEnd);
  atEnd(() => cluster.endEverything());
  return cluster;
}

function upArguments({ nodes, store }: StartOptions): string[] {
  return [...(nodes ? ['--nodes', String(nodes)] : []), ...(store ? ['--store', store] : [])];
}

export class Cluster {
  /** The working directory of its commands, which find the cluster there by themselves. */
  private readonly home: string;
  /** What `--data` names. */
  readonly directory: string;

  /** Use `startCluster`. */
  constructor(home: string) {
    this.home = home;
    this.directory = join(home, 'archipelago-data');
  }

  // ---- nodes ----

  /** As `cluster.json` has them, so with the pids of the last `up`. */
  get nodes(): readonly NodeEntry[] {
    const file = join(this.directory, 'cluster.json');
    if (!existsSync(file)) return [];
    return (JSON.parse(readFileSync(file, 'utf8')) as { nodes: NodeEntry[] }).nodes;
  }

  get names(): readonly string[] {
    return this.nodes.map(({ name }) => name);
  }

  node(name: string): NodeEntry {
    const node = this.nodes.find((each) => each.name === name);
    if (!node) throw new Error(`the cluster has no node ${name}`);
    return node;
  }

  /** `archipelago up` on the directory: starts what does not run. Resolves when the cluster is ready. */
  async up(...args: readonly string[]): Promise<void> {
    await run(process.execPath, [LAUNCHER, 'up', '--data', this.directory, '--detach', '--json', ...args]);
  }

  /** A clean stop of all nodes. */
  async down(): Promise<void> {
    await run(process.execPath, [LAUNCHER, 'down', '--data', this.directory, '--json']);
  }

  /** Signals the process group of a node: its control and its data process. */
  signal(name: string, signal: NodeJS.Signals): void {
    process.kill(-this.node(name).pid, signal);
  }

  /** SIGKILLs a node's process group. It is gone when this resolves. */
  async kill(...names: readonly string[]): Promise<void> {
    const groups = names.map((name) => this.node(name).pid);
    for (const group of groups) signalOrNone(-group, 'SIGKILL');
    for (const group of groups) await eventually(`process group ${group} is gone`, () => groupMembers(group).length === 0);
  }

  /** A clean stop of one node. It is gone when this resolves. */
  async terminate(name: string): Promise<void> {
    const { pid } = this.node(name);
    process.kill(pid, 'SIGTERM');
    await eventually(`node ${name} has stopped`, () => groupMembers(pid).length === 0);
  }

  killAll(): Promise<void> {
    return this.kill(...this.names);
  }

  /** SIGKILLs whatever was started for this directory, whether `cluster.json` knows of it or not. */
  async endEverything(): Promise<void> {
    await eventually('all processes of the cluster are gone', () => {
      const processes = processesNaming(this.directory);
      for (const { pid, group } of processes) signalOrNone(pid === group ? -group : pid, 'SIGKILL');
      return processes.length === 0;
    });
  }

  /** The data process of a node, told without asking the node. */
  dataPid(name: string): number | null {
    const { pid } = this.node(name);
    return groupMembers(pid).find((member) => member.pid !== pid)?.pid ?? null;
  }

  /** SIGKILLs a node's data process, which its control process replaces; resolves to its pid. */
  async killData(name: string): Promise<number> {
    const pid = await eventually(`node ${name} has a data process`, () => this.dataPid(name));
    process.kill(pid, 'SIGKILL');
    return pid;
  }

  // ---- the CLI ----

  /** Runs the CLI with `--json`. It talks to the first node that answers, or to `via`. */
  async cli(args: readonly string[], options: { via?: string; timeoutMs?: number } = {}): Promise<CliResult> {
    // Empty counts as unset, and hides what the surroundings say.
    const socket = options.via === undefined ? '' : this.node(options.via).adminSocket;
    const ended = await runToEnd(process.execPath, [LAUNCHER, ...args, '--json'], {
      directory: this.home,
      environment: { ARCHIPELAGO_SOCKET: socket },
      ...(options.timeoutMs === undefined ? {} : { signal: AbortSignal.timeout(options.timeoutMs) }),
    });
    const value = ended.status === 0 ? parsed(ended.stdout) : null;
    const failure = ended.status === 0 ? null : (parsed(ended.stderr.trim().split('\n').at(-1) ?? '') as { error?: CliResult['error'] } | null);
    return { ...ended, value, error: failure?.error ?? null };
  }

  /** Runs a command that has to succeed, and resolves to its JSON. */
  async json<Value>(...args: readonly string[]): Promise<Value> {
    return this.jsonVia<Value>(null, ...args);
  }

  /** The same at a certain node. */
  async jsonVia<Value>(via: string | null, ...args: readonly string[]): Promise<Value> {
    const result = await this.cli(args, via === null ? {} : { via });
    if (result.status !== 0) throw new Error(`archipelago ${args.join(' ')} ended with ${result.status}:\n${result.stdout}${result.stderr}`);
    return result.value as Value;
  }

  status(via: string | null = null): Promise<ClusterStatus> {
    return this.jsonVia<ClusterStatus>(via, 'cluster', 'status');
  }

  info(volume: string, via: string | null = null): Promise<VolumeInfo> {
    return this.jsonVia<VolumeInfo>(via, 'volume', 'info', volume);
  }

  /** Creates a volume, and makes `owner` its owner if one is named. */
  async createVolume(name: string, size: string, owner?: string): Promise<VolumeInfo> {
    await this.json('volume', 'create', name, '--size', size);
    if (owner !== undefined) await this.json('volume', 'migrate', name, '--to', owner);
    return this.info(name);
  }

  migrate(volume: string, to: string): Promise<{ from: string; to: string; epoch: string; pauseMs: number }> {
    return this.json('volume', 'migrate', volume, '--to', to);
  }

  async owner(volume: string): Promise<string | null> {
    return (await this.info(volume)).owner?.node ?? null;
  }

  /** The NBD URI of a volume at a node; made here, so that it can be had while the node is down. */
  uri(volume: string, node: string): string {
    return `nbd+unix:///${encodeURIComponent(volume)}?socket=${this.node(node).nbdSocket}`;
  }

  // ---- after a failure ----

  logTails(): string {
    const logs = existsSync(this.directory) ? readdirSync(this.directory).map((entry) => join(this.directory, entry, 'node.log')) : [];
    return logs
      .filter((log) => existsSync(log))
      .map(
        (log) =>
          `---- ${log}\n${readFileSync(log, 'utf8')
            .trimEnd()
            .split('\n')
            .slice(-LOG_TAIL_LINES)
            .map((line) => line.slice(0, LOG_LINE_CHARACTERS))
            .join('\n')}\n`,
      )
      .join('');
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** A negative `pid` names a process group. */
function signalOrNone(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

interface ProcessEntry {
  readonly pid: number;
  readonly group: number;
  readonly commandLine: string;
}

/** Those that have not ended; a zombie has. */
function livingProcesses(): ProcessEntry[] {
  return readdirSync('/proc').flatMap((entry): ProcessEntry[] => {
    if (!/^\d+$/.test(entry)) return [];
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8');
      const [state, , group] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (state === 'Z' || state === 'X') return [];
      return [{ pid: Number(entry), group: Number(group), commandLine: readFileSync(`/proc/${entry}/cmdline`, 'utf8') }];
    } catch {
      // It has just ended.
      return [];
    }
  });
}

function groupMembers(group: number): ProcessEntry[] {
  return livingProcesses().filter((each) => each.group === group);
}

/** Daemons and commands that name the directory, and all of the daemons' groups. */
function processesNaming(directory: string): ProcessEntry[] {
  const living = livingProcesses();
  const naming = living.filter(({ commandLine }) => commandLine.split('\0').some((part) => part === directory || part.startsWith(`${directory}/`)));
  const groups = new Set(naming.filter(({ pid, group }) => pid === group).map(({ group }) => group));
  return living.filter((each) => naming.includes(each) || groups.has(each.group));
}
