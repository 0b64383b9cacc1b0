/**
 * Codec of the volume's header, which the store replaces as a whole. Version 1, all integers big-endian:
 *
 *      0  4  magic 'ArVh'
 *      4  2  version
 *      6  2  flags: bit 0 the map has a root
 *      8  4  length of all, checksum included
 *     12  4  zero
 *     16  8  volume id
 *     24  8  epoch of the owner that wrote it
 *     32 32  root page: generation (8), sequence (8), blocks (8), checksum (4), zero (4); all zero without a root
 *     64  8  first journal segment that is not folded
 *     72  8  naming generation
 *     80  8  next page sequence
 *     88  4  count of live generations
 *     92  4  count of unclean generations
 *     96     live, then unclean generations, 8 each, ascending
 *    end  4  CRC-32 of all before
 *
 * In every version magic, version and length are where they are here, and the checksum is last.
 */
import { ArchipelagoError, assert, crc32, type Epoch, type Generation, type VolumeId, viewOf, writeCounter } from '../../base/index.ts';
import type { PageRef, VolumeHeader } from './types.ts';

const HEADER_VERSION = 1;
const MAGIC = 0x41725668;
const LISTS_AT = 96;
const CHECKSUM_BYTES = 4;
const FLAG_ROOT = 1;
const TWO_TO_32 = 0x1_0000_0000;

export interface StoredHeader {
  readonly volume: VolumeId;
  readonly epoch: Epoch;
  readonly header: VolumeHeader;
}

export function encodeHeader(volume: VolumeId, epoch: Epoch, header: VolumeHeader): Uint8Array {
  const { root, liveGenerations: live, uncleanGenerations: unclean } = header;
  assert(live.includes(header.namingGeneration), 'the naming generation is live');
  assert(isAscending(live) && isAscending(unclean), 'generations are listed in ascending order');
  const length = LISTS_AT + (live.length + unclean.length) * 8 + CHECKSUM_BYTES;
  const bytes = new Uint8Array(length);
  const view = viewOf(bytes);
  view.setUint32(0, MAGIC);
  view.setUint16(4, HEADER_VERSION);
  view.setUint16(6, root === null ? 0 : FLAG_ROOT);
  view.setUint32(8, length);
  writeCounter(view, 16, volume);
  writeCounter(view, 24, epoch);
  if (root !== null) {
    writeCounter(view, 32, root.generation);
    writeCounter(view, 40, root.sequence);
    writeCounter(view, 48, root.blocks);
    view.setUint32(56, root.checksum);
  }
  writeCounter(view, 64, header.segment);
  writeCounter(view, 72, header.namingGeneration);
  writeCounter(view, 80, header.nextPageSequence);
  view.setUint32(88, live.length);
  view.setUint32(92, unclean.length);
  let at = LISTS_AT;
  for (const list of [live, unclean]) {
    for (const generation of list) {
      writeCounter(view, at, generation);
      at += 8;
    }
  }
  assert(at === length - CHECKSUM_BYTES, 'a header fills its bytes');
  view.setUint32(at, crc32(bytes.subarray(0, at)));
  return bytes;
}

/** Throws `corrupt`, or `unsupported-version`. */
export function decodeHeader(bytes: Uint8Array, volume: VolumeId): StoredHeader {
  const view = viewOf(bytes);
  const length = bytes.byteLength;
  if (length < 12 + CHECKSUM_BYTES) throw damaged(volume, `is ${length} bytes long`);
  if (view.getUint32(0) !== MAGIC) throw damaged(volume, 'is not a volume header');
  if (view.getUint32(8) !== length) throw damaged(volume, `is ${length} bytes long and says ${view.getUint32(8)}`);
  if (crc32(bytes.subarray(0, length - CHECKSUM_BYTES)) !== view.getUint32(length - CHECKSUM_BYTES)) throw damaged(volume, 'fails its checksum');
  const version = view.getUint16(4);
  if (version > HEADER_VERSION) {
    throw new ArchipelagoError('unsupported-version', `the header of volume ${volume} has version ${version}; this program knows ${HEADER_VERSION}`, {
      hint: 'update this node',
    });
  }
  if (version === 0 || length < LISTS_AT + CHECKSUM_BYTES) throw damaged(volume, `has version ${version} and ${length} bytes`);
  const counter = (at: number): number => {
    const value = view.getUint32(at) * TWO_TO_32 + view.getUint32(at + 4);
    if (!Number.isSafeInteger(value)) throw damaged(volume, `has an impossible number at byte ${at}`);
    return value;
  };
  if (counter(16) !== volume) throw damaged(volume, `belongs to volume ${counter(16)}`);
  const liveCount = view.getUint32(88);
  const uncleanCount = view.getUint32(92);
  if (length !== LISTS_AT + (liveCount + uncleanCount) * 8 + CHECKSUM_BYTES) throw damaged(volume, 'has lists that do not fit');
  const list = (from: number, count: number): Generation[] => {
    const generations = Array.from({ length: count }, (_, place) => counter(from + place * 8) as Generation);
    if (!isAscending(generations)) throw damaged(volume, 'has generations out of order');
    return generations;
  };
  const liveGenerations = list(LISTS_AT, liveCount);
  const uncleanGenerations = list(LISTS_AT + liveCount * 8, uncleanCount);
  const namingGeneration = counter(72) as Generation;
  if (!liveGenerations.includes(namingGeneration)) throw damaged(volume, 'has a naming generation that is not live');
  const root: PageRef | null =
    (view.getUint16(6) & FLAG_ROOT) === 0
      ? null
      : { generation: counter(32) as Generation, sequence: counter(40), checksum: view.getUint32(56), blocks: counter(48) };
  return {
    volume,
    epoch: counter(24) as Epoch,
    header: { root, segment: counter(64), namingGeneration, liveGenerations, uncleanGenerations, nextPageSequence: counter(80) },
  };
}

function isAscending(generations: readonly Generation[]): boolean {
  return generations.every((generation, place) => generation > (place === 0 ? 0 : (generations[place - 1] as Generation)));
}

function damaged(volume: VolumeId, what: string): ArchipelagoError {
  return new ArchipelagoError('corrupt', `the header of volume ${volume} ${what}`, { hint: 'restore the volume from a snapshot' });
}
