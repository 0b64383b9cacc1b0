/**
 * Replies on their way out. A reply gets a region of a large buffer before it is known; the device reads straight into it, next to the
 * header. Regions that are committed one after another leave in one write, and what a slow device still owns is stepped over. A device that
 * answers in another order than it was asked in leaves many small pieces; those are copied together, which is cheaper than a write of several.
 */
import type { Socket } from 'node:net';
import { type BufferPool, type PooledBuffer, SMALL_BUFFER_BYTES } from './buffers.ts';

/** A reply of this size or more gets a buffer of its own. */
const OWN_BUFFER_BYTES = 64 * 1024;
/** What leaves at once in several pieces is copied together up to this size. */
const GATHERED_BYTES = 64 * 1024;

/** A run of committed bytes. It holds one reference to its buffer. */
class Piece {
  buffer: PooledBuffer;
  start: number;
  end: number;

  constructor(buffer: PooledBuffer, start: number, end: number) {
    this.buffer = buffer;
    this.start = start;
    this.end = end;
  }
}

export class ReplyQueue {
  /** Where the region that `reserve` made lies. */
  reservedBuffer: PooledBuffer;
  reservedStart = 0;
  /** Bytes committed that the kernel has not taken. */
  unsentBytes = 0;
  private readonly pool: BufferPool;
  private readonly socket: Socket;
  private readonly sent: () => void;
  private current: PooledBuffer;
  /** What pieces are copied into; taken when there are some for the first time. */
  private gathered: PooledBuffer | null = null;
  private readonly committed: Piece[] = [];
  /** Handed to the socket, which calls back for each in this order. */
  private readonly leaving: Piece[] = [];
  private readonly onWritten = (): void => this.written();

  /** `sent` is called whenever the kernel has taken something. */
  constructor(pool: BufferPool, socket: Socket, sent: () => void) {
    this.pool = pool;
    this.socket = socket;
    this.sent = sent;
    this.current = pool.take(SMALL_BUFFER_BYTES);
    this.reservedBuffer = this.current;
  }

  /** Makes a region of `length` bytes at `reservedBuffer`, `reservedStart`; it holds a reference until it is committed or dropped. */
  reserve(length: number): void {
    if (length >= OWN_BUFFER_BYTES) {
      this.reservedBuffer = this.pool.take(length);
      this.reservedStart = 0;
      return;
    }
    const buffer = this.withRoom(this.current, length);
    this.current = buffer;
    buffer.references++;
    this.reservedBuffer = buffer;
    this.reservedStart = buffer.position;
    buffer.position += length;
  }

  /** A buffer of this queue's, or another in its place, that has room for `length` bytes at its position. */
  private withRoom(buffer: PooledBuffer, length: number): PooledBuffer {
    // Only this queue needs it: all that was in it has left.
    if (buffer.references === 1) buffer.position = 0;
    if (buffer.size - buffer.position >= length) return buffer;
    this.pool.release(buffer);
    return this.pool.take(SMALL_BUFFER_BYTES);
  }

  /** Queues the first `length` bytes of a region. */
  commit(buffer: PooledBuffer, start: number, length: number): void {
    this.unsentBytes += length;
    const last = this.committed.at(-1);
    if (last !== undefined && last.buffer === buffer && last.end === start) {
      last.end += length;
      buffer.references--;
    } else {
      this.committed.push(new Piece(buffer, start, start + length));
    }
  }

  /** Gives a region back unused, or any other buffer of the pool. */
  release(buffer: PooledBuffer): void {
    this.pool.release(buffer);
  }

  /** Hands all that is committed to the socket, in one system call if it can. */
  flush(): void {
    const pieces = this.committed;
    if (pieces.length === 0) return;
    const socket = this.socket;
    if (socket.destroyed) {
      this.forget();
      return;
    }
    if (pieces.length > 1) this.gather();
    if (pieces.length > 1) socket.cork();
    for (let i = 0; i < pieces.length; i++) {
      const piece = pieces[i]!;
      this.leaving.push(piece);
      socket.write(piece.buffer.bytes.subarray(piece.start, piece.end), this.onWritten);
    }
    if (pieces.length > 1) socket.uncork();
    pieces.length = 0;
  }

  /** Makes one piece of those that are to leave, unless they are too large for that. */
  private gather(): void {
    const pieces = this.committed;
    let length = 0;
    for (const { start, end } of pieces) length += end - start;
    if (length > GATHERED_BYTES) return;
    const buffer = this.withRoom(this.gathered ?? this.pool.take(SMALL_BUFFER_BYTES), length);
    this.gathered = buffer;
    buffer.references++;
    const start = buffer.position;
    for (const piece of pieces) {
      buffer.position += piece.buffer.bytes.copy(buffer.bytes, buffer.position, piece.start, piece.end);
      this.pool.release(piece.buffer);
    }
    pieces.length = 0;
    pieces.push(new Piece(buffer, start, buffer.position));
  }

  /** Returns the buffers, when the connection is gone and no region is with a device. */
  close(): void {
    this.forget();
    this.pool.release(this.current);
    if (this.gathered !== null) this.pool.release(this.gathered);
  }

  private forget(): void {
    for (const piece of this.committed) {
      this.unsentBytes -= piece.end - piece.start;
      this.pool.release(piece.buffer);
    }
    this.committed.length = 0;
  }

  private written(): void {
    const piece = this.leaving.shift()!;
    this.unsentBytes -= piece.end - piece.start;
    this.pool.release(piece.buffer);
    this.sent();
  }
}
