/**
 * Sectors that describe themselves. Each 512 bytes say which write they belong to and where they were meant to go, so that a reader can tell
 * a lost write, an old one, a torn one and one in the wrong place apart.
 *
 * magic (4), byte offset (8), sequence number of the write (4), noise that depends on both, CRC-32 of all before (4); big-endian.
 * A sector of zeros has the sequence number 0: it was never written, or trimmed, or zeroed.
 */
import { crc32 } from 'node:zlib';
import { NbdClient } from '../../../src/gateway/nbd/client.ts';

export const SECTOR_BYTES = 512;
export const ZEROED = 0;
const MAGIC = 0x41524348;
const CHECKSUM_AT = SECTOR_BYTES - 4;
const READ_BYTES = 1 << 20;
const READS_AT_A_TIME = 4;
const ZERO_SECTOR = Buffer.alloc(SECTOR_BYTES);
const NOISE = noise();

function noise(): Buffer {
  const bytes = Buffer.alloc(8192);
  for (let at = 0, state = 0x9e3779b9; at < bytes.length; at += 4) {
    state = (Math.imul(state ^ (state >>> 15), 0x85ebca6b) + 0x6d2b79f5) | 0;
    bytes.writeInt32BE(state, at);
  }
  return bytes;
}

/** The bytes of the write with this sequence number. */
export function sectorsFor(sequence: number, offsetBytes: number, lengthBytes: number): Buffer {
  const bytes = Buffer.allocUnsafe(lengthBytes);
  for (let at = 0; at < lengthBytes; at += SECTOR_BYTES) {
    const offset = offsetBytes + at;
    const from = (sequence * 37 + (offset / SECTOR_BYTES) * 101) % (NOISE.length - SECTOR_BYTES);
    NOISE.copy(bytes, at, from, from + SECTOR_BYTES);
    bytes.writeUInt32BE(MAGIC, at);
    bytes.writeBigUInt64BE(BigInt(offset), at + 4);
    bytes.writeUInt32BE(sequence, at + 12);
    bytes.writeUInt32BE(crc32(bytes.subarray(at, at + CHECKSUM_AT)), at + CHECKSUM_AT);
  }
  return bytes;
}

/** The sequence number in each sector of `bytes`, which were read at `offsetBytes`. Throws on what is no such sector, or a misplaced one. */
export function sequencesIn(bytes: Buffer, offsetBytes: number): Uint32Array {
  const sequences = new Uint32Array(bytes.length / SECTOR_BYTES);
  for (let place = 0; place < sequences.length; place++) {
    const sector = bytes.subarray(place * SECTOR_BYTES, (place + 1) * SECTOR_BYTES);
    if (sector.equals(ZERO_SECTOR)) continue;
    const offset = offsetBytes + place * SECTOR_BYTES;
    const damage = damageOf(sector, offset);
    if (damage !== null) throw new Error(`the sector at byte ${offset} ${damage}: ${sector.toString('hex', 0, 48)}…`);
    sequences[place] = sector.readUInt32BE(12);
  }
  return sequences;
}

function damageOf(sector: Buffer, offset: number): string | null {
  if (sector.readUInt32BE(0) !== MAGIC) return 'is none of ours';
  if (sector.readUInt32BE(CHECKSUM_AT) !== crc32(sector.subarray(0, CHECKSUM_AT))) return 'is torn or damaged';
  const meantFor = sector.readBigUInt64BE(4);
  return meantFor === BigInt(offset) ? null : `was meant for byte ${meantFor}`;
}

/** The sequence number of each sector of a whole volume or snapshot. */
export async function readContent(client: NbdClient): Promise<Uint32Array> {
  const content = new Uint32Array(client.sizeBytes / SECTOR_BYTES);
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < client.sizeBytes) {
      const offset = next;
      next += READ_BYTES;
      const length = Math.min(READ_BYTES, client.sizeBytes - offset);
      content.set(sequencesIn((await client.read(offset, length)) as Buffer, offset), offset / SECTOR_BYTES);
    }
  };
  await Promise.all(Array.from({ length: READS_AT_A_TIME }, work));
  return content;
}

/** The same behind a URI. */
export async function contentAt(uri: string): Promise<Uint32Array> {
  const client = await NbdClient.connect(uri);
  try {
    return await readContent(client);
  } finally {
    await client.close();
  }
}

/** Where two contents differ first, in words; null when they are equal. */
export function firstDifference(actual: Uint32Array, expected: Uint32Array): string | null {
  if (actual.length !== expected.length) return `${actual.length} sectors instead of ${expected.length}`;
  let count = 0;
  let first = -1;
  for (let sector = 0; sector < actual.length; sector++) {
    if (actual[sector] === expected[sector]) continue;
    count++;
    if (first < 0) first = sector;
  }
  if (count === 0) return null;
  return `${count} sectors differ, the first at byte ${first * SECTOR_BYTES}: write ${actual[first]} instead of ${expected[first]}`;
}
