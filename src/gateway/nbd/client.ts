/**
 * An NBD client for import and export: many requests in flight, each a promise. Not for a hot path. Requests that are longer than the
 * server takes are split.
 */
import { connect, type Socket } from 'node:net';
import { ArchipelagoError } from '../../base/index.ts';
import type { Extent } from '../../volume/index.ts';
import { type ExportInfo, shakeHands } from './client-handshake.ts';
import * as nbd from './protocol.ts';
import { SocketReader } from './socket-reader.ts';
import { type NbdTarget, parseNbdUri } from './uri.ts';

/** Longest zero, trim or status request: below 4 GiB, and round. */
const MAX_RANGE_BYTES = 1024 * 1024 * 1024;
/** Longest chunk that carries no data for a read: an error's message or extents. */
const MAX_OTHER_CHUNK_BYTES = 16 * 1024 * 1024;

export interface NbdClientOptions {
  /** Ends the connection when it aborts. */
  readonly signal?: AbortSignal;
}

/** A request that the server has not finished. */
interface Pending {
  readonly command: number;
  readonly offset: number;
  readonly length: number;
  /** Where a read's data goes. */
  readonly data: Uint8Array;
  /** Bytes of a read that have arrived. */
  arrivedBytes: number;
  extents: Extent[];
  error: ArchipelagoError | null;
  readonly resolve: () => void;
  readonly reject: (error: ArchipelagoError) => void;
}

const NO_DATA = new Uint8Array(0);

export class NbdClient {
  readonly exportName: string;
  readonly info: ExportInfo;
  private readonly socket: Socket;
  private readonly reader: SocketReader;
  private readonly where: string;
  private readonly pending = new Map<number, Pending>();
  private nextCookie = 1;
  private broken: ArchipelagoError | null = null;

  /** Use `connect`. */
  private constructor(socket: Socket, reader: SocketReader, where: string, exportName: string, info: ExportInfo) {
    this.socket = socket;
    this.reader = reader;
    this.where = where;
    this.exportName = exportName;
    this.info = info;
    void this.receive();
  }

