/** Reads qcow2 through qemu-nbd, a process of its own that serves the image on a socket that nobody else may use. */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { ArchipelagoError, type Clock } from '../../base/index.ts';
import { NbdClient } from '../nbd/client.ts';
import type { ImageSource } from '../nbd/copy.ts';
import { nbdSource } from '../nbd/images.ts';

const START_TIMEOUT_MS = 15_000;
const POLL_MS = 20;

export async function qcow2Source(path: string, clock: Clock): Promise<ImageSource> {
  // 0700, so that the socket in it is ours alone.
  const directory = await mkdtemp(join(tmpdir(), 'archipelago-'));
  const socket = join(directory, 'nbd.sock');
  const server = startServer(resolve(path), socket);
  const stop = async () => {
    await server.stop();
    await rm(directory, { recursive: true, force: true });
  };
  try {
    const source = nbdSource(await connectWhenUp(socket, server, clock));
    return {
      ...source,
      async close() {
        await source.close();
        await stop();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

interface ServerProcess {
  /** Why it ended; null while it runs. */
  ended(): ArchipelagoError | null;
  stop(): Promise<void>;
}

function startServer(path: string, socket: string): ServerProcess {
  // A process group of its own: Ctrl-C on the terminal is for us, and we stop it when we are done.
  const child = spawn('qemu-nbd', ['--read-only', '--format=qcow2', '--shared=8', `--socket=${socket}`, path], {
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  });
  let ended: ArchipelagoError | null = null;
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(-2_000);
  });
  const gone = new Promise<void>((resolveGone) => {
    child.once('error', (error: NodeJS.ErrnoException) => {
      const missing = error.code === 'ENOENT';
      ended = missing
        ? new ArchipelagoError('unavailable', 'qcow2 needs the program qemu-nbd, which is not installed', {
            cause: error,
            hint: 'apt-get install qemu-utils',
          })
        : ArchipelagoError.from(error, 'starting qemu-nbd');
      resolveGone();
    });
    child.once('close', () => {
      ended ??= new ArchipelagoError('invalid-argument', `qemu-nbd cannot serve ${path}: ${complaint.trim().replace(/^qemu-nbd: /, '')}`);
      resolveGone();
    });
  });
  return {
    ended: () => ended,
    async stop() {
      if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
      await gone;
    },
  };
}

async function connectWhenUp(socket: string, server: ServerProcess, clock: Clock): Promise<NbdClient> {
  const deadline = clock.nowMs() + START_TIMEOUT_MS;
  for (;;) {
    try {
      return await NbdClient.connect({ socket, exportName: '' });
    } catch (error) {
      const ended = server.ended();
      if (ended !== null) throw ended;
      if (clock.nowMs() >= deadline) throw new ArchipelagoError('timeout', 'qemu-nbd does not answer', { cause: error });
      await new Promise<void>((resolveLater) => {
        clock.setTimer(POLL_MS, resolveLater);
      });
    }
  }
}
