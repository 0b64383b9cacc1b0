/**
 * Journal segments: their layout and their writer. `replay.ts` reads them.
 *
 * A segment is written by one process under one boot of its host: a segment header, then frames, one for each append. Version 1, all
 * integers big-endian. The header:
 *
 *      0  4  magic 'ArJs'
 *      4  2  version
 *      6  2  length of the boot id
 *      8  4  length of the header, checksum included
 *     12  4  checksum of the last frame that counts in the predecessor (of its header, if no frame does)
 *     16  8  volume id
 *     24  8  epoch under which the segment was begun
 *     32  8  number of this segment
 *     40  8  number of the predecessor
 *     48  8  bytes of the predecessor that count; zero when there is none
 *     56  4  CRC-32 of the predecessor's boot id
 *     60  4  zero
 *     64     boot id, UTF-8
 *    end  4  CRC-32 of all before
 *
 * The predecessor says explicitly where the journal goes on: what is behind its bytes that count, and whole segments in between, was void
 * when this segment was begun (a torn tail, or records that a power failure had taken the data of) and stays so, whatever is written later.
 *
 * A frame:
 *
 *      0  4  magic 'ArJf'
 *      4  4  length of the frame, checksum included
 *      8  4  place in the segment, from 1
 *     12  4  checksum of the frame before, or of the segment's header
 *     16  4  checksum of the segment's header
 *     20  4  CRC-32 of the boot id
 *     24  1  flags: bit 0 mark
 *     25  3  zero
 *     28  4  count of records
 *     32  4  for a mark: how many frames of this segment it covers
 *     36     records
 *    end  4  CRC-32 of all before, seeded with volume id and segment number
 *
 * A mark says: when this frame was appended, all segments before and the first frames of this one, as many as it covers, were durable, with
 * the data and directories that their records speak of. It says nothing of the frames in between, which may have been appended while the
 * sync was under way, and is itself worth something after a power failure only once it is synced too.
 *
 * The two checksums at 12 and 16 tie a frame to its place: one of another epoch or one that a cut has left behind does not follow. A frame
 * can still be recognised alone, so that damage before it is told from a torn end.
 *
 * Records begin with their kind (1): 1 absent: index (8). 2 plain: index (8), generation (8). 3 layered: index (8), generation (8),
 * base (8), presence (4 high, 4 low). 4 truncate: index (8). 5 naming: generation (8), 1 if the others are closed (1). 6 is reserved for
 * hashed entries. 7 takeover, after which the generations before are unclean: generation (8). 8 claimed: nothing is unclean any more.
 *
 * In every version magic, version and the length of the segment's header are where they are here, and its checksum is last.
 */
import { assert, crc32, type Epoch, unreachable, type VolumeId, viewOf, writeCounter } from '../../base/index.ts';
import { INDEX_LIMIT } from './page.ts';
import type { MapChange } from './types.ts';

export const JOURNAL_VERSION = 1;
export const SEGMENT_MAGIC = 0x41724a73;
export const FRAME_MAGIC = 0x41724a66;
export const SEGMENT_FIXED_BYTES = 64;
export const FRAME_HEADER_BYTES = 36;
export const CHECKSUM_BYTES = 4;
export const FRAME_OVERHEAD_BYTES = FRAME_HEADER_BYTES + CHECKSUM_BYTES;
export const FLAG_MARK = 1;

export const RECORD_ABSENT = 1;
export const RECORD_PLAIN = 2;
export const RECORD_LAYERED = 3;
export const RECORD_TRUNCATE = 4;
export const RECORD_NAMING = 5;
export const RECORD_TAKEOVER = 7;
export const RECORD_CLAIMED = 8;
/** Bytes of a record by its kind; a kind without an entry is of a newer version. */
export const RECORD_BYTES: readonly (number | undefined)[] = [undefined, 9, 17, 33, 9, 10, undefined, 9, 1];
const RECORD_BYTES_MAX = 33;

const FIRST_BUFFER_BYTES = 4096;

/** Where the journal ends, for the next segment to go on from. */
export interface JournalTail {
  readonly segment: number;
  /** Bytes of the segment that count. */
  readonly length: number;
  /** Checksum of the last frame within them, or of the segment's header. */
  readonly checksum: number;
  /** CRC-32 of the boot id under which it was written. */
  readonly boot: number;
}