  /** Connects to a URI or to an export behind a socket. */
  static async connect(target: string | NbdTarget, options: NbdClientOptions = {}): Promise<NbdClient> {
    const parsed = typeof target === 'string' ? parseNbdUri(target) : target;
    const { exportName } = parsed;
    const where = 'socket' in parsed ? `the NBD server at ${parsed.socket}` : `the NBD server at ${parsed.host}:${parsed.port}`;
    const socket = await open(parsed, where, options.signal);
    try {
      const reader = new SocketReader(socket, where);
      const info = await shakeHands(socket, reader, exportName, where);
      return new NbdClient(socket, reader, where, exportName, info);
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  get sizeBytes(): number {
    return this.info.sizeBytes;
  }

  get readOnly(): boolean {
    return this.offers(nbd.TRANSMIT_READ_ONLY);
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Uint8Array> {
    const data = Buffer.allocUnsafe(lengthBytes);
    await this.inParts(offsetBytes, lengthBytes, this.info.maxPayloadBytes, (offset, length) => {
      const at = offset - offsetBytes;
      return this.request(nbd.CMD_READ, 0, offset, length, data.subarray(at, at + length));
    });
    return data;
  }

  /** With `fua` it is durable when the promise resolves. */
  async write(offsetBytes: number, data: Uint8Array, options: { fua?: boolean } = {}): Promise<void> {
    const flags = this.fuaFlag(options.fua);
    await this.inParts(offsetBytes, data.length, this.info.maxPayloadBytes, (offset, length) => {
      const at = offset - offsetBytes;
      return this.request(nbd.CMD_WRITE, flags, offset, length, data.subarray(at, at + length));
    });
    if (options.fua === true && flags === 0) await this.flush();
  }

  /** Makes a range read as zeros; it takes no room where the server can do that. */
  async zero(offsetBytes: number, lengthBytes: number, options: { fua?: boolean } = {}): Promise<void> {
    if (!this.offers(nbd.TRANSMIT_SEND_WRITE_ZEROES)) {
      const zeros = Buffer.alloc(Math.min(lengthBytes, 1024 * 1024));
      for (let at = 0; at < lengthBytes; at += zeros.length) {
        await this.write(offsetBytes + at, zeros.subarray(0, Math.min(zeros.length, lengthBytes - at)), options);
      }
      return;
    }
    const flags = this.fuaFlag(options.fua);
    await this.inParts(offsetBytes, lengthBytes, MAX_RANGE_BYTES, (offset, length) => {
      return this.request(nbd.CMD_WRITE_ZEROES, flags, offset, length, NO_DATA);
    });
    if (options.fua === true && flags === 0) await this.flush();
  }

  /** Says that a range is not needed any more. Without support for it nothing happens. */
  async trim(offsetBytes: number, lengthBytes: number): Promise<void> {
    if (!this.offers(nbd.TRANSMIT_SEND_TRIM)) return;
    await this.inParts(offsetBytes, lengthBytes, MAX_RANGE_BYTES, (offset, length) => this.request(nbd.CMD_TRIM, 0, offset, length, NO_DATA));
  }

  /** Makes all that was acknowledged durable. */
  async flush(): Promise<void> {
    if (this.offers(nbd.TRANSMIT_SEND_FLUSH)) await this.request(nbd.CMD_FLUSH, 0, 0, 0, NO_DATA);
  }

  /** Extents from `offsetBytes` on, covering at least one byte and at most `lengthBytes`. */
  async extents(offsetBytes: number, lengthBytes: number): Promise<Extent[]> {
    const length = Math.min(lengthBytes, MAX_RANGE_BYTES);
    if (this.info.allocationId === null) return [{ lengthBytes: length, allocated: true }];
    const done = await this.request(nbd.CMD_BLOCK_STATUS, 0, offsetBytes, length, NO_DATA);
    return cut(done.extents, length);
  }

  /** Says goodbye. What is under way fails, so wait for it before. */
  async close(): Promise<void> {
    const { socket } = this;
    if (socket.closed) return;
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    // The server has nothing to answer to a goodbye, so nothing is waited for but its departure.
    if (this.broken === null) socket.end(header(nbd.CMD_DISC, 0, 0, 0, 0), () => socket.destroy());
    else socket.destroy();
    this.broken ??= new ArchipelagoError('unavailable', `the connection to ${this.where} was closed`);
    await closed;
  }

  private offers(flag: number): boolean {
    return (this.info.flags & flag) !== 0;
  }

  private fuaFlag(fua: boolean | undefined): number {
    return fua === true && this.offers(nbd.TRANSMIT_SEND_FUA) ? nbd.CMD_FLAG_FUA : 0;
  }

  private async inParts(offset: number, length: number, max: number, each: (offset: number, length: number) => Promise<unknown>): Promise<void> {
    if (length <= max) {
      await each(offset, length);
      return;
    }
    const parts: Promise<unknown>[] = [];
    for (let at = 0; at < length; at += max) parts.push(each(offset + at, Math.min(max, length - at)));
    await Promise.all(parts);
  }

  private request(command: number, flags: number, offset: number, length: number, data: Uint8Array): Promise<Pending> {
    if (this.broken !== null) return Promise.reject(this.broken);
    if (length === 0 && command !== nbd.CMD_FLUSH) return Promise.reject(new ArchipelagoError('invalid-argument', 'an NBD request for no bytes'));
    return new Promise((resolve, reject) => {
      const cookie = this.nextCookie++;
      const pending: Pending = {
        command,
        offset,
        length,
        data,
        arrivedBytes: 0,
        extents: [],
        error: null,
        resolve: () => resolve(pending),
        reject,
      };
      this.pending.set(cookie, pending);
      this.socket.cork();
      this.socket.write(header(command, flags, cookie, offset, length));
      if (command === nbd.CMD_WRITE) this.socket.write(data);
      this.socket.uncork();
    });
  }

  /** Reads replies until the connection ends; then all that is pending fails. */
  private async receive(): Promise<void> {
    try {
      while (true) {
        const magic = (await this.reader.read(4)).readUInt32BE(0);
        if (magic === nbd.SIMPLE_REPLY_MAGIC) await this.receiveSimple();
        else if (magic === nbd.STRUCTURED_REPLY_MAGIC && this.info.structuredReplies) await this.receiveChunk();
        else throw this.protocolError(`a reply with the magic ${magic.toString(16)}`);
      }
    } catch (error) {
      this.broken ??= ArchipelagoError.from(error, `reading from ${this.where}`);
      this.socket.destroy();
      for (const pending of this.pending.values()) pending.reject(this.broken);
      this.pending.clear();
    }
  }

  private async receiveSimple(): Promise<void> {
    const reply = await this.reader.read(nbd.SIMPLE_REPLY_BYTES - 4);
    const errno = reply.readUInt32BE(0);
    const [cookie, pending] = this.pendingOf(reply, 4);
    if (pending.command === nbd.CMD_READ) {
      if (this.info.structuredReplies) throw this.protocolError('a simple reply to a read');
      if (errno === 0) await this.reader.readInto(pending.data);
      pending.arrivedBytes = pending.length;
    }
    if (errno !== 0) pending.error = this.errorOf(pending, errno, '');
    this.finish(cookie, pending);
  }

  private async receiveChunk(): Promise<void> {
    const reply = await this.reader.read(nbd.CHUNK_HEADER_BYTES - 4);
    const flags = reply.readUInt16BE(0);
    const type = reply.readUInt16BE(2);
    const [cookie, pending] = this.pendingOf(reply, 4);
    const length = reply.readUInt32BE(12);
    if (type === nbd.REPLY_OFFSET_DATA) {
      await this.receiveData(pending, length);
    } else {
      if (length > MAX_OTHER_CHUNK_BYTES) throw this.protocolError(`a chunk of ${length} bytes`);
      this.takeChunk(pending, type, await this.reader.read(length));
    }
    if ((flags & nbd.REPLY_FLAG_DONE) !== 0) this.finish(cookie, pending);
  }

  private async receiveData(pending: Pending, length: number): Promise<void> {
    if (length <= 8) throw this.protocolError('a chunk of data without data');
    const at = Number((await this.reader.read(8)).readBigUInt64BE(0)) - pending.offset;
    if (pending.command !== nbd.CMD_READ || at < 0 || at + length - 8 > pending.length) throw this.protocolError('data that was not asked for');
    await this.reader.readInto(pending.data.subarray(at, at + length - 8));
    pending.arrivedBytes += length - 8;
  }

  private takeChunk(pending: Pending, type: number, payload: Buffer): void {
    if (type >= nbd.REPLY_ERROR_BIT) {
      if (payload.length < 6 || payload.readUInt16BE(4) > payload.length - 6) throw this.protocolError('a malformed error');
      pending.error ??= this.errorOf(pending, payload.readUInt32BE(0), payload.toString('utf8', 6, 6 + payload.readUInt16BE(4)));
    } else if (type === nbd.REPLY_OFFSET_HOLE && pending.command === nbd.CMD_READ && payload.length === 12) {
      const at = Number(payload.readBigUInt64BE(0)) - pending.offset;
      const length = payload.readUInt32BE(8);
      if (at < 0 || at + length > pending.length) throw this.protocolError('a hole that was not asked for');
      pending.data.fill(0, at, at + length);
      pending.arrivedBytes += length;
    } else if (type === nbd.REPLY_BLOCK_STATUS && pending.command === nbd.CMD_BLOCK_STATUS && payload.length >= 12 && payload.length % 8 === 4) {
      if (payload.readUInt32BE(0) !== this.info.allocationId) throw this.protocolError('extents of a context that was not chosen');
      for (let at = 4; at < payload.length; at += 8) {
        pending.extents.push({ lengthBytes: payload.readUInt32BE(at), allocated: (payload.readUInt32BE(at + 4) & nbd.STATE_ZERO) === 0 });
      }
    } else if (type !== nbd.REPLY_NONE || payload.length > 0) {
      throw this.protocolError(`a chunk of type ${type}`);
    }
  }

  private pendingOf(reply: Buffer, at: number): [number, Pending] {
    const cookie = Number(reply.readBigUInt64BE(at));
    const pending = this.pending.get(cookie);
    if (pending === undefined) throw this.protocolError('a reply to no request');
    return [cookie, pending];
  }

  private finish(cookie: number, pending: Pending): void {
    this.pending.delete(cookie);
    if (pending.error !== null) {
      pending.reject(pending.error);
      return;
    }
    const isShort =
      (pending.command === nbd.CMD_READ && pending.arrivedBytes !== pending.length) ||
      (pending.command === nbd.CMD_BLOCK_STATUS && pending.extents.length === 0);
    if (isShort) throw this.protocolError('an incomplete reply', pending);
    pending.resolve();
  }

  private errorOf({ command, offset, length }: Pending, errno: number, message: string): ArchipelagoError {
    const what = ['read', 'write', '', 'flush', 'trim', '', 'zero', 'block status'][command];
    const where = command === nbd.CMD_FLUSH ? '' : ` of ${length} bytes at ${offset}`;
    const text = `${this.where}: ${what}${where} failed: ${message === '' ? `errno ${errno}` : message}`;
    switch (errno) {
      case nbd.ENOSPC:
        return new ArchipelagoError('no-space', text);
      case nbd.EPERM:
        return new ArchipelagoError('read-only', text);
      case nbd.EINVAL:
        return new ArchipelagoError('invalid-argument', text);
      case nbd.ESHUTDOWN:
        return new ArchipelagoError('unavailable', text);
      default:
        return new ArchipelagoError('io-error', text);
    }
  }

  /** `pending` is rejected with it too, if it is off the list already. */
  private protocolError(what: string, pending?: Pending): ArchipelagoError {
    const error = new ArchipelagoError('io-error', `${this.where} broke the NBD protocol: ${what}`);
    pending?.reject(error);
    return error;
  }
}

function open(target: NbdTarget, where: string, signal: AbortSignal | undefined): Promise<Socket> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(new ArchipelagoError('unavailable', 'stopped'));
      return;
    }
    const socket = 'socket' in target ? connect(target.socket) : connect({ host: target.host, port: target.port });
    const abort = (): void => {
      socket.destroy(new ArchipelagoError('unavailable', 'stopped'));
    };
    signal?.addEventListener('abort', abort, { once: true });
    socket.setNoDelay(true);
    socket.once('connect', () => resolve(socket));
    socket.once('close', () => signal?.removeEventListener('abort', abort));
    // Stays on: after the connection is made, the reader reports what happens to it.
    socket.on('error', (error) => {
      const failure = new ArchipelagoError('unavailable', `cannot connect to ${where}: ${error.message}`, { cause: error });
      reject(error instanceof ArchipelagoError ? error : failure);
    });
  });
}

function header(command: number, flags: number, cookie: number, offset: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(nbd.REQUEST_BYTES);
  bytes.writeUInt32BE(nbd.REQUEST_MAGIC, 0);
  bytes.writeUInt16BE(flags, 4);
  bytes.writeUInt16BE(command, 6);
  bytes.writeBigUInt64BE(BigInt(cookie), 8);
  bytes.writeBigUInt64BE(BigInt(offset), 16);
  bytes.writeUInt32BE(length, 24);
  return bytes;
}

/** Extents cut to `length` bytes; a server may describe more than was asked for. Neighbours of one state are joined. */
function cut(extents: readonly Extent[], length: number): Extent[] {
  const kept: { lengthBytes: number; allocated: boolean }[] = [];
  let rest = length;
  for (const { lengthBytes, allocated } of extents) {
    const taken = Math.min(lengthBytes, rest);
    if (taken === 0) break;
    const last = kept.at(-1);
    if (last?.allocated === allocated) last.lengthBytes += taken;
    else kept.push({ lengthBytes: taken, allocated });
    rest -= taken;
  }
  return kept;
}
