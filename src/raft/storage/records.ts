/**
 * The records on disk. Numbers outside of messages are big-endian.
 *
 * Log, under `e/<index of the first entry as 16 hex digits>`: the entries of one batch.
 *
 *   0  u32 crc       CRC-32 of everything behind it
 *   4  u32 chain     CRC-32 of everything behind it, continued from the chain of the record before: a missing or exchanged record shows
 *   8  u8  version   2; 1 had one entry in each record
 *   9  message Log { repeated Entry entries = 9; }, as in a frame (`wire.ts`)
 *
 * A record's entries count as far as the next record begins: what a new leader replaces stays on the disk, behind what it replaces it by.
 * In the same way the first record may begin before the log does, where that was compacted.
 *
 * State entry, under `s/<generation as 16 hex digits>/<key>`: u32 CRC-32 of key and value, then the value.
 *
 * Meta, under `m`, part of every batch: u32 CRC-32 of everything behind it, u8 version (2; 1 was JSON), then
 *
 *   message Place { uint64 index = 1; uint64 term = 2; Configuration configuration = 3; }
 *   message Meta {
 *     uint64 batch = 1; uint64 starts = 2; string id = 3; uint64 term = 4; string votedFor = 5; Place base = 6;
 *     uint64 firstIndex = 7; uint32 firstChain = 8; uint64 lastIndex = 9; uint32 lastChain = 10;
 *     Place applied = 11; uint64 generation = 12; uint64 count = 13; uint32 sum = 14;
 *   }
 */
import { ArchipelagoError, crc32, viewOf } from '../../base/index.ts';
import { counter, ENTRIES_FIELD, readEntry, readSnapshotMeta, writeEntries, writeSnapshotMeta } from '../codec.ts';
import type { Configuration, Entry, LogIndex, SnapshotMeta, Term } from '../core/types.ts';
import { ProtobufReader, ProtobufWriter } from '../protobuf.ts';

const RUN_VERSION = 2;
const RUN_HEADER_BYTES = 9;
const META_VERSION = 2;
const META_HEADER_BYTES = 5;
const STATE_HEADER_BYTES = 4;

/** One is enough: what it has written is taken from it before anyone else writes. */
const writer = new ProtobufWriter();

/** Facts about the stored log and state as of one batch. */
export interface Meta {
  /** Counts the batches; the watermark refers to it. */
  readonly batch: number;
  /** Counts the openings of this directory. */
  readonly starts: number;
  /** Whose directory this is. */
  readonly id: string;
  readonly term: number;
  readonly votedFor: string | null;
  /** The log begins behind it. */
  readonly base: SnapshotMeta;
  /** Where the first record begins, or will, and the chain before it. */
  readonly first: { readonly index: number; readonly chain: number };
  readonly last: { readonly index: number; readonly chain: number };
  readonly applied: SnapshotMeta;
  readonly state: { readonly generation: number; readonly count: number; readonly sum: number };
}

export function corrupt(what: string, directory: string, cause?: unknown): ArchipelagoError {
  return new ArchipelagoError('corrupt', `Raft log in ${directory}: ${what}`, {
    hint:
      'this node must not vote or serve on such a disk. Check the disk; then remove the node from the cluster, clear this directory, and let ' +
      'it join again as a new member: the others have the data',
    ...(cause === undefined ? {} : { cause }),
  });
}

/** The record of entries that follow one another, behind one with `previousChain`. It is a view that holds until another record is encoded. */
export function encodeRun(entries: readonly Entry[], previousChain: number): { record: Uint8Array; chain: number } {
  writer.skip(RUN_HEADER_BYTES);
  writeEntries(writer, entries);
  const record = writer.takeView();
  const view = viewOf(record);
  view.setUint8(8, RUN_VERSION);
  const chain = crc32(record.subarray(8), previousChain);
  view.setUint32(4, chain);
  view.setUint32(0, crc32(record.subarray(4)));
  return { record, chain };
}

/** The entries of a record that should begin at `first`, at least one; throws `corrupt` if it does not. */
export function decodeRun(record: Uint8Array, first: number, directory: string): Entry[] {
  const view = viewOf(record);
  const what = `the record of entry ${first}`;
  if (record.byteLength <= RUN_HEADER_BYTES || view.getUint32(0) !== crc32(record.subarray(4))) throw corrupt(`${what} is damaged`, directory);
  if (view.getUint8(8) !== RUN_VERSION) throw otherVersion(what, view.getUint8(8), directory);
  const entries: Entry[] = [];
  readMessage(record.subarray(RUN_HEADER_BYTES), what, directory, (reader, field) => {
    if (field !== ENTRIES_FIELD) return false;
    const entry = readEntry(reader);
    const index = first + entries.length;
    if (entry.index !== index) throw corrupt(`the record of entry ${index} is that of ${entry.index}`, directory);
    entries.push(entry);
    return true;
  });
  if (entries.length === 0) throw corrupt(`${what} is empty`, directory);
  return entries;
}

