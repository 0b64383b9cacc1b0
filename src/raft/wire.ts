/**
 * Frames between members: protobuf, so that fields can be added. A frame of an unknown version, or with numbers that cannot be, is refused
 * as a whole.
 *
 * Version 1: the messages below.
 */
import protobuf from 'protobufjs';
import { ArchipelagoError, assertCounter } from '../base/index.ts';
import type { Configuration, Entry, EntryKind, LogIndex, Message, ProposalEntry, SnapshotMeta, Term } from './core/types.ts';
import type { StateEntry } from './storage/storage.ts';

const WIRE_VERSION = 1;

const SCHEMA = `
syntax = "proto3";
message Entry {
  uint64 index = 1; uint64 term = 2; uint32 kind = 3; bytes data = 4;
  string clientId = 5; uint64 session = 6; uint64 sequence = 7; uint64 acknowledged = 8;
}
message Configuration {
  repeated string voters = 1; repeated string outgoing = 2; repeated string learners = 3; repeated string learnersNext = 4;
}
message Snapshot { uint64 index = 1; uint64 term = 2; Configuration configuration = 3; }
// One for all types: a field that a type does not have is absent.
message Raft {
  uint32 type = 1; uint64 term = 2;
  uint64 lastIndex = 3; uint64 lastTerm = 4; bool force = 5; bool granted = 6;
  uint64 previousIndex = 7; uint64 previousTerm = 8; repeated Entry entries = 9; uint64 commit = 10;
  bool rejected = 11; uint64 index = 12; uint64 hintIndex = 13; uint64 hintTerm = 14;
  uint64 round = 15; uint64 context = 16; bool refused = 17; string target = 18;
}
message StateEntry { string key = 1; bytes value = 2; }
// Part of a snapshot. Chunks count from 0 within a transfer; the last one carries the digest of the whole.
message Chunk {
  uint64 transfer = 1; uint64 term = 2; Snapshot snapshot = 3; uint64 sequence = 4; repeated StateEntry entries = 5;
  bool last = 6; uint64 count = 7; uint32 sum = 8;
}
// 'next' is the chunk that the receiver waits for; with 'restart' it has none of this transfer.
message ChunkReply { uint64 transfer = 1; uint64 next = 2; bool restart = 3; }
message Frame {
  uint32 version = 1; string from = 2; string to = 3;
  oneof body { Raft raft = 4; Chunk chunk = 5; ChunkReply chunkReply = 6; }
}`;

const FrameType = protobuf.parse(SCHEMA, { keepCase: true }).root.lookupType('Frame');

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
const ENTRY_KINDS: readonly (EntryKind | null)[] = [null, 'command', 'noop', 'configuration'];

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

export function encodeFrame(from: string, to: string, body: FrameBody): Uint8Array {
  const frame = { version: WIRE_VERSION, from, to, ...('raft' in body ? { raft: toWire(body.raft) } : body) };
  return FrameType.encode(frame as Record<string, unknown>).finish();
}

/** Throws `unsupported-version` or `invalid-argument`. */
export function decodeFrame(bytes: Uint8Array): Frame {
  let frame: WireFrame;
  try {
    frame = FrameType.decode(bytes) as unknown as WireFrame;
  } catch (error) {
    throw unreadable(error);
  }
  if (frame.version !== WIRE_VERSION) throw new ArchipelagoError('unsupported-version', `a Raft frame of version ${frame.version}`);
  const { from, to } = frame;
  if (frame.raft != null) return { from, to, raft: fromWire(from, to, frame.raft) };
  if (frame.chunk != null) return { from, to, chunk: chunkFromWire(frame.chunk) };
  if (frame.chunkReply != null) {
    const { transfer, next, restart } = frame.chunkReply;
    return { from, to, chunkReply: { transfer: counter(transfer), next: counter(next), restart } };
  }
  throw new ArchipelagoError('invalid-argument', 'an empty Raft frame');
}

/** protobufjs reads 64-bit numbers as these where the package `long` is there. */
type WireCounter = number | { toNumber(): number };
type WireEntry = { [Field in 'index' | 'term' | 'session' | 'sequence' | 'acknowledged']: WireCounter } & {
  kind: number;
  data: Uint8Array;
  clientId: string;
};
interface WireSnapshot {
  index: WireCounter;
  term: WireCounter;
  configuration: Configuration | null;
}
type WireRaft = { [Field in CounterField]: WireCounter } & {
  type: number;
  force: boolean;
  granted: boolean;
  rejected: boolean;
  refused: boolean;
  entries: WireEntry[];
  target: string;
};
type CounterField =
  | 'term'
  | 'lastIndex'
  | 'lastTerm'
  | 'previousIndex'
  | 'previousTerm'
  | 'commit'
  | 'index'
  | 'hintIndex'
  | 'hintTerm'
  | 'round'
  | 'context';
