/**
 * Frames between members: protobuf, so that fields can be added. A frame of an unknown version, or with numbers that cannot be, is refused
 * as a whole.
 *
 * Version 1:
 *
 *   syntax = "proto3";
 *   message Entry {
 *     uint64 index = 1; uint64 term = 2; uint32 kind = 3; bytes data = 4;
 *     string clientId = 5; uint64 session = 6; uint64 sequence = 7; uint64 acknowledged = 8;
 *   }
 *   message Configuration {
 *     repeated string voters = 1; repeated string outgoing = 2; repeated string learners = 3; repeated string learnersNext = 4;
 *   }
 *   message Snapshot { uint64 index = 1; uint64 term = 2; Configuration configuration = 3; }
 *   // One for all types: a field that a type does not have is absent.
 *   message Raft {
 *     uint32 type = 1; uint64 term = 2;
 *     uint64 lastIndex = 3; uint64 lastTerm = 4; bool force = 5; bool granted = 6;
 *     uint64 previousIndex = 7; uint64 previousTerm = 8; repeated Entry entries = 9; uint64 commit = 10;
 *     bool rejected = 11; uint64 index = 12; uint64 hintIndex = 13; uint64 hintTerm = 14;
 *     uint64 round = 15; uint64 context = 16; bool refused = 17; string target = 18; bool quiet = 19;
 *   }
 *   message StateEntry { string key = 1; bytes value = 2; }
 *   // Part of a snapshot. Chunks count from 0 within a transfer; the last one carries the digest of the whole.
 *   message Chunk {
 *     uint64 transfer = 1; uint64 term = 2; Snapshot snapshot = 3; uint64 sequence = 4; repeated StateEntry entries = 5;
 *     bool last = 6; uint64 count = 7; uint32 sum = 8;
 *   }
 *   // 'next' is the chunk that the receiver waits for; with 'restart' it has none of this transfer.
 *   message ChunkReply { uint64 transfer = 1; uint64 next = 2; bool restart = 3; }
 *   message Frame {
 *     uint32 version = 1; string from = 2; string to = 3;
 *     oneof body { Raft raft = 4; Chunk chunk = 5; ChunkReply chunkReply = 6; }
 *   }
 */
import { ArchipelagoError } from '../base/index.ts';
import {
  counter,
  ENTRIES_FIELD,
  readEntry,
  readSnapshotMeta,
  rememberEntries,
  writeAndRememberEntries,
  writeEntry,
  writeSnapshotMeta,
} from './codec.ts';
import type { Entry, LogIndex, Message, SnapshotMeta, Term } from './core/types.ts';
import { ProtobufReader, ProtobufWriter } from './protobuf.ts';
import type { StateEntry } from './storage/storage.ts';

const WIRE_VERSION = 1;

/** Position is the number on the wire; never reorder. */
const MESSAGE_TYPES: readonly (Message['type'] | null)[] = [
  null,
  'preVote',
  'vote',
  'preVoteReply',
  'voteReply',
  'append',
  'appendReply',
  'heartbeat',
  'heartbeatReply',
  'timeoutNow',
  'propose',
  'readIndex',
  'readIndexReply',
  'transferLeader',
];
const NO_DATA = new Uint8Array(0);

export interface Chunk {
  readonly transfer: number;
  /** The leader's term when the transfer began. */
  readonly term: number;
  readonly snapshot: SnapshotMeta;
  readonly sequence: number;
  readonly entries: readonly StateEntry[];
  readonly last: boolean;
  /** Digest of the whole state; counts in the last chunk only. */
  readonly count: number;
  readonly sum: number;
}

export interface ChunkReply {
  readonly transfer: number;
  readonly next: number;
  readonly restart: boolean;
}

export type FrameBody = { readonly raft: Message } | { readonly chunk: Chunk } | { readonly chunkReply: ChunkReply };
export type Frame = { readonly from: string; readonly to: string } & FrameBody;

/** One is enough: it is emptied before anyone else writes. */
const writer = new ProtobufWriter();

