/** The other end of the admin socket, for the CLI and for `up`. Imports nothing heavy: each run of the CLI pays for it. */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { ArchipelagoError, type Clock, type ErrorBody } from '../../base/index.ts';
import type { VolumeView } from '../admin.ts';

type Method = 'GET' | 'POST' | 'DELETE';

/** What a failure is told of. */
interface Asked {
  readonly socketPath: string;
  readonly method: Method;
}

export interface ImportSession {
  volume: VolumeView & { uri: string };
  /** Aborts when the node ends the import from its side; never after `close`. */
  lost: AbortSignal;
  /** Ends the connection; an import that is not finished is removed by that. */
  close(): void;
}

export class AdminClient {
  readonly socketPath: string;
  readonly #clock: Clock;

  constructor(socketPath: string, clock: Clock) {
    this.socketPath = socketPath;
    this.#clock = clock;
  }

  /** The JSON of the answer. Waits as long as it takes, unless a time is given: checks and migrations may be long. */
  async call<T>(method: Method, path: string, body?: unknown, options: { timeoutMs?: number } = {}): Promise<T> {
    const request = this.#request(method, path, body);
    const asked = { socketPath: this.socketPath, method };
    const timer = options.timeoutMs === undefined ? null : this.#cutAfter(request, options.timeoutMs, `${method} ${path}`);
    try {
      const response = await responseTo(request, asked);
      const text = await readAll(response, asked);
      return decode(response, text, this.socketPath) as T;
    } finally {
      timer?.cancel();
    }
  }

  /** Whether a node answers there, within the time. */
  async answers(timeoutMs: number): Promise<boolean> {
    try {
      await this.call('GET', '/healthz', undefined, { timeoutMs });
      return true;
    } catch {
      // Absent, refused, silent or no node at all: in each case not one to talk to.
      return false;
    }
  }

  async openImport(body: { name: string; size: number; blockSize?: number }): Promise<ImportSession> {
    const request = this.#request('POST', '/v1/imports', body);
    const asked = { socketPath: this.socketPath, method: 'POST' } as const;
    const response = await responseTo(request, asked);
    if (response.statusCode !== 201) decode(response, await readAll(response, asked), this.socketPath);
    const line = await firstLine(response, asked);
    const lost = new AbortController();
    const onEnd = () => lost.abort(new ArchipelagoError('unavailable', 'the node ended the import', { hint: 'see its log, and try again' }));
    response.on('error', onEnd).on('close', onEnd).resume();
    const close = () => {
      response.removeListener('close', onEnd);
      request.destroy();
    };
    return { volume: JSON.parse(line) as ImportSession['volume'], lost: lost.signal, close };
  }

  #request(method: Method, path: string, body: unknown): ClientRequest {
    const text = body === undefined ? null : JSON.stringify(body);
    const headers = text === null ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
    const request = httpRequest({ socketPath: this.socketPath, method, path, headers, agent: false });
    request.end(text ?? undefined);
    return request;
  }

  #cutAfter(request: ClientRequest, timeoutMs: number, what: string) {
    return this.#clock.setTimer(timeoutMs, () => {
      request.destroy(new ArchipelagoError('timeout', `no answer from ${this.socketPath} to ${what} within ${timeoutMs} ms`));
    });
  }
}

/** `name` may hold anything but `/`; in a path it is percent-encoded. */
export function volumePath(name: string, operation?: string): string {
  return `/v1/volumes/${encodeURIComponent(name)}${operation === undefined ? '' : `/${operation}`}`;
}

function responseTo(request: ClientRequest, asked: Asked): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once('response', resolve);
    request.on('error', (error) => reject(connectionError(error, asked)));
  });
}

function readAll(response: IncomingMessage, asked: Asked): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    response.setEncoding('utf8');
    response.on('data', (chunk: string) => {
      text += chunk;
    });
    response.once('end', () => resolve(text));
    response.once('error', (error) => reject(connectionError(error, asked)));
  });
}

/** Keeps the response open and leaves what follows the line to whoever reads on. */
function firstLine(response: IncomingMessage, asked: Asked): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    response.setEncoding('utf8');
    const onData = (chunk: string) => {
      text += chunk;
      const end = text.indexOf('\n');
      if (end === -1) return;
      response.removeListener('data', onData);
      resolve(text.slice(0, end));
    };
    response.on('data', onData);
    response.once('error', (error) => reject(connectionError(error, asked)));
    response.once('end', () => reject(new ArchipelagoError('unavailable', `the node at ${asked.socketPath} closed the connection`)));
  });
}

function decode(response: IncomingMessage, text: string, socketPath: string): unknown {
  const failed = (response.statusCode ?? 500) >= 400;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ArchipelagoError('internal', `${socketPath} answered with no JSON (HTTP ${response.statusCode})`, { cause: error });
  }
  if (!failed) return value;
  const body = (value as { error?: ErrorBody }).error;
  if (typeof body?.code === 'string' && typeof body.message === 'string') throw ArchipelagoError.fromBody(body);
  throw new ArchipelagoError('internal', `${socketPath} answered HTTP ${response.statusCode} in an unknown form`);
}

function connectionError(error: Error, asked: Asked): ArchipelagoError {
  if (error instanceof ArchipelagoError) return error;
  const { socketPath, method } = asked;
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (code === 'EACCES' || code === 'EPERM') {
    return new ArchipelagoError('forbidden', `no permission for ${socketPath}`, {
      cause: error,
      hint: 'use the user or the group that runs the node',
    });
  }
  if (syscall === 'connect') {
    return new ArchipelagoError('unavailable', `no node answers at ${socketPath}`, { cause: error, hint: 'start one with `archipelago up`' });
  }
  const message = `the node at ${socketPath} ended the connection`;
  if (method === 'GET') return new ArchipelagoError('unavailable', message, { cause: error, hint: 'it may have been stopped; try again' });
  const hint = 'it may have been stopped; look whether it was done';
  return new ArchipelagoError('timeout', `${message} before it answered`, { cause: error, hint });
}
