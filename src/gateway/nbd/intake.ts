/**
 * Bytes from a client. They are read into a large buffer that the requests in it are served from; buffers that a device still reads from
 * are left alone. The payload of a large write gets a buffer of its own, and the rest of it is read straight into that.
 */
import { assert } from '../../base/index.ts';
import { type BufferPool, type PooledBuffer, SMALL_BUFFER_BYTES } from './buffers.ts';
import { REQUEST_BYTES } from './protocol.ts';

/** Payloads of this size or more are collected apart unless they are there already. */
export const LARGE_PAYLOAD_BYTES = 64 * 1024;
/** Less room than this behind what is there, and the buffer is turned over. A small request of which a part is there always fits into it. */
const MIN_TARGET_BYTES = LARGE_PAYLOAD_BYTES + REQUEST_BYTES;
/** Room for a read after a large write: one more is likely, and what is read along with its header must be copied. */
const SHORT_TARGET_BYTES = 1024;

export class Intake {
  /** Unread bytes lie at [start, end) of it. */
  buffer: PooledBuffer;
  start = 0;
  end = 0;
  /** The buffer of the large write that is being collected. */
  payload: PooledBuffer | null = null;
  /** Set while the last request was a large write: the next read shall be short. */
  expectLarge = false;
  private payloadLength = 0;
  private payloadFilled = 0;
  /** Bytes of refused payload that are still to come. */
  private skipBytes = 0;
  private targetIsPayload = false;
  private readonly pool: BufferPool;

  constructor(pool: BufferPool) {
    this.pool = pool;
    this.buffer = pool.take(SMALL_BUFFER_BYTES);
  }

  get available(): number {
    return this.end - this.start;
  }

  /** True in the middle of a payload. */
  get midPayload(): boolean {
    return this.payload !== null || this.skipBytes > 0;
  }

  /** Where the next bytes go. They must be announced by `received` before it is called again. */
  target(): Uint8Array {
    if (this.payload !== null && this.payloadFilled < this.payloadLength) {
      this.targetIsPayload = true;
      return this.payload.bytes.subarray(this.payloadFilled, this.payloadLength);
    }
    this.targetIsPayload = false;
    if (this.start === this.end && this.buffer.references === 1) {
      this.start = 0;
      this.end = 0;
    }
    if (SMALL_BUFFER_BYTES - this.end < MIN_TARGET_BYTES) this.turnOver();
    const { buffer, end } = this;
    if (this.expectLarge && this.start === end) return buffer.bytes.subarray(end, end + SHORT_TARGET_BYTES);
    // A socket that pauses with the buffer full of requests asks for a target all the same, and keeps it until it goes on. Then all that is
    // there has been served but for a part of one request, so the few bytes behind the usual end are enough to get on.
    return buffer.bytes.subarray(end, end < SMALL_BUFFER_BYTES ? SMALL_BUFFER_BYTES : buffer.size);
  }

  received(length: number): void {
    if (this.targetIsPayload) this.payloadFilled += length;
    else this.end += length;
  }

  /** Ignores the next `length` bytes. */
  skip(length: number): void {
    assert(this.payload === null, 'no payload is collected while another is refused');
    this.skipBytes = length;
    this.skipAvailable();
  }

  /** Ignores what is there of what `skip` announced; false when more is to come. */
  skipAvailable(): boolean {
    const length = Math.min(this.skipBytes, this.available);
    this.start += length;
    this.skipBytes -= length;
    return this.skipBytes === 0;
  }

  /** Starts to collect a payload. */
  beginPayload(length: number): void {
    this.payload = this.pool.take(length);
    this.payloadLength = length;
    this.payloadFilled = 0;
  }

  /** Moves what is there into the payload; false when more is to come. */
  fillPayload(): boolean {
    assert(this.payload !== null, 'a payload is being collected');
    const length = Math.min(this.payloadLength - this.payloadFilled, this.available);
    if (length > 0) {
      this.buffer.bytes.copy(this.payload.bytes, this.payloadFilled, this.start, this.start + length);
      this.payloadFilled += length;
      this.start += length;
    }
    return this.payloadFilled === this.payloadLength;
  }

  /** Hands the collected payload over, with its reference. */
  takePayload(): PooledBuffer {
    const payload = this.payload;
    assert(payload !== null && this.payloadFilled === this.payloadLength, 'the payload is complete');
    this.payload = null;
    return payload;
  }

  /** Returns the buffers; nothing is received any more. */
  close(): void {
    this.pool.release(this.buffer);
    if (this.payload !== null) this.pool.release(this.payload);
    this.payload = null;
  }

  /** Makes room behind what is there, in a new buffer if a device reads from this one. */
  private turnOver(): void {
    const { start, end } = this;
    if (this.buffer.references === 1) {
      this.buffer.bytes.copyWithin(0, start, end);
    } else {
      const next = this.pool.take(SMALL_BUFFER_BYTES);
      this.buffer.bytes.copy(next.bytes, 0, start, end);
      this.pool.release(this.buffer);
      this.buffer = next;
    }
    this.start = 0;
    this.end = end - start;
    assert(this.buffer.size > this.end, 'a turned-over buffer has room');
  }
}
