/**
 * Memory of the NBD server: reference-counted buffers that requests arrive in and replies leave from, and the pool that all
 * connections of a server draw them from, because fresh megabytes cost more in page faults than copying them would.
 */
import { assert } from '../../base/index.ts';

/** Size of the buffers for many small requests or replies. */
export const SMALL_BUFFER_BYTES = 256 * 1024;
/** Added to each size, so that a payload of a power of two fits with the header in front of it. */
const HEADER_ROOM_BYTES = 4096;
/** A reply's region is remembered by its number within the buffer, up to this many. */
const REMEMBERED_VIEWS = 256;

export class PooledBuffer {
  readonly bytes: Buffer;
  readonly view: DataView;
  /** How many requests, replies or owners need it; at none it returns to the pool. */
  references = 0;
  /** First byte that is not handed out. */
  position = 0;
  private readonly arrayBuffer: ArrayBuffer;
  private readonly views: Uint8Array[] = [];

  constructor(size: number) {
    this.bytes = Buffer.allocUnsafeSlow(size);
    this.arrayBuffer = this.bytes.buffer as ArrayBuffer;
    this.view = new DataView(this.arrayBuffer);
  }

  get size(): number {
    return this.bytes.length;
  }

  /**
   * A view of some bytes. Traffic of one request size comes to the same places again and again, so the views of the first places are kept,
   * and a small request allocates nothing.
   */
  slice(start: number, length: number): Uint8Array {
    const slot = start >>> 12;
    if (slot >= REMEMBERED_VIEWS) return new Uint8Array(this.arrayBuffer, start, length);
    const known = this.views[slot];
    if (known !== undefined && known.byteOffset === start && known.length === length) return known;
    const made = new Uint8Array(this.arrayBuffer, start, length);
    // Filled without gaps, so that the array keeps its fast form.
    if (slot <= this.views.length) this.views[slot] = made;
    return made;
  }
}

export class BufferPool {
  /** Buffers that somebody has. */
  taken = 0;
  /** Free buffers by the binary logarithm of their size without the room for headers. */
  private readonly free: PooledBuffer[][] = Array.from({ length: 32 }, () => []);
  private freeBytes = 0;
  private readonly maxFreeBytes: number;

  /** Keeps at most `maxFreeBytes` for later. */
  constructor(maxFreeBytes: number) {
    this.maxFreeBytes = maxFreeBytes;
  }

  /** A buffer of at least `size` bytes with one reference. */
  take(size: number): PooledBuffer {
    const power = 32 - Math.clz32(Math.max(size - HEADER_ROOM_BYTES, SMALL_BUFFER_BYTES) - 1);
    const found = this.free[power]!.pop();
    if (found !== undefined) this.freeBytes -= found.size;
    const buffer = found ?? new PooledBuffer(2 ** power + HEADER_ROOM_BYTES);
    buffer.references = 1;
    buffer.position = 0;
    this.taken++;
    return buffer;
  }

  release(buffer: PooledBuffer): void {
    buffer.references--;
    assert(buffer.references >= 0, 'an NBD buffer is released once for each reference');
    if (buffer.references > 0) return;
    this.taken--;
    if (this.freeBytes + buffer.size > this.maxFreeBytes) return;
    this.free[31 - Math.clz32(buffer.size - HEADER_ROOM_BYTES)]!.push(buffer);
    this.freeBytes += buffer.size;
  }
}
