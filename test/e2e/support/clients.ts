/** Real clients other than fio: qemu-io, nbdcopy, nbdsh, and the CLI with its streams in the test's hands. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { Cluster } from './cluster.ts';
import { type Ended, LAUNCHER, run, runToEnd } from './processes.ts';
import { eventually } from './wait.ts';

/** Administrators' programs such as mke2fs are not on every user's PATH. */
export const ADMIN_PATH = { PATH: `${process.env['PATH'] ?? ''}${delimiter}/usr/sbin${delimiter}/sbin` };

/** A directory of the test's own. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'e2e-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** The SHA-256 of all that a client reads there. */
export async function checksum(uri: string): Promise<string> {
  return (await run('bash', ['-c', 'set -o pipefail; nbdcopy -- "$0" - | sha256sum', uri])).slice(0, 64);
}

/** qemu-io's commands, each of which has to succeed. */
export async function qemuIo(uri: string, ...commands: string[]): Promise<void> {
  const { status, stdout, stderr } = await tryQemuIo(uri, ...commands);
  // It goes on after a failure, and older ones end with 0 all the same.
  if (status !== 0 || /failed|error/i.test(stdout + stderr)) throw new Error(`qemu-io ${commands.join('; ')}:\n${stdout}${stderr}`);
}

export function tryQemuIo(uri: string, ...commands: string[]): Promise<Ended> {
  // Else it wants to write, and a snapshot does not let it.
  const mode = commands.every((command) => command.startsWith('read ')) ? ['-r'] : [];
  return runToEnd('qemu-io', ['-f', 'raw', ...mode, ...commands.flatMap((command) => ['-c', command]), uri]);
}

/** A Python program in which `h` is a libnbd handle that is connected to `uri`; resolves to what it prints. */
export function nbdsh(uri: string, program: string): Promise<string> {
  return run('nbdsh', ['--uri', uri, '-c', program]);
}

/** Says of each of the images whether qemu-img finds it equal to `file`. */
export async function compare(file: string, ...uris: string[]): Promise<string[]> {
  const ends = await Promise.all(uris.map((uri) => runToEnd('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', file, uri])));
  return ends.map(({ stdout, stderr }) => (stdout + stderr).trim());
}

export interface StartedCli {
  readonly child: ChildProcess;
  readonly ended: Promise<{ readonly status: number | null; readonly signal: NodeJS.Signals | null; readonly stderr: string }>;
}

/** Starts the CLI at node n1, with a pipe at its standard input. The test's end kills it. */
export function startCli(cluster: Cluster, ...args: string[]): StartedCli {
  const child = spawn(process.execPath, [LAUNCHER, ...args, '--json', '--socket', cluster.node('n1').adminSocket], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  child.stdin.on('error', () => undefined);
  child.stdout.resume();
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = new Promise<Awaited<StartedCli['ended']>>((resolve) => {
    child.once('close', (status, signal) => resolve({ status, signal, stderr }));
  });
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return { child, ended };
}

/** Runs the CLI at node n1 in a shell's pipeline, where `archipelago` is it, and "$1" and so on are `args`. */
export function pipeline(cluster: Cluster, script: string, ...args: string[]): Promise<Ended> {
  const words = `set -o pipefail; archipelago() { "$NODE" "$LAUNCHER" "$@"; }; ${script}`;
  const environment = { NODE: process.execPath, LAUNCHER, ARCHIPELAGO_SOCKET: cluster.node('n1').adminSocket };
  return runToEnd('bash', ['-c', words, 'bash', ...args], { environment });
}

/** Serves a file with nbdkit until the test ends. */
export async function nbdkit(...args: string[]): Promise<string> {
  const directory = temporaryDirectory();
  const [socket, pidFile] = [join(directory, 'nbd.sock'), join(directory, 'pid')];
  const server = spawn('nbdkit', ['--foreground', `--unix=${socket}`, `--pidfile=${pidFile}`, ...args], { stdio: 'ignore' });
  const ended = new Promise((resolve) => server.once('close', resolve));
  onTestFinished(async () => {
    server.kill('SIGKILL');
    await ended;
  });
  await eventually('nbdkit serves', () => existsSync(pidFile));
  return `nbd+unix:///?socket=${socket}`;
}
