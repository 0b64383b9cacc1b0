/** Keeps two commands from working on one data directory at the same time. */
import { createHash } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { createServer } from 'node:net';
import { ArchipelagoError } from '../../base/index.ts';

/**
 * An abstract Unix socket: taking the name is atomic, and the kernel frees it when the process dies, however it dies. The returned function
 * gives the lock back.
 */
export async function lockDirectory(directory: string): Promise<() => Promise<void>> {
  const digest = createHash('sha256').update(realpathSync(directory)).digest('hex').slice(0, 32);
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const hint = 'wait until it is done';
      const busy = new ArchipelagoError('in-use', `another \`archipelago up\` or \`down\` works on ${directory}`, { cause: error, hint });
      reject(error.code === 'EADDRINUSE' ? busy : error);
    });
    server.listen({ path: `\0archipelago-${digest}`, exclusive: true }, resolve);
  });
  // The lock alone keeps nothing alive.
  server.unref();
  return () => new Promise((resolve) => server.close(() => resolve()));
}
