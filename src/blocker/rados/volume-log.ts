/**
 * A volume's log in the pool of maps: the object `header.<volume>` with the header as its content, and an object `journal.<volume>.<segment>`
 * for each segment. The attribute `epoch` of each is the epoch of the owner that sealed or made it. The attribute `segments` of the header
 * lists the segments that may exist, each as a big-endian u32: a segment is put on the list before its object is made, and its object is
 * removed before it is taken off.
 *
 * So a new owner that has sealed the header knows every segment that the owner before can still write: that one cannot put another on the
 * list. A listed segment whose object is missing is made empty, which keeps a creation that is still under way from succeeding.
 */
import { ArchipelagoError, type Epoch, type VolumeId, viewOf } from '../../base/index.ts';
import { volumeText } from '../answers.ts';
import type { JournalSegment } from '../store.ts';
import { CREATE_EXCLUSIVE, EPOCH_ATTRIBUTE, GUARD, HEADER, JOURNAL, REMOVE, SEGMENTS_ATTRIBUTE, STAMP, SUCCEED } from './binding.ts';
import type { RadosClient } from './client.ts';
import { EXISTS, MISSING, NO_DATA, radosError, STALE, staleEpoch } from './errors.ts';

/** Headers and segments are read in pieces of this size. */
const PIECE_BYTES = 256 * 1024;
const MAX_SEGMENTS = 4096;
const READ_ATTEMPTS = 8;

export interface StoredLog {
  /** Of the owner that made or sealed it last; null when there was none. */
  readonly epoch: Epoch | null;
  readonly header: Uint8Array | null;
  readonly segments: readonly JournalSegment[];
  /** All that are listed, ascending. */
  readonly listed: readonly number[];
}

/** Makes `epoch` the one that may change the log, and only then reads it. */
export async function sealAndReadLog(client: RadosClient, volume: VolumeId, epoch: Epoch): Promise<StoredLog> {
  const before = await sealHeader(client, volume, epoch);
  const listed = await readList(client, volume);
  await Promise.all(listed.map((segment) => sealSegment(client, volume, segment, epoch)));
  const header = await readObject(client, HEADER, volume, 0);
  return { epoch: before, header: contentOf(header), segments: await readSegments(client, volume, listed), listed };
}

/** A header that was made by a takeover and never written has no content. */
function contentOf(header: Uint8Array | null): Uint8Array | null {
  return header === null || header.byteLength === 0 ? null : header;
}

export async function readHeader(client: RadosClient, volume: VolumeId): Promise<Uint8Array | null> {
  return contentOf(await readObject(client, HEADER, volume, 0));
}

/** The log as it is, without becoming its owner: the header is the same before and after. Null when there is none. */
export async function readLog(client: RadosClient, volume: VolumeId): Promise<StoredLog | null> {
  let header = await readObject(client, HEADER, volume, 0);
  for (let attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
    if (header === null) return null;
    const epoch = await readEpoch(client, volume);
    const listed = await readList(client, volume);
    const segments = await readSegments(client, volume, listed);
    const again = await readObject(client, HEADER, volume, 0);
    if (again !== null && Buffer.compare(header, again) === 0) return { epoch, header: contentOf(header), segments, listed };
    header = again;
  }
  throw new ArchipelagoError('unavailable', `the log of ${volumeText(volume)} does not come to rest: its owner replaces the header all the time`);
}

/** Removes header and segments, whoever owns them. */
export async function removeLog(client: RadosClient, volume: VolumeId): Promise<void> {
  for (const segment of await readList(client, volume)) await removeObject(client, JOURNAL, volume, segment);
  await removeObject(client, HEADER, volume, 0);
}

export async function removeObject(client: RadosClient, kind: number, first: number, second: number): Promise<boolean> {
  const result = await client.run((operation) => {
    operation.kind = kind;
    operation.first = first;
    operation.second = second;
    operation.steps = REMOVE;
  });
  if (result < 0 && result !== MISSING) throw radosError(result, `removing object ${first}/${second}`);
  return result >= 0;
}

/**
 * Resolves to the epoch of the owner before, null when there was none. That has to be exact: an owner which sealed the header after we had
 * looked, and went on to write, would not be known to anyone. So the seal holds only if nothing has changed since.
 */
async function sealHeader(client: RadosClient, volume: VolumeId, epoch: Epoch): Promise<Epoch | null> {
  for (;;) {
    const before = await readEpoch(client, volume);
    if (before !== null && before > epoch) throw staleEpoch(volume, epoch);
    const sealed = await mutateLog(client, HEADER, volume, 0, epoch, before === null ? CREATE_EXCLUSIVE | STAMP : SUCCEED | STAMP, before ?? 0);
    if (sealed >= 0) return before;
    if (sealed !== STALE && sealed !== EXISTS && sealed !== MISSING) throw radosError(sealed, `sealing the header of ${volumeText(volume)}`);
  }
}

