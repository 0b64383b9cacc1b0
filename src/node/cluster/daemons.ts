/** Starting and stopping the daemons of one data directory. */
import { spawn } from 'node:child_process';
import { existsSync, rmSync, statSync } from 'node:fs';
import { ArchipelagoError, type Clock } from '../../base/index.ts';
import { loadConfig, type NodeConfig } from '../config.ts';
import { type DirectoryFile, type NodePaths, presentNodes } from './layout.ts';
import { isFree } from './ports.ts';
import * as processes from './processes.ts';

const POLL_MS = 20;
/** How long what a killed node leaves behind may take to go: its data process ends by itself, and its ports are free then. */
const LEFTOVER_MS = 5_000;
/** A process that was killed keeps its ports until its last write to the disk has ended. */
const PORTS_FREE_MS = 30_000;
/** A clean stop hands ownerships over and flushes; what takes longer than this hangs. */
export const STOP_TIMEOUT_MS = 30_000;
const LOG_TAIL_LINES = 12;

export interface ClusterEnvironment {
  clock: Clock;
  /** The command line of a daemon, without `node start --config FILE`. */
  command: readonly string[];
  /** Tells people what goes on. */
  note(line: string): void;
}

export interface Node {
  paths: NodePaths;
  config: NodeConfig;
  /** Null when it does not run. */
  running: processes.ProcessIdentity | null;
}

/** A daemon that this process started. */
export interface Daemon {
  node: Node;
  identity: processes.ProcessIdentity;
  /** How it ended, with the end of what it logged; null while it runs. */
  failure(): ArchipelagoError | null;
}

export interface Stopped {
  name: string;
  pid: number;
  /** It did not stop in time and was killed. */
  killed: boolean;
}

export function sleep(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => {
    clock.setTimer(ms, resolve);
  });
}

/** Like `sleep`, and ends at once when `signal` aborts. Leaves no listener behind, however often it is called. */
export function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      timer.cancel();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = clock.setTimer(ms, done);
    if (signal.aborted) done();
    else signal.addEventListener('abort', done);
  });
}

/** The process of a node, if it runs. */
export function runningDaemon(paths: NodePaths): processes.ProcessIdentity | null {
  const recorded = processes.readPidFile(paths.pid);
  return recorded !== null && processes.isRunning(recorded) ? recorded : null;
}

export function inspect(directory: string, shape: Pick<DirectoryFile, 'nodes' | 'joined'>): Node[] {
  return presentNodes(directory, shape).map((paths) => ({ paths, config: loadConfig(paths.config), running: runningDaemon(paths) }));
}

export async function startDaemon(node: Node, environment: ClusterEnvironment): Promise<Daemon> {
  const { paths, config } = node;
  const ranBefore = await clearLeftovers(node, environment);
  await checkPorts(node, environment.clock, ranBefore ? PORTS_FREE_MS : 0);
  for (const socket of [config.http.socket, config.nbd.socket]) rmSync(socket, { force: true });

  const logStart = existsSync(paths.log) ? statSync(paths.log).size : 0;
  const log = processes.openLog(paths.log);
  const [program, ...args] = [...environment.command, 'node', 'start', '--config', paths.config];
  const child = spawn(program!, args, { cwd: paths.directory, detached: true, stdio: ['ignore', log.descriptor, log.descriptor] });
  log.close();
  child.unref();
  let ended: string | null = null;
  child.once('error', (error) => {
    ended = `cannot be started: ${error.message}`;
  });
  child.once('exit', (code, signal) => {
    ended = signal === null ? `exited with status ${code}` : `was ended by ${signal}`;
  });
  // Not yet reaped, so that even a daemon that ended at once still has its start time.
  const identity = (child.pid === undefined ? null : processes.identityOf(child.pid)) ?? { pid: child.pid ?? 0, startTime: '', bootId: '' };
  if (identity.startTime !== '') processes.writePidFile(paths.pid, identity);
  return { node, identity, failure: () => (ended === null ? null : startFailure(node, ended, logStart)) };
}

