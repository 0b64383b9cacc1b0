/** Starts the real server before a service in memory, in a directory of its own, and asks it as a client would. */
import { mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLog } from '../../../src/base/index.ts';
import { type HttpServer, type HttpServerOptions, startHttpServer } from '../../../src/gateway/http/server.ts';
import { type MemoryAdmin, memoryAdmin } from './memory-admin.ts';

export interface Served {
  admin: MemoryAdmin;
  directory: string;
  socketPath: string;
  server: HttpServer;
  ready: boolean;
  stop(): Promise<void>;
}

export async function serve(options: Partial<HttpServerOptions> = {}): Promise<Served> {
  const directory = await mkdtemp(join(tmpdir(), 'arch-http-'));
  const socketPath = options.socketPath ?? join(directory, 'admin.sock');
  const admin = memoryAdmin();
  const served: Omit<Served, 'server'> = {
    admin,
    directory,
    socketPath,
    ready: true,
    async stop() {
      await server.close();
      await rm(directory, { recursive: true });
    },
  };
  const server = await startHttpServer({
    service: admin,
    socketPath,
    tcp: null,
    metrics: { contentType: 'text/plain; version=0.0.4', metrics: async () => 'archipelago_up 1\n' },
    isReady: () => served.ready,
    log: silentLog,
    version: '1.2.3',
    ...options,
  });
  return Object.assign(served, { server });
}

export interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: each test knows the form that it asked for.
  json: any;
}

/** `body` goes as it is when it is text, else as JSON. */
export function ask(where: string, method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
  const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
  const type: Record<string, string> = body === undefined || typeof body === 'string' ? {} : { 'content-type': 'application/json' };
  const target = where.startsWith('http') ? { host: new URL(where).hostname, port: new URL(where).port } : { socketPath: where };
  return new Promise((resolve, reject) => {
    const sent = request({ ...target, method, path, headers: { ...type, ...headers }, agent: false }, (response) => {
      let received = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        received += chunk;
      });
      response.once('error', reject);
      response.once('end', () => {
        const isJson = response.headers['content-type']?.includes('json') === true;
        resolve({ status: response.statusCode!, headers: response.headers, text: received, json: isJson ? JSON.parse(received) : undefined });
      });
    });
    sent.once('error', reject);
    sent.end(text);
  });
}
