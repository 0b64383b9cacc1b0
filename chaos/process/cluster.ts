/**
 * A cluster of real daemons, in a directory of its own, as `archipelago up` starts it, with what soaks and tests do to it.
 *
 *     const cluster = await prepareCluster(ending.add);
 *     await cluster.up('--nodes', '5');
 *     await cluster.kill('n2');
 *     await cluster.start('n2');
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ArchipelagoError } from '../../src/base/index.ts';
import { AdminClient } from '../../src/gateway/index.ts';
import { systemClock } from '../../src/node/clock.ts';
import { startDaemon } from '../../src/node/cluster/daemons.ts';
import { nodePaths } from '../../src/node/cluster/layout.ts';
import { groupMembers, isRunning, type ProcessIdentity, readPidFile, signalProcess } from '../../src/node/cluster/processes.ts';
import { loadConfig } from '../../src/node/config.ts';
import { CONTROL_NODE_FLAGS } from '../../src/node/runtime.ts';
import type { AtEnd } from './ending.ts';
import { type Ended, LAUNCHER, run, runToEnd } from './programs.ts';
import { eventually } from './wait.ts';

const LOG_TAIL_LINES = 25;
const LOG_LINE_CHARACTERS = 300;
/** A node that does not answer within this is paused, or as good as. */
const ANSWER_TIMEOUT_MS = 500;
/** On a busy machine. */
const READY_TIMEOUT_MS = 60_000;

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

/** Called with the data directory before anything is in it. Steps given to `atEnd` run when the daemons are gone. */
export type PrepareDirectory = (directory: string, atEnd: AtEnd) => void | Promise<void>;

/** Makes the directory; nothing runs yet. `atEnd` takes the steps of the clean-up, which have to run last one first. */
export async function prepareCluster(atEnd: AtEnd, prepare?: PrepareDirectory): Promise<Cluster> {
  // Short: a socket's path has at most 107 bytes.
  const home = mkdtempSync(join(tmpdir(), 'e2e-'));
  atEnd(() => rmSync(home, { recursive: true, force: true }));
  const cluster = new Cluster(home);
  mkdirSync(cluster.directory);
  await prepare?.(cluster.directory, atEnd);
  atEnd(() => cluster.endEverything());
  return cluster;
}

/** The same, with its daemons started. */
export async function startCluster(atEnd: AtEnd, ...upArguments: readonly string[]): Promise<Cluster> {
  const cluster = await prepareCluster(atEnd);
  await cluster.up(...upArguments);
  return cluster;
}

export class Cluster {
  /** The working directory of its commands, which find the cluster there by themselves. */
  private readonly home: string;
  /** What `--data` names. */
  readonly directory: string;

  /** Use `prepareCluster`. */
  constructor(home: string) {
    this.home = home;
    this.directory = join(home, 'archipelago-data');
  }

  // ---- nodes ----

  /** As `cluster.json` has them, so with the pids of the last `up`: `start` does not change it. */
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

  /** Starts one node that does not run, and does not wait for it; see `ready`. */
  async start(name: string): Promise<void> {
    const paths = nodePaths(this.directory, name);
    const node = { paths, config: loadConfig(paths.config), running: null };
    await startDaemon(node, { clock: systemClock, command: [process.execPath, ...CONTROL_NODE_FLAGS, LAUNCHER], note: () => undefined });
  }

  /** Resolves when all nodes, or those named, answer, know a leader and own under the registry's word. */
  async ready(...names: readonly string[]): Promise<void> {
    for (const name of names.length > 0 ? names : this.names) {
      await eventually(
        `node ${name} is ready`,
        async () => {
          try {
            await this.admin(name).call('GET', '/readyz', undefined, { timeoutMs: ANSWER_TIMEOUT_MS });
            return (await this.leader(name)) !== null;
          } catch (error) {
            // Not yet; the wait says which node it was. Anything else will not get better by waiting.
            if (error instanceof ArchipelagoError && (error.code === 'unavailable' || error.code === 'timeout')) return false;
            throw error;
          }
        },
        READY_TIMEOUT_MS,
      );
    }
  }

