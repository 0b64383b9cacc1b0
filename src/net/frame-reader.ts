/** Cuts the byte stream of one connection into frames. Pure: bytes go in, calls of `onFrame` come out. */
import { assert } from '../base/index.ts';
import { emptyHeader, type FrameHeader, HEADER_BYTES, readHeader } from './frame.ts';

const NOTHING = new Uint8Array(0);

/** `header` is reused for the next frame; the two arrays belong to the callee. */
export type OnFrame = (header: FrameHeader, metadata: Uint8Array, payload: Uint8Array) => void;

export class FrameReader {
  /** Raised when the handshake is done: until then a peer gets no more memory than a hello needs. */
  maxMetadataBytes: number;
  maxPayloadBytes: number;
  private onFrame: OnFrame;
  private readonly header: FrameHeader = emptyHeader();
  private readonly headerBytes = new Uint8Array(HEADER_BYTES);
  /** Bytes of the current header, or of the current body once `bodyBytes` is known, that have arrived. */
  private filled = 0;
  /** Metadata plus payload of the current frame while they are being collected; -1 while its header is. */
  private bodyBytes = -1;
  private metadata: Uint8Array = NOTHING;
  private payload: Uint8Array = NOTHING;
  private stopped = false;

  constructor(maxMetadataBytes: number, maxPayloadBytes: number, onFrame: OnFrame) {
    this.maxMetadataBytes = maxMetadataBytes;
    this.maxPayloadBytes = maxPayloadBytes;
    this.onFrame = onFrame;
  }

  /** Frames from the next one on go to `onFrame`. Safe to call from within a frame. */
  redirect(onFrame: OnFrame): void {
    this.onFrame = onFrame;
  }

  /** Delivers nothing any more, not even the rest of the piece that is being read. */
  stop(): void {
    this.stopped = true;
    this.metadata = NOTHING;
    this.payload = NOTHING;
  }

  /** Takes the next piece of the stream; `piece` is given away. Throws for a malformed or oversize header, after which the stream is lost. */
  push(piece: Uint8Array): void {
    let at = 0;
    while (!this.stopped && at < piece.byteLength) {
      at = this.bodyBytes < 0 ? this.takeHeader(piece, at) : this.takeBody(piece, at);
    }
  }

  private takeHeader(piece: Uint8Array, at: number): number {
    const have = piece.byteLength - at;
    if (this.filled === 0 && have >= HEADER_BYTES) {
      readHeader(piece, at, this.header, this.maxMetadataBytes, this.maxPayloadBytes);
      return this.startBody(piece, at + HEADER_BYTES);
    }
    const take = Math.min(have, HEADER_BYTES - this.filled);
    this.headerBytes.set(piece.subarray(at, at + take), this.filled);
    this.filled += take;
    if (this.filled < HEADER_BYTES) return at + take;
    this.filled = 0;
    readHeader(this.headerBytes, 0, this.header, this.maxMetadataBytes, this.maxPayloadBytes);
    return this.startBody(piece, at + take);
  }

  /** Delivers the frame from views if the piece holds all of it; otherwise allocates what it declares and starts to collect. */
  private startBody(piece: Uint8Array, at: number): number {
    assert(this.filled === 0, 'a body starts empty');
    const { metadataBytes, payloadBytes } = this.header;
    const split = at + metadataBytes;
    const end = split + payloadBytes;
    if (end <= piece.byteLength) {
      this.onFrame(this.header, viewOf(piece, at, metadataBytes), viewOf(piece, split, payloadBytes));
      return end;
    }
    this.bodyBytes = metadataBytes + payloadBytes;
    this.metadata = metadataBytes === 0 ? NOTHING : new Uint8Array(metadataBytes);
    // Not zeroed: the frame is delivered only when every byte has been overwritten. Not pooled: the receiver may keep it for long.
    this.payload = payloadBytes === 0 ? NOTHING : new Uint8Array(Buffer.allocUnsafeSlow(payloadBytes).buffer);
    return at;
  }

  private takeBody(piece: Uint8Array, at: number): number {
    const take = Math.min(piece.byteLength - at, this.bodyBytes - this.filled);
    const { metadataBytes } = this.header;
    const toMetadata = Math.max(0, Math.min(take, metadataBytes - this.filled));
    if (toMetadata > 0) this.metadata.set(piece.subarray(at, at + toMetadata), this.filled);
    if (take > toMetadata) this.payload.set(piece.subarray(at + toMetadata, at + take), this.filled + toMetadata - metadataBytes);
    this.filled += take;
    if (this.filled === this.bodyBytes) this.finishBody();
    return at + take;
  }

  private finishBody(): void {
    const { metadata, payload } = this;
    this.filled = 0;
    this.bodyBytes = -1;
    this.metadata = NOTHING;
    this.payload = NOTHING;
    this.onFrame(this.header, metadata, payload);
  }
}

/** Always a plain Uint8Array: a Buffer's `slice` would share the bytes where everybody expects a copy. */
function viewOf(piece: Uint8Array, at: number, length: number): Uint8Array {
  return length === 0 ? NOTHING : new Uint8Array(piece.buffer, piece.byteOffset + at, length);
}
