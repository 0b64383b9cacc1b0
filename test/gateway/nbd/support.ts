/** What the tests of the NBD gateway share: a server on a socket of its own, a raw client, children. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type Log, Prng } from '../../../src/base/index.ts';
import * as nbd from '../../../src/gateway/nbd/protocol.ts';
import { NbdServer, type NbdServerOptions } from '../../../src/gateway/nbd/server.ts';
import { unixNbdUri } from '../../../src/gateway/nbd/uri.ts';
import { RamDirectory, type RamVolume } from './ram-device.ts';

export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly message: string;
}

/** A log that keeps what it is told. */
function keepingLog(): { log: Log; lines: LogLine[] } {
  const lines: LogLine[] = [];
  const keep = (level: LogLine['level']) => (_context: object, message: string) => {
    lines.push({ level, message });
  };
  const log: Log = { debug: keep('debug'), info: keep('info'), warn: keep('warn'), error: keep('error'), child: () => log };
  return { log, lines };
}

/** A directory that is removed after the test. */
export function scratchDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), 'nbd-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

export interface Served {
  readonly server: NbdServer;
  readonly directory: RamDirectory;
  readonly path: string;
  readonly lines: LogLine[];
  uri(name: string): string;
}

/** Serves volumes until the test ends. */
export async function serve(volumes: Readonly<Record<string, RamVolume>>, options: Partial<NbdServerOptions> = {}): Promise<Served> {
  const path = join(scratchDirectory(), 's');
  const directory = new RamDirectory(volumes);
  const { log, lines } = keepingLog();
  const server = await NbdServer.listen({ path }, { directory, log, ...options });
  onTestFinished(async () => {
    await server.close({ signal: AbortSignal.abort() });
    // Writes that the end has cut off report back a moment later.
    await turns(3);
    const error = lines.find(({ level }) => level === 'error');
    if (error !== undefined) throw new Error(error.message);
    if (server.buffersInUse > 0) throw new Error(`${server.buffersInUse} buffers are lost`);
  });
  return { server, directory, path, lines, uri: (name) => unixNbdUri(path, name) };
}

/** A client that sends what it likes. */
export class RawClient {
  readonly socket: Socket;
  private received: Buffer = Buffer.alloc(0);
  private isClosed = false;
  private wake: () => void = () => undefined;

  constructor(path: string, options: { paused?: boolean } = {}) {
    this.socket = connect(path);
    if (options.paused !== true) this.resume();
    this.socket.on('error', () => {
      // The server may close at any time; `closed` tells.
    });
    this.socket.on('close', () => {
      this.isClosed = true;
      this.wake();
    });
    onTestFinished(() => {
      this.socket.destroy();
    });
  }

  /** Starts to read. */
  resume(): void {
    this.socket.on('data', (chunk) => {
      this.received = Buffer.concat([this.received, chunk]);
      this.wake();
    });
  }

  send(...parts: readonly Uint8Array[]): void {
    this.socket.write(Buffer.concat(parts));
  }

