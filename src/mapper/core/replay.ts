/**
 * Reads a journal back: which changes count, and where it ends.
 *
 * - Segments are followed backwards from the last one with a good header, each naming its predecessor and how much of it counts.
 * - The end of the last segment may be torn: what does not parse there is cut. It is damage instead, and the error `corrupt`, when
 *   something behind it proves that it once was whole: a mark that covers it, or, under the boot that still runs, any good frame.
 * - A predecessor that does not have what its successor says is damage too, unless the power failed before either was durable: then they
 *   were written under the same boot, not the current one, and no mark follows. The replay ends there.
 * - Frames under a boot that has ended count as far as a mark covers them. What a segment of another boot took over as its predecessor
 *   counts as if marked: it was read after a power failure, so it was durable.
 */
import { assert, type Epoch, hex16, type VolumeId } from '../../base/index.ts';
import { bootChecksum, type JournalTail } from './journal.ts';
import { damaged, decodeRecords, type Frame, type ParsedSegment, parseSegment } from './segment.ts';
import type { MapChange } from './types.ts';

export interface ReplayOptions {
  readonly volume: VolumeId;
  /** The boot id of now: see `SegmentIdentity.bootId`. */
  readonly bootId: string;
  /** The header's segment: those below are left over. */
  readonly fromSegment: number;
  /** The reader's epoch, which no segment may exceed. */
  readonly epoch?: Epoch;
}

export interface Replay {
  readonly changes: MapChange[];
  /** Where the journal ends: the predecessor of the segment that goes on from here. Null when nothing counts. */
  readonly tail: JournalTail | null;
  /** Of the owner that wrote the last frame that counts; null when none does. */
  readonly epoch: Epoch | null;
  /** A number for that segment: above all that were found. Never go on in a segment that was found. */
  readonly nextSegment: number;
  /** Some bytes at the end did not parse, or a segment at the end did not begin well. */
  readonly torn: boolean;
  /** Where the first such bytes are; null when nothing was torn. */
  readonly cutAt: { readonly segment: number; readonly position: number } | null;
  /** Records that parsed but do not count, because a power failure may have taken what they speak of. */
  readonly droppedRecords: number;
}

/** A segment and how much of it belongs to the journal. */
interface Link {
  readonly segment: ParsedSegment;
  readonly frames: readonly Frame[];
}

/** The segments that make up the journal, in its order. */
interface Chain {
  readonly links: readonly Link[];
  /** Where a power failure has broken it. */
  readonly brokenAt: Replay['cutAt'];
  /** Records behind that. */
  readonly lostRecords: number;
}

/** Throws `corrupt`, or `unsupported-version`. `segments` are as the store found them, in any order. */
export function decodeSegments(segments: readonly { readonly number: number; readonly bytes: Uint8Array }[], options: ReplayOptions): Replay {
  const parsed = segments
    .filter((segment) => segment.number >= options.fromSegment)
    .sort((a, b) => a.number - b.number)
    .map((segment) => parseSegment(segment.bytes, options.volume, segment.number));
  for (let i = 1; i < parsed.length; i++)
    assert((parsed[i] as ParsedSegment).number > (parsed[i - 1] as ParsedSegment).number, 'a segment is given once');
  const boot = bootChecksum(options.bootId);
  const highest = parsed.at(-1)?.number;
  const nextSegment = highest === undefined ? options.fromSegment : highest + 1;
  let last = parsed.length - 1;
  let cutAt: Replay['cutAt'] = null;
  // Segments at the end that never began: their header was being written when the process or the host died.
  for (; last >= 0 && (parsed[last] as ParsedSegment).header === null; last--) {
    const segment = parsed[last] as ParsedSegment;
    rejectSurvivors(segment, boot);
    cutAt = { segment: segment.number, position: 0 };
  }
  if (last < 0) return { changes: [], tail: null, epoch: null, nextSegment, torn: cutAt !== null, cutAt, droppedRecords: 0 };
  const end = parsed[last] as ParsedSegment;
  rejectSurvivors(end, boot);
  if (end.validEnd < end.length) cutAt = { segment: end.number, position: end.validEnd };
  const chain = followBack(parsed, end, boot, options);
  return collect(chain, boot, nextSegment, chain.brokenAt ?? cutAt);
}

/** Throws when something behind the point where a segment stops to parse proves that the bytes before were whole once. */
function rejectSurvivors(segment: ParsedSegment, boot: number): void {
  for (const frame of segment.survivors) {
    const covered = frame.covers !== null && frame.covers > segment.frames.length;
    if (covered) throw damaged(segment, segment.validEnd, 'does not parse, and a mark behind it says that it was durable');
    if (frame.boot === boot) throw damaged(segment, segment.validEnd, 'does not parse, and what was written behind it does');
  }
}

