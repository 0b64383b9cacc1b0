/** The sockets of the HTTP server: the Unix socket that file permissions guard, and TCP behind a bearer token. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { rmSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import { type AddressInfo, createConnection, type ListenOptions } from 'node:net';
import { ArchipelagoError } from '../../base/index.ts';

const SOCKET_MODE = 0o660;
/** `sun_path` has 108 bytes, one of them for the final zero; longer paths would be cut silently. */
const MAX_SOCKET_PATH_BYTES = 107;

export interface TcpListen {
  host: string;
  port: number;
  token: string;
}

/** Refuses what the system would cut or refuse less clearly. */
export function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes <= MAX_SOCKET_PATH_BYTES) return;
  throw new ArchipelagoError('invalid-argument', `the socket path ${path} has ${bytes} bytes; at most ${MAX_SOCKET_PATH_BYTES} are possible`, {
    hint: 'use a data directory with a shorter path',
  });
}

export async function listenOnUnix(path: string, listener: RequestListener): Promise<Server> {
  checkSocketPath(path);
  const server = createServer(listener);
  try {
    await listen(server, { path });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw ArchipelagoError.from(error, `cannot listen on ${path}`);
    if (await someoneAnswers(path)) throw new ArchipelagoError('in-use', `another process serves ${path}`, { hint: 'stop it first', cause: error });
    // Left behind by a process that was killed.
    rmSync(path, { force: true });
    await listen(server, { path });
  }
  return server;
}

export async function listenOnTcp({ host, port, token }: TcpListen, listener: RequestListener): Promise<{ server: Server; url: string }> {
  const isRight = tokenCheck(token);
  const server = createServer((request, response) => {
    if (isRight(request.headers.authorization)) {
      listener(request, response);
      return;
    }
    const error = new ArchipelagoError('forbidden', 'the bearer token is missing or wrong', {
      hint: "send the header 'Authorization: Bearer TOKEN'",
    });
    const headers = { 'content-type': 'application/json', 'www-authenticate': 'Bearer', connection: 'close' };
    response.writeHead(error.httpStatus, headers).end(JSON.stringify({ error: error.toBody() }));
  });
  try {
    await listen(server, { host, port });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw ArchipelagoError.from(error, `cannot listen on ${host} port ${port}`);
    throw new ArchipelagoError('in-use', `port ${port} on ${host} is in use`, {
      hint: 'change http.listen in node.toml, or stop the other program',
      cause: error,
    });
  }
  const bound = (server.address() as AddressInfo).port;
  return { server, url: `http://${host.includes(':') ? `[${host}]` : host}:${bound}` };
}

/** Compares in a time that tells nothing of how much of the token was right. */
function tokenCheck(token: string): (header: string | undefined) => boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  const expected = digest(`Bearer ${token}`);
  return (header) => timingSafeEqual(digest(header ?? ''), expected);
}

function listen(server: Server, where: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    // A Unix socket is made within listen(), so that the mask keeps others out from its first moment on; chmod would come too late.
    const mask = process.umask(0o777 & ~SOCKET_MODE);
    try {
      server.listen(where, () => {
        server.removeListener('error', reject);
        resolve();
      });
    } finally {
      process.umask(mask);
    }
  });
}

function someoneAnswers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ path });
    const settle = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => settle(true));
    socket.once('error', () => settle(false));
  });
}
