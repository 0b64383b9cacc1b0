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
import { CREATE_EXCLUSIVE, EPOCH_ATTRIBUTE, GUARD, HEADER, JOURNAL, REMOVE, SEGMENTS_ATTRIBUTE, STAMP } from './binding.ts';
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
  const before = await readEpoch(client, volume);
  await seal(client, HEADER, volume, 0, epoch);
  const listed = await readList(client, volume);
  await Promise.all(listed.map((segment) => seal(client, JOURNAL, volume, segment, epoch)));
  const [header, segments] = await Promise.all([readObject(client, HEADER, volume, 0), readSegments(client, volume, listed)]);
  return { epoch: before, header: contentOf(header), segments, listed };
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

async function seal(client: RadosClient, kind: number, volume: VolumeId, segment: number, epoch: Epoch): Promise<void> {
  const mutate = (steps: number): Promise<number> =>
    client.run((operation) => {
      operation.kind = kind;
      operation.first = volume;
      operation.second = segment;
      operation.epoch = epoch;
      operation.steps = steps;
    });
  for (;;) {
    const sealed = await mutate(GUARD | STAMP);
    if (sealed >= 0) return;
    if (sealed === STALE) throw staleEpoch(volume, epoch);
    if (sealed !== MISSING) throw radosError(sealed, `sealing the log of ${volumeText(volume)}`);
    const made = await mutate(CREATE_EXCLUSIVE | STAMP);
    if (made >= 0) return;
    // Another owner was faster: it is sealed like any other.
    if (made !== EXISTS) throw radosError(made, `making the log of ${volumeText(volume)}`);
  }
}

/** The segments on the list of a volume's header; none where there is no header or no list. */
async function readList(client: RadosClient, volume: VolumeId): Promise<number[]> {
  const bytes = new Uint8Array(4 * MAX_SEGMENTS);
  const length = await readAttribute(client, volume, SEGMENTS_ATTRIBUTE, bytes);
  const view = viewOf(bytes);
  return Array.from({ length: length / 4 }, (_, place) => view.getUint32(4 * place));
}

async function readEpoch(client: RadosClient, volume: VolumeId): Promise<Epoch | null> {
  const bytes = new Uint8Array(8);
  const length = await readAttribute(client, volume, EPOCH_ATTRIBUTE, bytes);
  return length === 0 ? null : (Number(viewOf(bytes).getBigUint64(0)) as Epoch);
}

/** Resolves to its length, which is 0 where there is no header, or it has no such attribute. */
async function readAttribute(client: RadosClient, volume: VolumeId, attribute: number, into: Uint8Array): Promise<number> {
  const { result } = await client.call((cluster, slot, binding) => binding.readAttribute(cluster, slot, volume, attribute, into));
  if (result === MISSING || result === NO_DATA) return 0;
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

async function readSegments(client: RadosClient, volume: VolumeId, listed: readonly number[]): Promise<JournalSegment[]> {
  const contents = await Promise.all(listed.map((segment) => readObject(client, JOURNAL, volume, segment)));
  const segments: JournalSegment[] = [];
  listed.forEach((number, place) => {
    const bytes = contents[place];
    if (bytes != null) segments.push({ number, bytes });
  });
  return segments;
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