/** Follows the predecessors from the last segment on. */
function followBack(parsed: readonly ParsedSegment[], end: ParsedSegment, boot: number, options: ReplayOptions): Chain {
  let brokenAt: Replay['cutAt'] = null;
  let lostRecords = 0;
  let links: Link[] = [];
  let current = end;
  let frames = end.frames;
  checkEpoch(end, options.epoch);
  for (;;) {
    links.unshift({ segment: current, frames });
    const tail = current.header?.predecessor ?? null;
    if (tail === null || tail.segment < options.fromSegment) return { links, brokenAt, lostRecords };
    let before = parsed.find((segment) => segment.number === tail.segment);
    const within = before === undefined ? null : framesUpTo(before, tail);
    if (within === null) {
      rejectBreak(before, current, links, boot, tail);
      // What follows the break was not durable either: the journal ends where the part before it does.
      brokenAt = { segment: tail.segment, position: before?.validEnd ?? 0 };
      for (const link of links) for (const frame of link.frames) lostRecords += frame.records;
      links = [];
      // Without its header, what came before it is known by number only. It then is as the one who began the lost segment found it.
      if (!before?.header) before = parsed.filter((segment) => segment.number < tail.segment && segment.header !== null).at(-1);
      if (before === undefined) return { links, brokenAt, lostRecords };
      rejectSurvivors(before, boot);
    }
    assert(before !== undefined, 'a link has a segment');
    checkEpoch(before, current.header?.epoch);
    current = before;
    frames = within ?? before.frames;
  }
}

/** The frames within `tail`, or null when the segment does not end a frame there or ends another. */
function framesUpTo(segment: ParsedSegment, tail: JournalTail): readonly Frame[] | null {
  const { header } = segment;
  if (header === null) return null;
  if (tail.length === header.length) return tail.checksum === header.checksum ? [] : null;
  const place = segment.frames.findIndex((frame) => frame.end === tail.length);
  if (place < 0 || segment.frames[place]?.checksum !== tail.checksum) return null;
  return segment.frames.slice(0, place + 1);
}

/** Throws unless a power failure explains that `before` lacks what `after` says it had. `links` is `after` and what follows. */
function rejectBreak(before: ParsedSegment | undefined, after: ParsedSegment, links: readonly Link[], boot: number, tail: JournalTail): void {
  const where = before ?? { number: tail.segment };
  const position = before?.validEnd ?? 0;
  const what = `has not the ${tail.length} bytes that segment ${hex16(after.number)} goes on from`;
  if (before !== undefined) rejectSurvivors(before, boot);
  if (position >= tail.length) throw damaged(where, tail.length, `contradicts segment ${hex16(after.number)}, which goes on from there`);
  const hasMark = ({ segment, frames }: Link): boolean => [...frames, ...segment.survivors].some((frame) => frame.covers !== null);
  if (links.some(hasMark)) throw damaged(where, position, `${what}, and a mark says that it was durable`);
  if (tail.boot === boot) throw damaged(where, position, `${what}, under the boot that still runs`);
  if (tail.boot !== after.header?.boot) throw damaged(where, position, `${what}, which were durable when it was begun`);
}

function collect(chain: Chain, boot: number, nextSegment: number, cutAt: Replay['cutAt']): Replay {
  const counting = countingFrames(chain.links, boot);
  const changes: MapChange[] = [];
  let tail: JournalTail | null = null;
  let epoch: Epoch | null = null;
  let seen = 0;
  let droppedRecords = chain.lostRecords;
  for (const { segment, frames } of chain.links) {
    const { header } = segment;
    assert(header !== null, 'a segment of the chain has a header');
    if (seen < counting || (seen === counting && tail === null))
      tail = { segment: segment.number, length: header.length, checksum: header.checksum, boot: header.boot };
    for (const frame of frames) {
      if (seen < counting) {
        decodeRecords(segment, frame, changes);
        epoch = header.epoch;
        tail = { segment: segment.number, length: frame.end, checksum: frame.checksum, boot: header.boot };
      } else droppedRecords += frame.records;
      seen++;
    }
  }
  return { changes, tail, epoch, nextSegment, torn: cutAt !== null, cutAt, droppedRecords };
}

/** How many frames of the chain count. */
function countingFrames(chain: readonly Link[], boot: number): number {
  let seen = 0;
  let durable = 0;
  let lastBoot: number | undefined;
  for (const { segment, frames } of chain) {
    const own = segment.header?.boot;
    if (lastBoot !== undefined && own !== lastBoot) durable = seen;
    lastBoot = own;
    const segmentStart = seen;
    for (const frame of frames) {
      if (frame.covers !== null) durable = Math.max(durable, segmentStart + frame.covers);
      seen++;
    }
    // A mark behind a hole in what it does not cover says the same: it was written after the sync.
    for (const { covers } of segment.survivors) if (covers !== null) durable = Math.max(durable, segmentStart + Math.min(covers, frames.length));
  }
  return lastBoot === boot ? seen : durable;
}

function checkEpoch(segment: ParsedSegment, limit: Epoch | undefined): void {
  const epoch = segment.header?.epoch;
  if (epoch === undefined || limit === undefined || epoch <= limit) return;
  throw damaged(segment, 0, `was begun under epoch ${epoch}, after epoch ${limit}`);
}
