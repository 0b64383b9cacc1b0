/** Parses one journal segment: its header, the frames that follow one another, and what can be recognised behind the point where that ends. */
import { ArchipelagoError, assert, crc32, type Epoch, type Generation, hex16, type VolumeId, viewOf } from '../../base/index.ts';
import {
  CHECKSUM_BYTES,
  FLAG_MARK,
  FRAME_HEADER_BYTES,
  FRAME_MAGIC,
  FRAME_OVERHEAD_BYTES,
  frameSeed,
  JOURNAL_VERSION,
  type JournalTail,
  RECORD_ABSENT,
  RECORD_BYTES,
  RECORD_CLAIMED,
  RECORD_LAYERED,
  RECORD_NAMING,
  RECORD_PLAIN,
  RECORD_TAKEOVER,
  RECORD_TRUNCATE,
  SEGMENT_FIXED_BYTES,
  SEGMENT_MAGIC,
} from './journal.ts';
import { INDEX_LIMIT } from './page.ts';
import type { MapChange } from './types.ts';

const TWO_TO_32 = 0x1_0000_0000;

export interface ParsedHeader {
  /** Bytes of the header. */
  readonly length: number;
  readonly checksum: number;
  /** CRC-32 of the boot id. */
  readonly boot: number;
  readonly epoch: Epoch;
  readonly predecessor: JournalTail | null;
}

/** One good frame. */
export interface Frame {
  readonly start: number;
  readonly end: number;
  readonly checksum: number;
  readonly boot: number;
  /** For a mark: how many frames of the segment it covers; null for any other frame. */
  readonly covers: number | null;
  readonly records: number;
}

export interface ParsedSegment {
  readonly number: number;
  readonly view: DataView;
  /** Bytes that there are. */
  readonly length: number;
  /** Null when the header does not parse. */
  readonly header: ParsedHeader | null;
  /** The frames that follow one another from the header on. */
  readonly frames: readonly Frame[];
  /** Where the last of them ends. */
  readonly validEnd: number;
  /** Good frames of this segment behind `validEnd`, which follow nothing. */
  readonly survivors: readonly Frame[];
}

/** Throws `unsupported-version`, or `corrupt` when the segment is another one. Anything less is in the result. */
export function parseSegment(bytes: Uint8Array, volume: VolumeId, number: number): ParsedSegment {
  const view = viewOf(bytes);
  const seed = frameSeed(volume, number);
  const header = parseHeader(bytes, view, volume, number);
  const frames: Frame[] = [];
  let at = header?.length ?? 0;
  if (header !== null) {
    let previous = header.checksum;
    for (;;) {
      const frame = frameAt(bytes, view, at, seed);
      if (frame === null || !belongs(view, frame, header)) break;
      if (view.getUint32(at + 8) !== frames.length + 1 || view.getUint32(at + 12) !== previous) break;
      if ((frame.covers ?? 0) > frames.length) throw damaged({ number }, at, `has a mark for ${frame.covers} frames after ${frames.length}`);
      frames.push(frame);
      previous = frame.checksum;
      at = frame.end;
    }
  }
  const survivors: Frame[] = [];
  for (let scan = at; scan + FRAME_OVERHEAD_BYTES <= bytes.byteLength; ) {
    const frame = bytes[scan] === FRAME_MAGIC >>> 24 ? frameAt(bytes, view, scan, seed) : null;
    if (frame !== null && (header === null || belongs(view, frame, header))) survivors.push(frame);
    scan = frame?.end ?? scan + 1;
  }
  return { number, view, length: bytes.byteLength, header, frames, validEnd: at, survivors };
}

/** Appends a frame's records to `changes`. The frame passed its checksum, so what is wrong in it was written wrong, or damaged in memory. */
export function decodeRecords(segment: ParsedSegment, frame: Frame, changes: MapChange[]): void {
  const { view } = segment;
  const end = frame.end - CHECKSUM_BYTES;
  let at = frame.start + FRAME_HEADER_BYTES;
  for (let record = 0; record < frame.records; record++) {
    if (at >= end) throw damaged(segment, at, `has ${record} of ${frame.records} records in a frame`);
    const kind = view.getUint8(at);
    const length = RECORD_BYTES[kind];
    if (length === undefined) throw newer(segment, at, `a record of kind ${kind}`);
    if (at + length > end) throw damaged(segment, at, 'has a record that is longer than its frame');
    changes.push(decodeRecord(segment, kind, at));
    at += length;
  }
  if (at !== end) throw damaged(segment, at, 'has bytes behind the last record of a frame');
}

