/** A qcow2 file under qemu-nbd. */
import type { NbdClient } from '../../src/gateway/nbd/client.ts';
import { withNbd } from './nbd.ts';
import { nbdUri, startServer, stopServer } from './processes.ts';

let servers = 0;

export async function withQcow2<Result>(image: string, body: (client: NbdClient, uri: string) => Promise<Result>): Promise<Result> {
  const socket = `${image}.${servers++}.sock`;
  const server = await startServer('qemu-nbd', ['-f', 'qcow2', '-k', socket, '-t', '--cache=writeback', image], socket);
  try {
    const uri = nbdUri(socket);
    return await withNbd(uri, (client) => body(client, uri));
  } finally {
    await stopServer(server);
  }
}