export function encodeFrame(from: string, to: string, body: FrameBody): Uint8Array {
  writer.counter(1, WIRE_VERSION);
  writer.text(2, from);
  writer.text(3, to);
  if ('raft' in body) writeMessage(body.raft);
  else if ('chunk' in body) writeChunk(body.chunk);
  else {
    const start = writer.begin(6);
    writer.counter(1, body.chunkReply.transfer);
    writer.counter(2, body.chunkReply.next);
    writer.flag(3, body.chunkReply.restart);
    writer.end(start);
  }
  return writer.take();
}

/** Throws `unsupported-version` or `invalid-argument`. */
export function decodeFrame(bytes: Uint8Array): Frame {
  const reader = new ProtobufReader(bytes);
  let version = 0;
  let from = '';
  let to = '';
  let body: FrameBody | null = null;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) version = checkVersion(reader.counter());
    else if (field === 2) from = reader.name();
    else if (field === 3) to = reader.name();
    else if (field === 4) body = { raft: readMessage(reader, from, to) };
    else if (field === 5) body = { chunk: readChunk(reader) };
    else if (field === 6) body = { chunkReply: readChunkReply(reader) };
    else reader.skip();
  }
  checkVersion(version);
  if (body === null) throw new ArchipelagoError('invalid-argument', 'an empty Raft frame');
  if ('raft' in body) return { from, to, raft: body.raft };
  return 'chunk' in body ? { from, to, chunk: body.chunk } : { from, to, chunkReply: body.chunkReply };
}

function checkVersion(version: number): number {
  if (version !== WIRE_VERSION) throw new ArchipelagoError('unsupported-version', `a Raft frame of version ${version}`);
  return version;
}

function writeMessage(message: Message): void {
  const type = MESSAGE_TYPES.indexOf(message.type);
  if (type < 0) throw new ArchipelagoError('internal', `${message.type} does not go over the wire`);
  const start = writer.begin(4);
  writer.counter(1, type);
  writer.counter(2, counter(message.term));
  switch (message.type) {
    case 'preVote':
    case 'vote':
      writer.counter(3, counter(message.lastIndex));
      writer.counter(4, counter(message.lastTerm));
      writer.flag(5, message.force);
      break;
    case 'preVoteReply':
    case 'voteReply':
      writer.flag(6, message.granted);
      break;
    case 'append':
      writer.counter(7, counter(message.previousIndex));
      writer.counter(8, counter(message.previousTerm));
      writeAndRememberEntries(writer, message.entries);
      writer.counter(10, counter(message.commit));
      writer.flag(19, message.quiet);
      break;
    case 'appendReply':
      writer.flag(11, message.rejected);
      writer.counter(12, counter(message.index));
      writer.counter(13, counter(message.hintIndex));
      writer.counter(14, counter(message.hintTerm));
      break;
    case 'heartbeat':
      writer.counter(10, counter(message.commit));
      writer.counter(15, counter(message.round));
      break;
    case 'heartbeatReply':
      writer.counter(15, counter(message.round));
      break;
    case 'propose':
      for (const entry of message.entries) writeEntry(writer, entry, 0, 0);
      break;
    case 'readIndex':
      writer.counter(16, counter(message.context));
      break;
    case 'readIndexReply':
      writer.counter(12, counter(message.index));
      writer.counter(16, counter(message.context));
      writer.flag(17, message.refused);
      break;
    case 'transferLeader':
      writer.text(18, message.target);
      break;
    default:
  }
  writer.end(start);
}

function writeChunk(chunk: Chunk): void {
  const { snapshot } = chunk;
  const start = writer.begin(5);
  writer.counter(1, counter(chunk.transfer));
  writer.counter(2, counter(chunk.term));
  writeSnapshotMeta(writer, 3, snapshot);
  writer.counter(4, counter(chunk.sequence));
  for (const { key, value } of chunk.entries) {
    const entryStart = writer.begin(5);
    writer.text(1, key);
    writer.blob(2, value);
    writer.end(entryStart);
  }
  writer.flag(6, chunk.last);
  writer.counter(7, counter(chunk.count));
  writer.counter(8, counter(chunk.sum));
  writer.end(start);
}

/** Fields of a message, by their numbers; those that hold a number. */
const numbers = new Float64Array(20);

