/** Fixed-width big-endian integers and checksums, as all our disk and wire formats use them. */
import { crc32 as zlibCrc32 } from 'node:zlib';
import { assert } from './assert.ts';
import { assertCounter } from './ids.ts';

const TWO_TO_32 = 0x1_0000_0000;
const ZEROS = new Uint8Array(1 << 18);

/** CRC-32 (ISO-HDLC) of `bytes`, or of a string's UTF-8, continued from `seed`, as an unsigned number. */
export function crc32(bytes: Uint8Array | string, seed = 0): number {
  return zlibCrc32(bytes, seed);
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Reads a 64-bit counter; one above 2^53 - 1 is an assertion failure, so check its checksum first. */
export function readCounter(view: DataView, offset: number): number {
  const value = view.getUint32(offset) * TWO_TO_32 + view.getUint32(offset + 4);
  assertCounter(value, 'stored counter');
  return value;
}

export function writeCounter(view: DataView, offset: number, value: number): void {
  assertCounter(value, 'counter to store');
  view.setUint32(offset, Math.floor(value / TWO_TO_32));
  view.setUint32(offset + 4, value % TWO_TO_32);
}

/** A counter as 16 hex digits, so that names sort as numbers do. */
export function hex16(value: number): string {
  assertCounter(value, 'counter to print');
  return value.toString(16).padStart(16, '0');
}

/** Joins chunks into one buffer of the sum of their lengths. Not for the data path. */
export function concatBytes(chunks: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const chunk of chunks) length += chunk.byteLength;
  const joined = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    joined.set(chunk, at);
    at += chunk.byteLength;
  }
  assert(at === length, 'concatenation filled its buffer');
  return joined;
}

/** True when all bytes are zero. Costs next to nothing where one of the first is not. */
export function isZero(data: Uint8Array): boolean {
  if (data.byteLength > 0 && data[0] !== 0) return false;
  for (let at = 0; at < data.byteLength; at += ZEROS.byteLength) {
    const piece = data.subarray(at, at + ZEROS.byteLength);
    if (Buffer.compare(piece, ZEROS.subarray(0, piece.byteLength)) !== 0) return false;
  }
  return true;
}