  /** Whom a node believes to be the leader. */
  async leader(via: string): Promise<string | null> {
    const { leader } = await this.admin(via).call<ClusterStatus>('GET', '/v1/cluster', undefined, { timeoutMs: 4 * ANSWER_TIMEOUT_MS });
    return leader;
  }

  /** The same, as the first of these says that answers and knows one. */
  async leaderOf(names: readonly string[]): Promise<string | null> {
    for (const via of names) {
      // One that is paused or dead does not say; the next may.
      const leader = await this.leader(via).catch(() => null);
      if (leader !== null) return leader;
    }
    return null;
  }

  /** For requests without the CLI, which is a process each time. */
  admin(name: string): AdminClient {
    return new AdminClient(this.node(name).adminSocket, systemClock);
  }

  /** Signals the process group of a node: its control and its data process. */
  signal(name: string, signal: NodeJS.Signals): void {
    const daemon = this.daemon(name);
    // The pid of one that is gone may be somebody else's by now.
    if (groupMembers(daemon).length > 0) signalProcess(-daemon.pid, signal);
  }

  /** Signals the control process alone. */
  signalControl(name: string, signal: NodeJS.Signals): void {
    const daemon = this.daemon(name);
    if (isRunning(daemon)) signalProcess(daemon.pid, signal);
  }

  /** SIGKILLs a node's process group. It is gone when this resolves. */
  async kill(...names: readonly string[]): Promise<void> {
    for (const name of names) this.signal(name, 'SIGKILL');
    for (const name of names) await this.gone(name);
  }

  /** SIGKILLs the control process alone, with which the data process ends. Both are gone when this resolves. */
  async killControl(name: string): Promise<void> {
    this.signalControl(name, 'SIGKILL');
    await this.gone(name);
  }

  /** A clean stop of one node. It is gone when this resolves. */
  async terminate(name: string): Promise<void> {
    this.signalControl(name, 'SIGTERM');
    await this.gone(name);
  }

  killAll(): Promise<void> {
    return this.kill(...this.names);
  }

  private async gone(name: string): Promise<void> {
    const daemon = this.daemon(name);
    await eventually(`the processes of node ${name} are gone`, () => groupMembers(daemon).length === 0);
  }

  /** The process that leads a node's group, by its pid file: whoever started it last wrote that. */
  private daemon(name: string): ProcessIdentity {
    const recorded = readPidFile(nodePaths(this.directory, name).pid);
    if (recorded === null) throw new Error(`node ${name} was not started, or was stopped`);
    return recorded;
  }

  /** SIGKILLs whatever was started for this directory, whether it is known of or not. */
  async endEverything(): Promise<void> {
    await eventually('all processes of the cluster are gone', () => this.killWhatLives() === 0);
  }

  /** The same without waiting, for the moment in which this process exits. Resolves to how many there were. */
  killWhatLives(): number {
    const processes = processesNaming(this.directory);
    for (const { pid, group } of processes) signalProcess(pid === group ? -group : pid, 'SIGKILL');
    return processes.length;
  }

  /** The data process of a node, told without asking the node. */
  dataPid(name: string): number | null {
    const daemon = this.daemon(name);
    return groupMembers(daemon).find((member) => member !== daemon.pid) ?? null;
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

/** Daemons and commands that name the directory, and all of the daemons' groups. */
function processesNaming(directory: string): ProcessEntry[] {
  const living = livingProcesses();
  const naming = living.filter(({ commandLine }) => commandLine.split('\0').some((part) => part === directory || part.startsWith(`${directory}/`)));
  const groups = new Set(naming.filter(({ pid, group }) => pid === group).map(({ group }) => group));
  return living.filter((each) => naming.includes(each) || groups.has(each.group));
}
