/** Runs the real CLI as a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';

export const LAUNCHER = join(import.meta.dirname, '../../../bin/archipelago.js');

export interface Run {
  status: number | null;
  stdout: string;
  stderr: string;
  // biome-ignore lint/suspicious/noExplicitAny: each test knows the form that it asked for.
  json: any;
}

export interface RunOptions {
  socket?: string;
  cwd?: string;
  env?: Record<string, string>;
  input?: string | Uint8Array;
  launcher?: string;
  onStart?: (child: ChildProcess) => void;
}

/** `json` is standard output parsed, or the error on standard error. */
export function cli(args: readonly string[], options: RunOptions = {}): Promise<Run> {
  return bytesOf(args, options).then(({ stdout, ...rest }) => ({
    ...rest,
    stdout: stdout.toString('utf8'),
    json: parse(stdout.toString('utf8') || rest.stderr),
  }));
}

export function bytesOf(args: readonly string[], { socket, cwd = '/', env = {}, input, launcher = LAUNCHER, onStart }: RunOptions = {}) {
  const child = spawn(process.execPath, [launcher, ...args], {
    cwd,
    env: { PATH: process.env['PATH'], NO_COLOR: '1', COLUMNS: '80', ...(socket === undefined ? {} : { ARCHIPELAGO_SOCKET: socket }), ...env },
  });
  onStart?.(child);
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  return new Promise<{ status: number | null; stdout: Buffer; stderr: string }>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => resolve({ status, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString('utf8') }));
  });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Tables and scripts are no JSON.
    return undefined;
  }
}