export interface SegmentIdentity {
  readonly volume: VolumeId;
  readonly epoch: Epoch;
  readonly segment: number;
  /**
   * Names the time during which appended bytes that were not synced cannot be lost. The host's boot id; where the store makes each
   * append durable before it answers, any constant.
   */
  readonly bootId: string;
  /** Where the journal before this segment ends; null when the volume's header has all that came before. */
  readonly predecessor: JournalTail | null;
}

function encodeSegmentHeader(identity: SegmentIdentity): Uint8Array {
  const { predecessor, segment } = identity;
  assert(predecessor === null || (predecessor.segment < segment && predecessor.length > 0), 'a predecessor comes before');
  const bootId = new TextEncoder().encode(identity.bootId);
  assert(bootId.byteLength < 0x1_0000, 'a boot id is short');
  const length = SEGMENT_FIXED_BYTES + bootId.byteLength + CHECKSUM_BYTES;
  const bytes = new Uint8Array(length);
  const view = viewOf(bytes);
  view.setUint32(0, SEGMENT_MAGIC);
  view.setUint16(4, JOURNAL_VERSION);
  view.setUint16(6, bootId.byteLength);
  view.setUint32(8, length);
  view.setUint32(12, predecessor?.checksum ?? 0);
  writeCounter(view, 16, identity.volume);
  writeCounter(view, 24, identity.epoch);
  writeCounter(view, 32, segment);
  writeCounter(view, 40, predecessor?.segment ?? 0);
  writeCounter(view, 48, predecessor?.length ?? 0);
  view.setUint32(56, predecessor?.boot ?? 0);
  bytes.set(bootId, SEGMENT_FIXED_BYTES);
  view.setUint32(length - CHECKSUM_BYTES, crc32(bytes.subarray(0, length - CHECKSUM_BYTES)));
  return bytes;
}

/** The seed of a frame's checksum. */
export function frameSeed(volume: VolumeId, segment: number): number {
  const bytes = new Uint8Array(16);
  const view = viewOf(bytes);
  writeCounter(view, 0, volume);
  writeCounter(view, 8, segment);
  return crc32(bytes);
}

export function bootChecksum(bootId: string): number {
  return crc32(new TextEncoder().encode(bootId));
}

/**
 * Makes the appends of one segment. Use: `begin`, `add` for each record, `finish`, then append what it returned at `start`; when the append
 * fails, append the same bytes at the same place again. There are two buffers in turn, so that one frame can be collected while the one
 * before is under way: the bytes that `finish` returned stay as they are until the second `begin` after it.
 *
 * The first append has the segment's header in front, so that a segment exists from its first frame on.
 */
export class FrameWriter {
  readonly identity: SegmentIdentity;
  private readonly header: Uint8Array;
  private readonly headerChecksum: number;
  private readonly bootChecksum: number;
  private readonly seed: number;
  /** The buffer that is being filled, and the one whose append may be under way. */
  private bytes = new Uint8Array(FIRST_BUFFER_BYTES);
  private view = viewOf(this.bytes);
  private otherBytes = new Uint8Array(FIRST_BUFFER_BYTES);
  private otherView = viewOf(this.otherBytes);
  /** Where the frame begins in the buffer: behind the segment's header in the first append. */
  private frameAt = 0;
  private at = 0;
  private records = 0;
  private open = false;
  private sequence = 0;
  private checksum: number;
  private startPosition = 0;
  private endPosition = 0;

  constructor(identity: SegmentIdentity) {
    this.identity = identity;
    this.header = encodeSegmentHeader(identity);
    this.headerChecksum = viewOf(this.header).getUint32(this.header.byteLength - CHECKSUM_BYTES);
    this.checksum = this.headerChecksum;
    this.bootChecksum = bootChecksum(identity.bootId);
    this.seed = frameSeed(identity.volume, identity.segment);
  }

  /** Where in the segment the bytes of the last `finish` belong. */
  get start(): number {
    return this.startPosition;
  }

  /** Length of the segment with the last finished frame. */
  get length(): number {
    return this.endPosition;
  }

  /** Frames finished so far. */
  get frames(): number {
    return this.sequence;
  }

  /** Records in the frame that is being collected. */
  get pending(): number {
    return this.open ? this.records : 0;
  }

