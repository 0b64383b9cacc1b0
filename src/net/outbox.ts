/**
 * Frames that wait for the network. All frames of one turn of the event loop leave in one `send`: per small frame that costs a tenth of a
 * `send` each (findings). Small payloads are copied next to their header, large ones go by reference. What the stream does not
 * take stays here, where it is counted; the stream itself never holds more than `SEND_BYTES`.
 */
import { assert } from '../base/index.ts';
import { type FrameHeader, HEADER_BYTES, writeHeader } from './frame.ts';

/** Payloads up to here are copied: cheaper than a buffer of their own on the way through cipher and socket. */
const COPY_BYTES = 16 * 1024;
/** Headers, metadata and small payloads are written one after the other into slabs; a slab is never used twice, so nothing is overwritten. */
const SLAB_BYTES = 64 * 1024;
/** Chunks smaller than this are copied together with what follows: one message of Noise, with the header of yamux in front, holds this much. */
const GATHER_BYTES = 65_519 - 12;
/** Handed to the stream at once. Encryption of it blocks the event loop. */
const SEND_BYTES = 256 * 1024;
/** Handed over in one turn, even if the network takes more: other work comes in between. */
const TURN_BYTES = 1024 * 1024;

const NOTHING = new Uint8Array(0);

/** What the outbox needs of a libp2p stream. */
export interface ByteSink {
  send(data: Uint8Array): boolean;
  readonly writableNeedsDrain: boolean;
  /** What it was sent and could not pass on. */
  readonly writeBufferLength: number;
}

export class Outbox {
  /** Bytes of frames that the stream has not taken yet. */
  queuedBytes = 0;
  private readonly sink: ByteSink;
  private readonly onProgress: () => void;
  private readonly onError: (error: unknown) => void;
  private chunks: Uint8Array[] = [];
  /** Chunks before this one, and bytes of this one, are sent. */
  private head = 0;
  private headSent = 0;
  private slab: Uint8Array = NOTHING;
  /** Slab bytes from `slabStart` to `slabEnd` are the last chunk, not yet in `chunks`. */
  private slabStart = 0;
  private slabEnd = 0;
  private scheduled: NodeJS.Immediate | null = null;
  private closed = false;

  /** `onProgress` is called when bytes have left, `onError` when the stream does not take any more at all. */
  constructor(sink: ByteSink, onProgress: () => void, onError: (error: unknown) => void) {
    this.sink = sink;
    this.onProgress = onProgress;
    this.onError = onError;
  }

  /** Appends a frame. `metadata` is copied, `payload` referenced until it is sent or the outbox is closed. */
  push(header: FrameHeader, metadata: Uint8Array, payload: Uint8Array): void {
    assert(header.metadataBytes === metadata.byteLength && header.payloadBytes === payload.byteLength, 'the header tells the lengths');
    if (this.closed) return;
    const copied = payload.byteLength <= COPY_BYTES ? payload.byteLength : 0;
    const need = HEADER_BYTES + metadata.byteLength + copied;
    if (this.slabEnd + need > this.slab.byteLength) {
      this.sealSlab();
      this.slab = Buffer.allocUnsafeSlow(Math.max(SLAB_BYTES, need));
      this.slabStart = 0;
      this.slabEnd = 0;
    }
    writeHeader(this.slab, this.slabEnd, header);
    this.slab.set(metadata, this.slabEnd + HEADER_BYTES);
    if (copied > 0) this.slab.set(payload, this.slabEnd + HEADER_BYTES + metadata.byteLength);
    this.slabEnd += need;
    if (copied < payload.byteLength) {
      this.sealSlab();
      this.chunks.push(payload);
    }
    this.queuedBytes += HEADER_BYTES + metadata.byteLength + payload.byteLength;
    this.scheduled ??= setImmediate(this.flush);
  }

  /**
   * The stream has passed on all that it had. Only scheduled, not sent at once: it tells so while it is still busy, and would keep what it is
   * given then without ever sending it.
   */
  readonly wake = (): void => {
    if (this.queuedBytes > 0) this.scheduled ??= setImmediate(this.flush);
  };

  /** Hands over as much as the stream takes. Called once a turn, and when the stream has drained. */
  readonly flush = (): void => {
    if (this.scheduled !== null) clearImmediate(this.scheduled);
    this.scheduled = null;
    let taken = 0;
    // A stream of libp2p reports that it has drained whenever the socket has, though its window may be used up and its buffer full.
    while (!this.closed && this.queuedBytes > 0 && !this.sink.writableNeedsDrain && this.sink.writeBufferLength === 0) {
      if (taken >= TURN_BYTES) {
        this.scheduled = setImmediate(this.flush);
        break;
      }
      const piece = this.take();
      taken += piece.byteLength;
      this.queuedBytes -= piece.byteLength;
      try {
        this.sink.send(piece);
      } catch (error) {
        this.onError(error);
        return;
      }
    }
    if (taken > 0 && !this.closed) this.onProgress();
  };

  /** Drops everything that waits and references nothing any more. */
  close(): void {
    if (this.scheduled !== null) clearImmediate(this.scheduled);
    this.scheduled = null;
    this.closed = true;
    this.queuedBytes = 0;
    this.chunks = [];
    this.slab = NOTHING;
    this.slabStart = 0;
    this.slabEnd = 0;
  }

  private sealSlab(): void {
    if (this.slabEnd > this.slabStart) this.chunks.push(this.slab.subarray(this.slabStart, this.slabEnd));
    this.slabStart = this.slabEnd;
  }

  /** Removes a piece from the front: a part of a large chunk as it is, or small ones copied together. */
  private take(): Uint8Array {
    this.sealSlab();
    const first = this.chunks[this.head];
    assert(first !== undefined, 'queued bytes have a chunk');
    const left = first.byteLength - this.headSent;
    if (left >= GATHER_BYTES || this.head + 1 === this.chunks.length) return this.takeFromHead(Math.min(left, SEND_BYTES));
    const piece = Buffer.allocUnsafeSlow(Math.min(this.queuedBytes, GATHER_BYTES));
    let filled = 0;
    while (filled < piece.byteLength) {
      const part = this.takeFromHead(piece.byteLength - filled);
      piece.set(part, filled);
      filled += part.byteLength;
    }
    return piece;
  }

  /** Up to `limit` bytes of the first chunk. */
  private takeFromHead(limit: number): Uint8Array {
    const chunk = this.chunks[this.head];
    assert(chunk !== undefined, 'queued bytes have a chunk');
    const end = Math.min(chunk.byteLength, this.headSent + limit);
    const part = chunk.subarray(this.headSent, end);
    this.headSent = end;
    if (end === chunk.byteLength) {
      this.headSent = 0;
      this.chunks[this.head] = NOTHING;
      this.head += 1;
      if (this.head === this.chunks.length || this.head >= 1024) {
        this.chunks.splice(0, this.head);
        this.head = 0;
      }
    }
    return part;
  }
}
