/** Child processes: run to their end, or ended with whoever started them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import type { AtEnd } from './ending.ts';

export const LAUNCHER = join(import.meta.dirname, '../../bin/archipelago.js');

export interface Ended {
  /** Null when a signal ended it. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly environment?: Readonly<Record<string, string>>;
  readonly directory?: string;
  readonly input?: string;
  /** Kills it; the promise still resolves. */
  readonly signal?: AbortSignal;
}

/** Runs a program to its end, whatever that is. */
export async function runToEnd(program: string, args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const child = spawn(program, args, {
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    cwd: options.directory,
    env: { ...process.env, ...options.environment },
  });
  let inputFailure: Error | null = null;
  child.stdin?.on('error', (error: NodeJS.ErrnoException) => {
    // A program may end without having read all of it.
    if (error.code !== 'EPIPE' && error.code !== 'ECONNRESET') inputFailure = error;
  });
  child.stdin?.end(options.input);
  const kill = () => child.kill('SIGKILL');
  options.signal?.addEventListener('abort', kill);
  if (options.signal?.aborted) kill();
  const [stdout, stderr, status] = await Promise.all([textOf(child.stdout!), textOf(child.stderr!), endOf(child)]);
  options.signal?.removeEventListener('abort', kill);
  if (inputFailure !== null) throw inputFailure;
  return { status, stdout, stderr };
}

/** Runs a program that has to succeed, and resolves to what it printed. */
export async function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { status, stdout, stderr } = await runToEnd(program, args, options);
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${status}:\n${stdout}${stderr}`);
  return stdout;
}

/** A program that runs beside whoever starts it. The end kills it. */
export function runBeside(atEnd: AtEnd, program: string, args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const controller = new AbortController();
  const ended = runToEnd(program, args, { ...options, signal: controller.signal });
  // A failure to start is heard by whoever awaits it, and by all at the end.
  ended.catch(() => undefined);
  atEnd(async () => {
    controller.abort();
    await ended;
  });
  return ended;
}

async function textOf(stream: NodeJS.ReadableStream): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of stream) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString('utf8');
}

function endOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
}