interface WireFrame {
  version: number;
  from: string;
  to: string;
  raft?: WireRaft | null;
  chunk?:
    | (Omit<Chunk, 'snapshot' | 'transfer' | 'term' | 'sequence' | 'count'> & { snapshot: WireSnapshot | null } & {
        [Field in 'transfer' | 'term' | 'sequence' | 'count']: WireCounter;
      })
    | null;
  chunkReply?: { transfer: WireCounter; next: WireCounter; restart: boolean } | null;
}

function toWire(message: Message): object {
  const type = MESSAGE_TYPES.indexOf(message.type);
  if (type < 0) throw new ArchipelagoError('internal', `${message.type} does not go over the wire`);
  if (message.type === 'append' || message.type === 'propose')
    return { ...message, type, entries: (message.entries as readonly ProposalEntry[]).map(entryToWire) };
  return { ...message, type };
}

function entryToWire(entry: ProposalEntry): object {
  return { ...entry, kind: ENTRY_KINDS.indexOf(entry.kind) };
}

function fromWire(from: string, to: string, wire: WireRaft): Message {
  const type = MESSAGE_TYPES[wire.type];
  const head = { from, to, term: counter(wire.term) as Term };
  const index = (field: CounterField) => counter(wire[field]) as LogIndex;
  const term = (field: CounterField) => counter(wire[field]) as Term;
  switch (type) {
    case 'preVote':
    case 'vote':
      return { ...head, type, lastIndex: index('lastIndex'), lastTerm: term('lastTerm'), force: wire.force };
    case 'preVoteReply':
    case 'voteReply':
      return { ...head, type, granted: wire.granted };
    case 'append':
      return {
        ...head,
        type,
        previousIndex: index('previousIndex'),
        previousTerm: term('previousTerm'),
        entries: wire.entries.map(entryFromWire),
        commit: index('commit'),
      };
    case 'appendReply':
      return { ...head, type, rejected: wire.rejected, index: index('index'), hintIndex: index('hintIndex'), hintTerm: term('hintTerm') };
    case 'heartbeat':
      return { ...head, type, commit: index('commit'), round: counter(wire.round) };
    case 'heartbeatReply':
      return { ...head, type, round: counter(wire.round) };
    case 'timeoutNow':
      return { ...head, type };
    case 'propose':
      return { ...head, type, entries: wire.entries.map(entryFromWire) };
    case 'readIndex':
      return { ...head, type, context: counter(wire.context) };
    case 'readIndexReply':
      return { ...head, type, context: counter(wire.context), index: index('index'), refused: wire.refused };
    case 'transferLeader':
      return { ...head, type, target: wire.target };
    default:
      throw new ArchipelagoError('invalid-argument', `a Raft message of unknown type ${wire.type}`);
  }
}

function entryFromWire(wire: WireEntry): Entry {
  const kind = ENTRY_KINDS[wire.kind];
  if (kind == null) throw new ArchipelagoError('invalid-argument', `a Raft entry of unknown kind ${wire.kind}`);
  return {
    index: counter(wire.index) as LogIndex,
    term: counter(wire.term) as Term,
    kind,
    data: copyOf(wire.data),
    clientId: wire.clientId,
    session: counter(wire.session),
    sequence: counter(wire.sequence),
    acknowledged: counter(wire.acknowledged),
  };
}

function chunkFromWire(wire: NonNullable<WireFrame['chunk']>): Chunk {
  const { snapshot } = wire;
  if (snapshot?.configuration == null) throw new ArchipelagoError('invalid-argument', 'a chunk without its snapshot');
  const { voters, outgoing, learners, learnersNext } = snapshot.configuration;
  return {
    transfer: counter(wire.transfer),
    term: counter(wire.term),
    snapshot: {
      index: counter(snapshot.index) as LogIndex,
      term: counter(snapshot.term) as Term,
      configuration: { voters, outgoing, learners, learnersNext },
    },
    sequence: counter(wire.sequence),
    entries: wire.entries.map(({ key, value }) => ({ key, value: copyOf(value) })),
    last: wire.last,
    count: counter(wire.count),
    sum: wire.sum,
  };
}

function unreadable(cause: unknown): ArchipelagoError {
  return new ArchipelagoError('invalid-argument', 'a Raft frame that cannot be read', { cause });
}

/**
 * protobufjs gives a view of the frame, which may be a slice of a large receive buffer that the log would keep alive; and for no bytes at
 * all a plain array.
 */
function copyOf(bytes: ArrayLike<number>): Uint8Array {
  return new Uint8Array(bytes);
}

function counter(value: WireCounter): number {
  const number = typeof value === 'number' ? value : value.toNumber();
  if (!Number.isSafeInteger(number)) throw new ArchipelagoError('invalid-argument', `a Raft frame with the number ${number}`);
  assertCounter(number, 'number of a Raft frame');
  return number;
}
