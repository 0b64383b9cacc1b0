/** Ports for the nodes of one host, chosen once and kept in node.toml. */
import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/** Below the range from which the system takes the ports of outgoing connections, so that none of those has ours when a node starts again. */
const FIRST_PORT = 20_000;
const LAST_PORT = 32_767;
const MAX_TRIES = 1_000;

export async function freePorts(count: number, host: string): Promise<number[]> {
  const found = new Set<number>();
  for (let tries = 0; found.size < count; tries++) {
    if (tries === MAX_TRIES) throw new Error(`found no ${count} free ports from ${FIRST_PORT} to ${LAST_PORT} on ${host}`);
    const port = randomInt(FIRST_PORT, LAST_PORT + 1);
    if (await isFree(host, port)) found.add(port);
  }
  return [...found];
}

export function isFree(host: string, port: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(false);
      else reject(error);
    });
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}
