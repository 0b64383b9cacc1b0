/**
 * The records on disk. All numbers are big-endian.
 *
 * Log entry, under `e/<index as 16 hex digits>`:
 *
 *   0  u32 crc       CRC-32 of everything behind it
 *   4  u32 chain     CRC-32 of everything behind it, continued from the chain of the entry before: a missing or exchanged record shows
 *   8  u8  version   1
 *   9  u8  kind      1 command, 2 noop, 3 configuration
 *  10  u64 index     12..: as below
 *  18  u64 term
 *  26  u64 session
 *  34  u64 sequence
 *  42  u64 acknowledged
 *  50  u16 length of the client's name
 *  52  name, then data
 *
 * State entry, under `s/<generation as 16 hex digits>/<key>`: u32 CRC-32 of key and value, then the value.
 *
 * Meta, under `m`, part of every batch: u32 CRC-32, then JSON.
 */
import { ArchipelagoError, crc32, readCounter, viewOf, writeCounter } from '../../base/index.ts';
import type { Configuration, Entry, EntryKind, LogIndex, Term } from '../core/types.ts';

const ENTRY_VERSION = 1;
const ENTRY_HEADER_BYTES = 52;
const META_VERSION = 1;
const KINDS: readonly EntryKind[] = ['command', 'noop', 'configuration'];
const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

/** Facts about the stored log and state as of one batch. */
export interface Meta {
  readonly version: number;
  /** Counts the batches; the watermark refers to it. */
  readonly batch: number;
  /** Counts the openings of this directory. */
  readonly starts: number;
  /** Whose directory this is. */
  readonly id: string;
  readonly term: number;
  readonly votedFor: string | null;
  readonly base: { readonly index: number; readonly term: number; readonly configuration: Configuration; readonly chain: number };
  readonly last: { readonly index: number; readonly chain: number };
  readonly applied: { readonly index: number; readonly term: number; readonly configuration: Configuration };
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

export function encodeEntry(entry: Entry, previousChain: number): { record: Uint8Array; chain: number } {
  const name = encoder.encode(entry.clientId);
  const record = new Uint8Array(ENTRY_HEADER_BYTES + name.byteLength + entry.data.byteLength);
  const view = viewOf(record);
  view.setUint8(8, ENTRY_VERSION);
  view.setUint8(9, KINDS.indexOf(entry.kind) + 1);
  writeCounter(view, 10, entry.index);
  writeCounter(view, 18, entry.term);
  writeCounter(view, 26, entry.session);
  writeCounter(view, 34, entry.sequence);
  writeCounter(view, 42, entry.acknowledged);
  view.setUint16(50, name.byteLength);
  record.set(name, ENTRY_HEADER_BYTES);
  record.set(entry.data, ENTRY_HEADER_BYTES + name.byteLength);
  const chain = crc32(record.subarray(8), previousChain);
  view.setUint32(4, chain);
  view.setUint32(0, crc32(record.subarray(4)));
  return { record, chain };
}

/** Reads a record that should be the entry at `index` behind one with `previousChain`; throws `corrupt` if it is not. */
export function decodeEntry(record: Uint8Array, index: number, previousChain: number, directory: string): { entry: Entry; chain: number } {
  const view = viewOf(record);
  if (record.byteLength < ENTRY_HEADER_BYTES || view.getUint32(0) !== crc32(record.subarray(4))) {
    throw corrupt(`the record of entry ${index} is damaged`, directory);
  }
  if (view.getUint8(8) !== ENTRY_VERSION) throw newerVersion(`entry ${index}`, view.getUint8(8), directory);
  const chain = view.getUint32(4);
  if (readCounter(view, 10) !== index) throw corrupt(`the record of entry ${index} is that of ${readCounter(view, 10)}`, directory);
  if (chain !== crc32(record.subarray(8), previousChain))
    throw corrupt(`entry ${index} does not follow the entry before it: one of the two is an old one`, directory);
  const kind = KINDS[view.getUint8(9) - 1];
  if (kind === undefined) throw newerVersion(`the kind of entry ${index}`, view.getUint8(9), directory);
  const nameEnd = ENTRY_HEADER_BYTES + view.getUint16(50);
  const entry: Entry = {
    index: index as LogIndex,
    term: readCounter(view, 18) as Term,
    kind,
    // A plain copy: the database gives Buffers.
    data: new Uint8Array(record.subarray(nameEnd)),
    clientId: decoder.decode(record.subarray(ENTRY_HEADER_BYTES, nameEnd)),
    session: readCounter(view, 26),
    sequence: readCounter(view, 34),
    acknowledged: readCounter(view, 42),
  };
  return { entry, chain };
}

export function encodeMeta(meta: Meta): Uint8Array {
  const json = encoder.encode(JSON.stringify(meta));
  const record = new Uint8Array(4 + json.byteLength);
  record.set(json, 4);
  viewOf(record).setUint32(0, crc32(json));
  return record;
}

export function newMeta(id: string, configuration: Configuration): Meta {
  const place = { index: 0, term: 0, configuration };
  return {
    version: META_VERSION,
    batch: 0,
    starts: 0,
    id,
    term: 0,
    votedFor: null,
    base: { ...place, chain: 0 },
    last: { index: 0, chain: 0 },
    applied: place,
    state: { generation: 1, count: 0, sum: 0 },
  };
}

export function decodeMeta(record: Uint8Array, directory: string): Meta {
  const json = record.subarray(4);
  if (record.byteLength < 5 || viewOf(record).getUint32(0) !== crc32(json)) throw corrupt('the meta record is damaged', directory);
  const meta = JSON.parse(decoder.decode(json)) as Meta;
  if (meta.version !== META_VERSION) throw newerVersion('the meta record', meta.version, directory);
  return meta;
}

export function stateChecksum(key: string, value: Uint8Array): number {
  return crc32(value, crc32(key));
}

export function encodeStateValue(checksum: number, value: Uint8Array): Uint8Array {
  const record = new Uint8Array(4 + value.byteLength);
  viewOf(record).setUint32(0, checksum);
  record.set(value, 4);
  return record;
}

/** The value, and its checksum once that has been verified. */
export function decodeStateValue(key: string, record: Uint8Array, directory: string): { value: Uint8Array; checksum: number } {
  const value = new Uint8Array(record.subarray(4));
  const checksum = stateChecksum(key, value);
  if (record.byteLength < 4 || viewOf(record).getUint32(0) !== checksum) throw corrupt(`the state under ${key} is damaged`, directory);
  return { value, checksum };
}

function newerVersion(what: string, version: number, directory: string): ArchipelagoError {
  return new ArchipelagoError('unsupported-version', `Raft log in ${directory}: ${what} has version ${version}, which this program does not know`, {
    hint: 'run the version that wrote it, or a newer one',
  });
}