/** The chain of a whole record, which should be behind one with `previousChain`; throws `corrupt` if it is not. */
export function checkChain(record: Uint8Array, first: number, previousChain: number, directory: string): number {
  const chain = viewOf(record).getUint32(4);
  if (chain !== crc32(record.subarray(8), previousChain))
    throw corrupt(`entry ${first} does not follow the entry before it: one of the two is an old one`, directory);
  return chain;
}

/** A view that holds until another record is encoded. */
export function encodeMeta(meta: Meta): Uint8Array {
  writer.skip(META_HEADER_BYTES);
  writer.counter(1, counter(meta.batch));
  writer.counter(2, counter(meta.starts));
  writer.text(3, meta.id);
  writer.counter(4, counter(meta.term));
  writer.text(5, meta.votedFor ?? '');
  writeSnapshotMeta(writer, 6, meta.base);
  writer.counter(7, counter(meta.first.index));
  writer.counter(8, meta.first.chain);
  writer.counter(9, counter(meta.last.index));
  writer.counter(10, meta.last.chain);
  writeSnapshotMeta(writer, 11, meta.applied);
  writer.counter(12, counter(meta.state.generation));
  writer.counter(13, counter(meta.state.count));
  writer.counter(14, meta.state.sum);
  const record = writer.takeView();
  const view = viewOf(record);
  view.setUint8(4, META_VERSION);
  view.setUint32(0, crc32(record.subarray(4)));
  return record;
}

export function newMeta(id: string, configuration: Configuration): Meta {
  const place = { index: 0 as LogIndex, term: 0 as Term, configuration };
  return {
    batch: 0,
    starts: 0,
    id,
    term: 0,
    votedFor: null,
    base: place,
    first: { index: 1, chain: 0 },
    last: { index: 0, chain: 0 },
    applied: place,
    state: { generation: 1, count: 0, sum: 0 },
  };
}

export function decodeMeta(record: Uint8Array, directory: string): Meta {
  const what = 'the meta record';
  if (record.byteLength < META_HEADER_BYTES || viewOf(record).getUint32(0) !== crc32(record.subarray(4))) {
    throw corrupt(`${what} is damaged`, directory);
  }
  const version = record[4] as number;
  if (version !== META_VERSION) throw otherVersion(what, version, directory);
  const numbers = new Array<number>(15).fill(0);
  let id = '';
  let votedFor: string | null = null;
  let base: SnapshotMeta | null = null;
  let applied: SnapshotMeta | null = null;
  readMessage(record.subarray(META_HEADER_BYTES), what, directory, (reader, field) => {
    if (field === 3) id = reader.text();
    else if (field === 5) votedFor = reader.text();
    else if (field === 6) base = readSnapshotMeta(reader);
    else if (field === 11) applied = readSnapshotMeta(reader);
    else if (field < numbers.length) numbers[field] = reader.counter();
    else return false;
    return true;
  });
  if (base === null || applied === null) throw corrupt(`${what} says nothing of the log`, directory);
  const number = (field: number) => numbers[field] as number;
  return {
    batch: number(1),
    starts: number(2),
    id,
    term: number(4),
    votedFor,
    base,
    first: { index: number(7), chain: number(8) },
    last: { index: number(9), chain: number(10) },
    applied,
    state: { generation: number(12), count: number(13), sum: number(14) },
  };
}

export function stateChecksum(key: string, value: Uint8Array): number {
  return crc32(value, crc32(key));
}

/** A view that holds until another record is encoded. */
export function encodeStateValue(checksum: number, value: Uint8Array): Uint8Array {
  writer.skip(STATE_HEADER_BYTES);
  writer.fields(value);
  const record = writer.takeView();
  for (let at = 0; at < STATE_HEADER_BYTES; at++) record[at] = checksum >>> (24 - 8 * at);
  return record;
}

/** The value, and its checksum once that has been verified. */
export function decodeStateValue(key: string, record: Uint8Array, directory: string): { value: Uint8Array; checksum: number } {
  const value = new Uint8Array(record.subarray(STATE_HEADER_BYTES));
  const checksum = stateChecksum(key, value);
  if (record.byteLength < STATE_HEADER_BYTES || viewOf(record).getUint32(0) !== checksum)
    throw corrupt(`the state under ${key} is damaged`, directory);
  return { value, checksum };
}

/** Reads all fields of a record whose checksum is right; `read` says whether it knows one. */
function readMessage(bytes: Uint8Array, what: string, directory: string, read: (reader: ProtobufReader, field: number) => boolean): void {
  const reader = new ProtobufReader(bytes);
  try {
    for (let field = reader.next(); field !== 0; field = reader.next()) if (!read(reader, field)) reader.skip();
  } catch (error) {
    // The reader speaks of frames.
    if (error instanceof ArchipelagoError && error.code === 'invalid-argument')
      throw corrupt(`${what} makes no sense: ${error.message}`, directory, error);
    throw error;
  }
}

function otherVersion(what: string, version: number, directory: string): ArchipelagoError {
  return new ArchipelagoError('unsupported-version', `Raft log in ${directory}: ${what} has version ${version}, which this program does not know`, {
    hint: 'run the version that wrote it, or a newer one',
  });
}