  async read(length: number): Promise<Buffer> {
    while (this.received.length < length) {
      if (this.isClosed) throw new Error(`closed after ${this.received.length} of ${length} bytes: ${this.received.toString('hex', 0, 100)}`);
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
    const bytes = this.received.subarray(0, length);
    this.received = this.received.subarray(length);
    return bytes;
  }

  /** Resolves when the server has closed the connection, to what it sent last. */
  async closed(): Promise<Buffer> {
    while (!this.isClosed) {
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
    return this.received;
  }

  /** Greeting and client flags. */
  async greet(flags: number = nbd.FLAG_FIXED_NEWSTYLE | nbd.FLAG_NO_ZEROES): Promise<void> {
    await this.read(18);
    this.send(uint32(flags));
  }

  /** Sends an option and collects its replies up to an ACK or an error. */
  async ask(option: number, data: Uint8Array = new Uint8Array(0)): Promise<{ type: number; data: Buffer }[]> {
    this.send(optionHeader(option, data.length), data);
    return this.optionReplies();
  }

  async optionReplies(): Promise<{ type: number; data: Buffer }[]> {
    const replies: { type: number; data: Buffer }[] = [];
    while (true) {
      const header = await this.read(nbd.OPTION_REPLY_HEADER_BYTES);
      const type = header.readUInt32BE(12);
      replies.push({ type, data: await this.read(header.readUInt32BE(16)) });
      if (type === nbd.REP_ACK || type >= nbd.REP_ERROR_BIT) return replies;
    }
  }

  /** The whole handshake, without structured replies unless asked for. */
  async attach(name: string, options: { structured?: boolean } = {}): Promise<void> {
    await this.greet();
    if (options.structured === true) await this.ask(nbd.OPT_STRUCTURED_REPLY);
    const replies = await this.ask(nbd.OPT_GO, Buffer.concat([lengthAnd(name), Buffer.alloc(2)]));
    if (replies.at(-1)?.type !== nbd.REP_ACK) throw new Error(`cannot attach ${name}`);
  }

  async simpleReply(): Promise<{ errno: number; cookie: bigint }> {
    const reply = await this.read(nbd.SIMPLE_REPLY_BYTES);
    if (reply.readUInt32BE(0) !== nbd.SIMPLE_REPLY_MAGIC) throw new Error(`no simple reply: ${reply.toString('hex')}`);
    return { errno: reply.readUInt32BE(4), cookie: reply.readBigUInt64BE(8) };
  }

  async chunk(): Promise<{ flags: number; type: number; cookie: bigint; payload: Buffer }> {
    const header = await this.read(nbd.CHUNK_HEADER_BYTES);
    if (header.readUInt32BE(0) !== nbd.STRUCTURED_REPLY_MAGIC) throw new Error(`no structured reply: ${header.toString('hex')}`);
    const payload = await this.read(header.readUInt32BE(16));
    return { flags: header.readUInt16BE(4), type: header.readUInt16BE(6), cookie: header.readBigUInt64BE(8), payload };
  }
}

export interface RawRequest {
  readonly command: number;
  readonly cookie?: bigint;
  readonly offset?: bigint | number;
  readonly length?: number;
  readonly flags?: number;
}

export function requestHeader({ command, cookie = 1n, offset = 0, length = 0, flags = 0 }: RawRequest): Buffer {
  const bytes = Buffer.alloc(nbd.REQUEST_BYTES);
  bytes.writeUInt32BE(nbd.REQUEST_MAGIC, 0);
  bytes.writeUInt16BE(flags, 4);
  bytes.writeUInt16BE(command, 6);
  bytes.writeBigUInt64BE(cookie, 8);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

export function optionHeader(option: number, length: number): Buffer {
  return Buffer.concat([uint32(nbd.OPTION_MAGIC_HIGH), uint32(nbd.OPTION_MAGIC_LOW), uint32(option), uint32(length)]);
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function lengthAnd(text: string): Buffer {
  return Buffer.concat([uint32(Buffer.byteLength(text)), Buffer.from(text)]);
}

/** Bytes that differ from place to place and from seed to seed. */
export function noise(length: number, seed: number): Buffer {
  const prng = new Prng(seed);
  const bytes = Buffer.alloc(length);
  for (let at = 0; at + 4 <= length; at += 4) bytes.writeUInt32LE(prng.next32(), at);
  for (let at = length - (length % 4); at < length; at++) bytes[at] = prng.below(256);
  return bytes;
}

/** Resolves when `condition` holds; it is looked at once a turn of the event loop. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** Lets the event loop turn, so that whatever is ready happens. */
export async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** A relay in front of a server that passes what clients send on in pieces of random size. */
export async function choppingRelay(to: string, prng: Prng): Promise<string> {
  const path = join(scratchDirectory(), 'relay');
  const relay: Server = createServer((client) => {
    const server = connect(to);
    server.on('data', (chunk) => client.write(chunk));
    server.on('close', () => client.destroy());
    client.on('close', () => server.destroy());
    for (const socket of [client, server]) socket.on('error', () => socket.destroy());
    void (async () => {
      for await (const chunk of client as AsyncIterable<Buffer>) {
        for (let at = 0; at < chunk.length; ) {
          const end = Math.min(chunk.length, at + 1 + prng.below(prng.chance(0.5) ? 40 : 60_000));
          server.write(chunk.subarray(at, end));
          at = end;
          await turns(1);
        }
      }
    })().catch(() => server.destroy());
  });
  await new Promise<void>((resolve) => relay.listen(path, resolve));
  onTestFinished(() => {
    relay.close();
  });
  return path;
}

/** Runs a program to its end; fails with its output unless it exits with 0. */
export async function run(program: string, args: readonly string[]): Promise<string> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => {
      output += text;
    });
  }
  const status = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${status}:\n${output}`);
  return output;
}

/** Starts a program that runs until the test ends; resolves when it listens on its socket. */
export async function background(program: string, args: readonly string[], socket: string): Promise<void> {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let complaints = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints += text;
  });
  let isOver = false;
  const over = new Promise<void>((resolve) => {
    child.once('close', () => {
      isOver = true;
      resolve();
    });
  });
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await over;
  });
  await until(() => isOver || existsSync(socket));
  if (isOver) throw new Error(`${program} ended: ${complaints}`);
}