async function sealSegment(client: RadosClient, volume: VolumeId, segment: number, epoch: Epoch): Promise<void> {
  for (;;) {
    const sealed = await mutateLog(client, JOURNAL, volume, segment, epoch, GUARD | STAMP);
    if (sealed >= 0) return;
    if (sealed === STALE) throw staleEpoch(volume, epoch);
    if (sealed !== MISSING) throw radosError(sealed, `sealing the journal of ${volumeText(volume)}`);
    const made = await mutateLog(client, JOURNAL, volume, segment, epoch, CREATE_EXCLUSIVE | STAMP);
    if (made >= 0) return;
    // Another owner was faster: it is sealed like any other.
    if (made !== EXISTS) throw radosError(made, `making a journal segment of ${volumeText(volume)}`);
  }
}

function mutateLog(client: RadosClient, kind: number, volume: VolumeId, segment: number, epoch: Epoch, steps: number, expected = 0): Promise<number> {
  return client.run((operation) => {
    operation.kind = kind;
    operation.first = volume;
    operation.second = segment;
    operation.epoch = epoch;
    operation.steps = steps;
    operation.length = expected;
  });
}

/** The segments on the list of a volume's header; none where there is no header or no list. */
async function readList(client: RadosClient, volume: VolumeId): Promise<number[]> {
  const bytes = new Uint8Array(4 * MAX_SEGMENTS);
  const length = (await readAttribute(client, volume, SEGMENTS_ATTRIBUTE, bytes)) ?? 0;
  const view = viewOf(bytes);
  return Array.from({ length: length / 4 }, (_, place) => view.getUint32(4 * place));
}

/** Null when there is no header. */
async function readEpoch(client: RadosClient, volume: VolumeId): Promise<Epoch | null> {
  const bytes = new Uint8Array(8);
  const length = await readAttribute(client, volume, EPOCH_ATTRIBUTE, bytes);
  if (length === null) return null;
  if (length !== bytes.byteLength) {
    throw new ArchipelagoError('corrupt', `the header of ${volumeText(volume)} has lost the attribute of its owner's epoch`, {
      hint: 'somebody has changed the objects of this pool behind our back; restore the volume from a copy',
    });
  }
  return Number(viewOf(bytes).getBigUint64(0)) as Epoch;
}

/** Resolves to its length, which is 0 when the header has no such attribute; null when there is no header. */
async function readAttribute(client: RadosClient, volume: VolumeId, attribute: number, into: Uint8Array): Promise<number | null> {
  const { result } = await client.call((cluster, slot, binding) => binding.readAttribute(cluster, slot, volume, attribute, into));
  if (result === MISSING) return null;
  if (result === NO_DATA) return 0;
  if (result < 0) throw radosError(result, `reading an attribute of the header of ${volumeText(volume)}`);
  return result;
}

export function encodeList(segments: readonly number[]): Uint8Array {
  if (segments.length > MAX_SEGMENTS) {
    throw new ArchipelagoError('unavailable', `a journal has ${segments.length} segments`, {
      hint: 'it is folded as soon as the store takes writes',
    });
  }
  const bytes = new Uint8Array(4 * segments.length);
  const view = viewOf(bytes);
  segments.forEach((segment, place) => {
    view.setUint32(4 * place, segment);
  });
  return bytes;
}

/**
 * From the last to the first, one after the other: an owner that goes on meanwhile ends a segment before it begins the next. So what is read
 * is the journal as it was at one moment, never one with a gap.
 */
async function readSegments(client: RadosClient, volume: VolumeId, listed: readonly number[]): Promise<JournalSegment[]> {
  const segments: JournalSegment[] = [];
  for (const number of listed.toReversed()) {
    const bytes = await readObject(client, JOURNAL, volume, number);
    if (bytes !== null) segments.push({ number, bytes });
  }
  return segments.reverse();
}

/** The whole of an object, or null when it does not exist. */
export async function readObject(client: RadosClient, kind: number, first: number, second: number): Promise<Uint8Array | null> {
  const pieces: Uint8Array[] = [];
  for (let offset = 0; ; offset += PIECE_BYTES) {
    const piece = new Uint8Array(PIECE_BYTES);
    const result = await client.run((operation) => {
      operation.kind = kind;
      operation.first = first;
      operation.second = second;
      operation.offset = offset;
      operation.bytes = piece;
    });
    if (result === MISSING) return null;
    if (result < 0) throw radosError(result, `reading object ${first}/${second}`);
    pieces.push(piece.subarray(0, result));
    if (result < PIECE_BYTES) break;
  }
  return pieces.length === 1 ? (pieces[0] as Uint8Array).slice() : Buffer.concat(pieces);
}