  /** Where the journal ends with the last finished frame, which has to be appended before this is used: the predecessor of the next segment. Null when there is no journal at all. */
  get tail(): JournalTail | null {
    if (this.sequence === 0) return this.identity.predecessor;
    return { segment: this.identity.segment, length: this.endPosition, checksum: this.checksum, boot: this.bootChecksum };
  }

  begin(): void {
    assert(!this.open, 'one frame is collected at a time');
    const { bytes, view } = this;
    this.bytes = this.otherBytes;
    this.view = this.otherView;
    this.otherBytes = bytes;
    this.otherView = view;
    this.open = true;
    this.records = 0;
    this.frameAt = this.sequence === 0 ? this.header.byteLength : 0;
    this.at = this.frameAt + FRAME_HEADER_BYTES;
    this.reserve(RECORD_BYTES_MAX);
  }

  add(change: MapChange): void {
    assert(this.open, 'records are added to a frame that was begun');
    // What the reader would refuse is not written.
    if ('index' in change) assert(change.index >= 0 && change.index <= INDEX_LIMIT, `block index out of range: ${change.index}`);
    this.reserve(RECORD_BYTES_MAX);
    const view = this.view;
    const at = this.at;
    switch (change.kind) {
      case 'absent':
        this.addNumbers(RECORD_ABSENT, change.index, -1);
        break;
      case 'plain':
        this.addNumbers(RECORD_PLAIN, change.index, change.generation);
        break;
      case 'layered':
        this.addNumbers(RECORD_LAYERED, change.index, change.generation);
        writeCounter(view, at + 17, change.base);
        view.setUint32(at + 25, change.presenceHigh);
        view.setUint32(at + 29, change.presenceLow);
        this.at = at + 33;
        break;
      case 'truncate':
        this.addNumbers(RECORD_TRUNCATE, change.index, -1);
        break;
      case 'naming':
        this.addNumbers(RECORD_NAMING, change.generation, -1);
        view.setUint8(at + 9, change.closeOthers ? 1 : 0);
        this.at = at + 10;
        break;
      case 'takeover':
        this.addNumbers(RECORD_TAKEOVER, change.generation, -1);
        break;
      case 'claimed':
        view.setUint8(at, RECORD_CLAIMED);
        this.at = at + 1;
        break;
      default:
        unreachable(change, 'map change');
    }
    this.records++;
  }

  /** Ends the frame and returns what to append at `start`. With a mark, `covered` says how many frames of this segment it covers; else null. */
  finish(covered: number | null): Uint8Array {
    assert(this.open, 'a frame is begun before it is finished');
    assert(covered === null || covered <= this.sequence, 'a mark covers frames before it');
    this.open = false;
    const { view, frameAt } = this;
    const end = this.at + CHECKSUM_BYTES;
    this.sequence++;
    view.setUint32(frameAt, FRAME_MAGIC);
    view.setUint32(frameAt + 4, end - frameAt);
    view.setUint32(frameAt + 8, this.sequence);
    view.setUint32(frameAt + 12, this.checksum);
    view.setUint32(frameAt + 16, this.headerChecksum);
    view.setUint32(frameAt + 20, this.bootChecksum);
    view.setUint32(frameAt + 24, covered === null ? 0 : FLAG_MARK << 24);
    view.setUint32(frameAt + 28, this.records);
    view.setUint32(frameAt + 32, covered ?? 0);
    this.checksum = crc32(this.bytes.subarray(frameAt, this.at), this.seed);
    view.setUint32(this.at, this.checksum);
    if (frameAt > 0) this.bytes.set(this.header);
    this.startPosition = this.endPosition;
    this.endPosition += end;
    return this.bytes.subarray(0, end);
  }

  private addNumbers(kind: number, first: number, second: number): void {
    assert(second !== 0, 'generation zero is never allocated');
    this.view.setUint8(this.at, kind);
    writeCounter(this.view, this.at + 1, first);
    this.at += 9;
    if (second < 0) return;
    writeCounter(this.view, this.at, second);
    this.at += 8;
  }

  /** Makes room for `bytes` more and the checksum. */
  private reserve(bytes: number): void {
    const needed = this.at + bytes + CHECKSUM_BYTES;
    if (needed <= this.bytes.byteLength) return;
    let size = this.bytes.byteLength;
    while (size < needed) size *= 2;
    const grown = new Uint8Array(size);
    grown.set(this.bytes.subarray(0, this.at));
    this.bytes = grown;
    this.view = viewOf(grown);
  }
}