function startFailure({ paths, config }: Node, ended: string, logStart: number): ArchipelagoError {
  const tail = processes.tailOf(paths.log, LOG_TAIL_LINES, logStart);
  const text = tail.length === 0 ? 'its log is empty' : `the end of its log:\n${tail.map((line) => `  ${line}`).join('\n')}`;
  const portInUse = tail.some((line) => line.includes('EADDRINUSE'));
  return new ArchipelagoError(portInUse ? 'in-use' : 'io-error', `node ${config.name} ${ended}; ${text}`, { hint: `see ${paths.log}` });
}

/** Children of a node that was killed end by themselves, but not within the same instant. False when there was nobody to leave anything. */
async function clearLeftovers({ paths, config }: Node, { clock, note }: ClusterEnvironment): Promise<boolean> {
  const recorded = processes.readPidFile(paths.pid);
  if (recorded === null) return false;
  const members = () => processes.groupMembers(recorded);
  if (!(await waitUntil(clock, LEFTOVER_MS, () => members().length === 0))) {
    const pids = members();
    note(`processes ${pids.join(', ')} of node ${config.name} outlived it; killing them`);
    for (const pid of pids) processes.signalProcess(pid, 'SIGKILL');
    await waitUntil(clock, LEFTOVER_MS, () => members().length === 0);
  }
  processes.removePidFile(paths.pid);
  return true;
}

/** So that the message names the key and the node, before anything was started. */
async function checkPorts({ paths, config }: Node, clock: Clock, timeoutMs: number): Promise<void> {
  const control = multiaddrPort(config.listen);
  const data = multiaddrPort(config.dataListen);
  const wanted = [
    { key: 'listen', where: control },
    { key: 'dataListen', where: data },
    { key: 'nbd.listen', where: config.nbd.listen },
    { key: 'http.listen', where: config.http.listen },
  ];
  for (const { key, where } of wanted) {
    if (where === null || where.port === 0) continue;
    const deadline = clock.nowMs() + timeoutMs;
    while (!(await isFree(where.host, where.port))) {
      if (clock.nowMs() >= deadline) {
        const hint = `stop the program that has it, or change '${key}' in ${paths.config}`;
        throw new ArchipelagoError('in-use', `port ${where.port} of node ${config.name} ('${key}') is in use`, { hint });
      }
      await sleep(clock, POLL_MS);
    }
  }
}

/** Null for names, which the daemon itself resolves. */
function multiaddrPort(address: string): { host: string; port: number } | null {
  const [, kind, host, , port] = address.split('/');
  return kind === 'ip4' || kind === 'ip6' ? { host: host!, port: Number(port) } : null;
}

/** Asks all to stop at once, and kills those that have not after the time allowed. */
export async function stopDaemons(nodes: readonly Node[], { clock, note }: ClusterEnvironment, timeoutMs = STOP_TIMEOUT_MS): Promise<Stopped[]> {
  const running = nodes.flatMap(({ paths, config, running }) => (running === null ? [] : [{ paths, name: config.name, identity: running }]));
  for (const { identity } of running) processes.signalProcess(identity.pid, 'SIGTERM');
  return Promise.all(
    running.map(async ({ paths, name, identity }) => {
      const members = () => processes.groupMembers(identity);
      const isGone = () => !processes.isRunning(identity) && members().length === 0;
      const stopped = await waitUntil(clock, timeoutMs, isGone);
      if (!stopped) {
        note(`node ${name} has not stopped within ${timeoutMs / 1000} s; killing it`);
        for (const pid of members()) processes.signalProcess(pid, 'SIGKILL');
        await waitUntil(clock, LEFTOVER_MS, isGone);
      }
      processes.removePidFile(paths.pid);
      return { name, pid: identity.pid, killed: !stopped };
    }),
  );
}

async function waitUntil(clock: Clock, timeoutMs: number, condition: () => boolean): Promise<boolean> {
  const deadline = clock.nowMs() + timeoutMs;
  while (!condition()) {
    if (clock.nowMs() >= deadline) return false;
    await sleep(clock, POLL_MS);
  }
  return true;
}