function readMessage(reader: ProtobufReader, from: string, to: string): Message {
  numbers.fill(0);
  const entries: Entry[] = [];
  let target = '';
  // Of the entries; 0 and -1 while there are none, and once they do not stand together.
  let start = 0;
  let end = 0;
  const outer = reader.enter();
  for (let at = reader.position, field = reader.next(); field !== 0; at = reader.position, field = reader.next()) {
    if (field === ENTRIES_FIELD) {
      entries.push(readEntry(reader));
      if (end === 0) start = at;
      end = end === 0 || end === at ? reader.position : -1;
    } else if (field === 18) target = reader.text();
    else if (field < numbers.length) numbers[field] = reader.counter();
    else reader.skip();
  }
  reader.leave(outer);
  // What a follower is sent is what it stores.
  if (end > 0 && MESSAGE_TYPES[numbers[1] as number] === 'append') rememberEntries(entries, reader.copy(start, end));
  return messageOf(from, to, entries, target);
}

function messageOf(from: string, to: string, entries: Entry[], target: string): Message {
  const number = (field: number) => numbers[field] as number;
  const index = (field: number) => number(field) as LogIndex;
  const type = MESSAGE_TYPES[number(1)];
  const term = number(2) as Term;
  switch (type) {
    case 'preVote':
    case 'vote':
      return { from, to, term, type, lastIndex: index(3), lastTerm: number(4) as Term, force: number(5) !== 0 };
    case 'preVoteReply':
    case 'voteReply':
      return { from, to, term, type, granted: number(6) !== 0 };
    case 'append':
      return { from, to, term, type, previousIndex: index(7), previousTerm: number(8) as Term, entries, commit: index(10), quiet: number(19) !== 0 };
    case 'appendReply':
      return { from, to, term, type, rejected: number(11) !== 0, index: index(12), hintIndex: index(13), hintTerm: number(14) as Term };
    case 'heartbeat':
      return { from, to, term, type, commit: index(10), round: number(15) };
    case 'heartbeatReply':
      return { from, to, term, type, round: number(15) };
    case 'timeoutNow':
      return { from, to, term, type };
    case 'propose':
      return { from, to, term, type, entries };
    case 'readIndex':
      return { from, to, term, type, context: number(16) };
    case 'readIndexReply':
      return { from, to, term, type, context: number(16), index: index(12), refused: number(17) !== 0 };
    case 'transferLeader':
      return { from, to, term, type, target };
    default:
      throw new ArchipelagoError('invalid-argument', `a Raft message of unknown type ${number(1)}`);
  }
}

function readChunk(reader: ProtobufReader): Chunk {
  const entries: StateEntry[] = [];
  const chunk = { transfer: 0, term: 0, sequence: 0, last: false, count: 0, sum: 0 };
  let snapshot: SnapshotMeta | null = null;
  const outer = reader.enter();
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) chunk.transfer = reader.counter();
    else if (field === 2) chunk.term = reader.counter();
    else if (field === 3) snapshot = readSnapshotMeta(reader);
    else if (field === 4) chunk.sequence = reader.counter();
    else if (field === 5) entries.push(readStateEntry(reader));
    else if (field === 6) chunk.last = reader.flag();
    else if (field === 7) chunk.count = reader.counter();
    else if (field === 8) chunk.sum = reader.counter();
    else reader.skip();
  }
  reader.leave(outer);
  if (snapshot === null) throw new ArchipelagoError('invalid-argument', 'a chunk without its snapshot');
  return { ...chunk, snapshot, entries };
}

function readStateEntry(reader: ProtobufReader): StateEntry {
  let key = '';
  let value = NO_DATA;
  const outer = reader.enter();
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) key = reader.text();
    else if (field === 2) value = reader.blob();
    else reader.skip();
  }
  reader.leave(outer);
  return { key, value };
}

function readChunkReply(reader: ProtobufReader): ChunkReply {
  const reply = { transfer: 0, next: 0, restart: false };
  const outer = reader.enter();
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) reply.transfer = reader.counter();
    else if (field === 2) reply.next = reader.counter();
    else if (field === 3) reply.restart = reader.flag();
    else reader.skip();
  }
  reader.leave(outer);
  return reply;
}