function decodeRecord(segment: ParsedSegment, kind: number, at: number): MapChange {
  const { view } = segment;
  const number = (place: number, above: number, below: number): number => {
    const value = view.getUint32(place) * TWO_TO_32 + view.getUint32(place + 4);
    if (value <= above || value > below) throw damaged(segment, place, `has the impossible number ${value} in a record`);
    return value;
  };
  const generation = (place: number, above = 0): Generation => number(place, above, Number.MAX_SAFE_INTEGER) as Generation;
  const index = (): number => number(at + 1, -1, INDEX_LIMIT - 1);
  switch (kind) {
    case RECORD_ABSENT:
      return { kind: 'absent', index: index() };
    case RECORD_PLAIN:
      return { kind: 'plain', index: index(), generation: generation(at + 9) };
    case RECORD_LAYERED: {
      const presence = { presenceHigh: view.getUint32(at + 25), presenceLow: view.getUint32(at + 29) };
      return { kind: 'layered', index: index(), generation: generation(at + 9), base: generation(at + 17, -1), ...presence };
    }
    case RECORD_TRUNCATE:
      return { kind: 'truncate', index: number(at + 1, -1, INDEX_LIMIT) };
    case RECORD_TAKEOVER:
      return { kind: 'takeover', generation: generation(at + 1) };
    case RECORD_CLAIMED:
      return { kind: 'claimed' };
    default: {
      assert(kind === RECORD_NAMING, 'a kind with a length is decoded');
      const closeOthers = view.getUint8(at + 9);
      if (closeOthers > 1) throw damaged(segment, at, 'has a naming record that is neither yes nor no');
      return { kind: 'naming', generation: generation(at + 1), closeOthers: closeOthers === 1 };
    }
  }
}

function parseHeader(bytes: Uint8Array, view: DataView, volume: VolumeId, number: number): ParsedHeader | null {
  if (bytes.byteLength < SEGMENT_FIXED_BYTES + CHECKSUM_BYTES || view.getUint32(0) !== SEGMENT_MAGIC) return null;
  const length = view.getUint32(8);
  if (length < SEGMENT_FIXED_BYTES + CHECKSUM_BYTES || length > bytes.byteLength) return null;
  const checksum = view.getUint32(length - CHECKSUM_BYTES);
  if (crc32(bytes.subarray(0, length - CHECKSUM_BYTES)) !== checksum) return null;
  const version = view.getUint16(4);
  const where = { number };
  if (version > JOURNAL_VERSION) throw newer(where, 4, `version ${version}`);
  const counter = (at: number): number => {
    const value = view.getUint32(at) * TWO_TO_32 + view.getUint32(at + 4);
    if (!Number.isSafeInteger(value)) throw damaged(where, at, 'has an impossible number');
    return value;
  };
  if (version === 0 || view.getUint16(6) !== length - SEGMENT_FIXED_BYTES - CHECKSUM_BYTES) throw damaged(where, 4, 'has a wrong header');
  if (counter(16) !== volume || counter(32) !== number) throw damaged(where, 16, `is segment ${counter(32)} of volume ${counter(16)}`);
  const boot = crc32(bytes.subarray(SEGMENT_FIXED_BYTES, length - CHECKSUM_BYTES));
  const tail: JournalTail = { segment: counter(40), length: counter(48), checksum: view.getUint32(12), boot: view.getUint32(56) };
  if (tail.length > 0 && tail.segment >= number) throw damaged(where, 40, `goes on from segment ${tail.segment}`);
  return { length, checksum, boot, epoch: counter(24) as Epoch, predecessor: tail.length === 0 ? null : tail };
}

/** The frame that begins at `at`, if there is a good one of this volume and segment number. */
function frameAt(bytes: Uint8Array, view: DataView, at: number, seed: number): Frame | null {
  if (at + FRAME_OVERHEAD_BYTES > bytes.byteLength || view.getUint32(at) !== FRAME_MAGIC) return null;
  const length = view.getUint32(at + 4);
  const end = at + length;
  if (length < FRAME_OVERHEAD_BYTES || end > bytes.byteLength) return null;
  const checksum = view.getUint32(end - CHECKSUM_BYTES);
  if (crc32(bytes.subarray(at, end - CHECKSUM_BYTES), seed) !== checksum) return null;
  const covers = (view.getUint8(at + 24) & FLAG_MARK) === 0 ? null : view.getUint32(at + 32);
  return { start: at, end, checksum, boot: view.getUint32(at + 20), covers, records: view.getUint32(at + 28) };
}

function belongs(view: DataView, frame: Frame, header: ParsedHeader): boolean {
  return view.getUint32(frame.start + 16) === header.checksum && frame.boot === header.boot;
}

/** The error for a segment that cannot be what was written. */
export function damaged(segment: { readonly number: number }, position: number, what: string): ArchipelagoError {
  return new ArchipelagoError('corrupt', `journal segment ${hex16(segment.number)} at byte ${position} ${what}`, {
    hint: 'restore the volume from a snapshot, or the segment from a copy',
  });
}

function newer(segment: { readonly number: number }, position: number, what: string): ArchipelagoError {
  return new ArchipelagoError(
    'unsupported-version',
    `journal segment ${hex16(segment.number)} at byte ${position} has ${what}; this program knows version ${JOURNAL_VERSION}`,
    { hint: 'update this node' },
  );
}
