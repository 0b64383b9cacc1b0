/** Images in the formats of QEMU, through qemu-nbd: a process of its own that serves the image on a socket that nobody else may use. */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ArchipelagoError, type Clock } from '../../base/index.ts';
import { NbdClient } from '../nbd/client.ts';

const START_TIMEOUT_MS = 15_000;
const POLL_MS = 20;

export interface QemuImage {
  /** A path, or what else QEMU takes for one. */
  readonly image: string;
  readonly format: 'raw' | 'qcow2';
  readonly readOnly: boolean;
}

/** What it resolves to is put to use, and then closed with `close`, which stops qemu-nbd too. */
export async function serveImage(image: QemuImage, clock: Clock): Promise<{ client: NbdClient; close(): Promise<void> }> {
  // 0700, so that the socket in it is ours alone.
  const directory = await mkdtemp(join(tmpdir(), 'archipelago-'));
  const socket = join(directory, 'nbd.sock');
  const server = startServer(image, socket);
  const stop = async () => {
    await server.stop();
    await rm(directory, { recursive: true, force: true });
  };
  try {
    const client = await connectWhenUp(socket, server, clock);
    return {
      client,
      async close() {
        await client.close();
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

function startServer({ image, format, readOnly }: QemuImage, socket: string): ServerProcess {
  const access = readOnly ? ['--read-only'] : ['--discard=unmap'];
  // A process group of its own: Ctrl-C on the terminal is for us, and we stop it when we are done.
  const child = spawn('qemu-nbd', [...access, `--format=${format}`, '--shared=8', `--socket=${socket}`, image], {
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
      ended = cannotStart('qemu-nbd', error);
      resolveGone();
    });
    child.once('close', () => {
      ended ??= refused(`qemu-nbd cannot serve ${image}`, complaint);
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

/** Why a program of QEMU did not start. */
export function cannotStart(program: string, error: NodeJS.ErrnoException): ArchipelagoError {
  if (error.code !== 'ENOENT') return ArchipelagoError.from(error, `starting ${program}`);
  return new ArchipelagoError('unavailable', `the program ${program} is not installed`, { cause: error, hint: 'apt-get install qemu-utils' });
}

/** What a program of QEMU said before it ended, as an error. */
export function refused(what: string, complaint: string): ArchipelagoError {
  const said = `${what}: ${complaint.trim().replace(/^qemu-\w+: /, '')}`;
  if (/Unknown protocol 'rbd'/.test(complaint)) return new ArchipelagoError('unavailable', said, { hint: 'apt-get install qemu-block-extra' });
  return new ArchipelagoError(/No such file or directory/.test(complaint) ? 'not-found' : 'invalid-argument', said);
}
