/**
 * The frame, the same for every message, request and reply. All integers are big-endian.
 *
 *     0  u32  bytes that follow this field: 16 + metadata + payload
 *     4  u32  request id; zero where nothing is answered
 *     8  u16  type of a message or request, status of a reply
 *    10  u8   kind
 *    11  u8   zero
 *    12  u32  metadata length
 *    16  u32  payload bytes that the reply to this request may have
 *    20       metadata, then the raw payload
 *
 * Wire version 1: this. The three kinds of the handshake keep this layout in all versions, so that any two versions can tell each other so.
 */
import { ArchipelagoError, assert } from '../base/index.ts';

export const WIRE_VERSION = 1;
export const HEADER_BYTES = 20;
const LENGTH_FIELD_BYTES = 4;

export const KIND_MESSAGE = 0;
export const KIND_REQUEST = 1;
export const KIND_REPLY = 2;
/** A request failed; metadata is the error's JSON body. */
export const KIND_FAILURE = 3;
/** Says only that the sender lives. */
export const KIND_KEEP_ALIVE = 4;
export const KIND_HELLO = 16;
export const KIND_READY = 17;
export const KIND_REFUSED = 18;

/** The peer broke the format or exceeded what it was allowed: its connection ends. Users of `src/net` never throw it. */
export class ProtocolError extends ArchipelagoError {
  constructor(message: string) {
    super('invalid-argument', message);
  }
}

/** Read into one object per connection that is reused for each frame: no allocation per header. */
export interface FrameHeader {
  kind: number;
  requestId: number;
  type: number;
  metadataBytes: number;
  payloadBytes: number;
  replyBytes: number;
}

export function emptyHeader(): FrameHeader {
  return { kind: 0, requestId: 0, type: 0, metadataBytes: 0, payloadBytes: 0, replyBytes: 0 };
}

/** Writes a header at `at`. */
export function writeHeader(target: Uint8Array, at: number, header: FrameHeader): void {
  assert(header.type >= 0 && header.type <= 0xffff, 'a frame type has 16 bits');
  put32(target, at, HEADER_BYTES - LENGTH_FIELD_BYTES + header.metadataBytes + header.payloadBytes);
  put32(target, at + 4, header.requestId);
  target[at + 8] = header.type >>> 8;
  target[at + 9] = header.type & 0xff;
  target[at + 10] = header.kind;
  target[at + 11] = 0;
  put32(target, at + 12, header.metadataBytes);
  put32(target, at + 16, header.replyBytes);
}

/** Reads a header. Throws a ProtocolError for lengths beyond the bounds or that contradict each other, before anything is allocated. */
export function readHeader(source: Uint8Array, at: number, into: FrameHeader, maxMetadataBytes: number, maxPayloadBytes: number): void {
  const length = get32(source, at);
  const metadataBytes = get32(source, at + 12);
  const payloadBytes = length - (HEADER_BYTES - LENGTH_FIELD_BYTES) - metadataBytes;
  if (payloadBytes < 0 || source[at + 11] !== 0) throw new ProtocolError('malformed frame header');
  if (metadataBytes > maxMetadataBytes || payloadBytes > maxPayloadBytes) {
    throw new ProtocolError(`frame of ${metadataBytes} + ${payloadBytes} bytes exceeds the limit of ${maxMetadataBytes} + ${maxPayloadBytes}`);
  }
  into.requestId = get32(source, at + 4);
  into.type = (source[at + 8]! << 8) | source[at + 9]!;
  into.kind = source[at + 10]!;
  into.metadataBytes = metadataBytes;
  into.payloadBytes = payloadBytes;
  into.replyBytes = get32(source, at + 16);
}

function put32(target: Uint8Array, at: number, value: number): void {
  target[at] = value >>> 24;
  target[at + 1] = value >>> 16;
  target[at + 2] = value >>> 8;
  target[at + 3] = value;
}

function get32(source: Uint8Array, at: number): number {
  return ((source[at]! << 24) | (source[at + 1]! << 16) | (source[at + 2]! << 8) | source[at + 3]!) >>> 0;
}
