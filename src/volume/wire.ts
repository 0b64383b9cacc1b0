/**
 * What data processes say to each other. Frames are net's; this is their metadata, in protobuf, and the numbers of the frame types.
 *
 * Wire version 1. A forwarded I/O names the session that its attach opened, so that the owner can refuse what belongs to an older one. A change
 * also has a number, so that one that is sent again is not done again (`sequences.ts`).
 */
import protobuf from 'protobufjs/light.js';
import { assert, assertCounter, type Generation, readCounter, viewOf, writeCounter } from '../base/index.ts';
import type { ObjectName } from '../blocker/index.ts';
import type { Extent } from './device.ts';
import { type AnsweredChanges, SEQUENCE_WINDOW } from './sequences.ts';

// Without Long, 64-bit fields decode to numbers, which hold all our counters exactly. It has to be done before types are set up.
protobuf.util.Long = undefined as unknown as typeof protobuf.util.Long;
protobuf.configure();

/** Frame types of requests on bulk links. The payload of a handover, and of what prepares it, is `encodeObjectNames`. */
export const ATTACH = 1;
export const DETACH = 2;
export const IO = 3;
export const HAND_OVER = 4;
/** The number of clients behind a session has changed; an `AttachMessage`. */
export const CLIENTS = 5;
/** Which parts of a range hold data, an `ExtentsMessage`; answered with `encodeExtents`. */
export const EXTENTS = 6;
/** What the next owner can be told and do before a handover; a `PrepareMessage`, and a payload as that one's. */
export const PREPARE = 8;

/** A client at the sender has written for the first time; a `FirstWriteMessage`. */
export const FIRST_WRITE = 7;

/** Statuses of replies. */
export const DONE = 0;
/** Another owner, another epoch, or a session that is over: nothing was done, send it again where the volume is now. */
export const MOVED = 1;
/** The I/O failed; the metadata is an `ErrorMessage`. */
export const FAILED = 2;

export interface AttachMessage {
  volume: number;
  epoch: number;
  session: number;
  /** Clients of the volume at the sender. */
  clients: number;
  /** By what the sender's process names itself in all its sessions for the volume. */
  origin: number;
}

export interface IoMessage {
  session: number;
  kind: number;
  offset: number;
  length: number;
  fua: boolean;
  /** Of a change; 0 for what may be done again. */
  sequence: number;
  /** How far below it the oldest number without an answer is. */
  behind: number;
}

export interface ExtentsMessage {
  session: number;
  offset: number;
  length: number;
  maxExtents: number;
}

export interface FirstWriteMessage {
  session: number;
  /** Of the sender, which would own the volume under it. */
  livenessEpoch: number;
  /** The volume's epoch when the client attached. */
  attachedEpoch: number;
}

export interface PrepareMessage {
  volume: number;
  /** The epoch that the receiver will own the volume under. What it is told counts for that one only. */
  epoch: number;
  /** Grows with each attempt of the owner. */
  attempt: number;
  /** Names that were told in this attempt before; the first message has none. */
  told: number;
}

export interface HandOverMessage extends PrepareMessage {
  nextPageSequence: number;
  /** `encodeAnswered`. */
  answered: Uint8Array;
  /** An administrator wants the volume there. */
  placed: boolean;
}

export interface ErrorMessage {
  code: string;
  message: string;
  hint: string;
}

type FieldRule = 'uint64' | 'uint32' | 'bool' | 'string' | 'bytes';

interface Codec<Message> {
  encode(message: Message): Uint8Array;
  /** Throws on bytes that are no such message, or on a number that memory cannot hold. */
  decode(bytes: Uint8Array): Message;
}

function codec<Message extends object>(name: string, fields: Record<keyof Message & string, FieldRule>): Codec<Message> {
  const type = new protobuf.Type(name);
  Object.entries<FieldRule>(fields).forEach(([field, rule], place) => {
    type.add(new protobuf.Field(field, place + 1, rule));
  });
  new protobuf.Root().add(type);
  type.setup();
  const counters = Object.keys(fields).filter((field) => fields[field as keyof Message & string] === 'uint64') as (keyof Message)[];
  return {
    encode: (message) => type.encode(message as Record<string, unknown>).finish(),
    decode: (bytes) => {
      const message = type.decode(bytes) as unknown as Message;
      for (const field of counters) assertCounter(message[field] as number, `${name}.${String(field)}`);
      return message;
    },
  };
}

export const attachCodec = codec<AttachMessage>('Attach', {
  volume: 'uint64',
  epoch: 'uint64',
  session: 'uint64',
  clients: 'uint32',
  origin: 'uint64',
});
export const ioCodec = codec<IoMessage>('Io', {
  session: 'uint64',
  kind: 'uint32',
  offset: 'uint64',
  length: 'uint32',
  fua: 'bool',
  sequence: 'uint64',
  behind: 'uint32',
});
export const extentsCodec = codec<ExtentsMessage>('Extents', { session: 'uint64', offset: 'uint64', length: 'uint64', maxExtents: 'uint32' });
export const firstWriteCodec = codec<FirstWriteMessage>('FirstWrite', { session: 'uint64', livenessEpoch: 'uint64', attachedEpoch: 'uint64' });
const ATTEMPT = { volume: 'uint64', epoch: 'uint64', attempt: 'uint64', told: 'uint32' } as const;
export const prepareCodec = codec<PrepareMessage>('Prepare', ATTEMPT);
export const handOverCodec = codec<HandOverMessage>('HandOver', { ...ATTEMPT, nextPageSequence: 'uint64', answered: 'bytes', placed: 'bool' });
export const errorCodec = codec<ErrorMessage>('Error', { code: 'string', message: 'string', hint: 'string' });

const NAME_BYTES = 16;

/** The payload of a handover: unsynced objects as generation (8) and index (8), big-endian. */
export function encodeObjectNames(names: readonly ObjectName[]): Uint8Array {
  const bytes = new Uint8Array(names.length * NAME_BYTES);
  const view = viewOf(bytes);
  names.forEach(({ generation, index }, place) => {
    writeCounter(view, place * NAME_BYTES, generation);
    writeCounter(view, place * NAME_BYTES + 8, index);
  });
  return bytes;
}

export function decodeObjectNames(bytes: Uint8Array): ObjectName[] {
  assert(bytes.byteLength % NAME_BYTES === 0, 'object names have one length');
  const view = viewOf(bytes);
  const names: ObjectName[] = [];
  for (let at = 0; at < bytes.byteLength; at += NAME_BYTES)
    names.push({ generation: readCounter(view, at) as Generation, index: readCounter(view, at + 8) });
  return names;
}

const DONE_BYTES = SEQUENCE_WINDOW / 8;

/** For each node: its name as length (1) and UTF-8, origin (8), oldest (8), and a bit for each number from there on, lowest bit first. Big-endian. */
export function encodeAnswered(changes: readonly AnsweredChanges[]): Uint8Array {
  return Buffer.concat(
    changes.map(({ node, origin, oldest, sequences }) => {
      const name = Buffer.from(node);
      assert(name.byteLength < 256, 'names of nodes are short');
      const bytes = Buffer.alloc(1 + name.byteLength + 16 + DONE_BYTES);
      bytes[0] = name.byteLength;
      bytes.set(name, 1);
      const at = 1 + name.byteLength;
      writeCounter(viewOf(bytes), at, origin);
      writeCounter(viewOf(bytes), at + 8, oldest);
      const bits = bytes.subarray(at + 16);
      for (const sequence of sequences)
        bits[(sequence - oldest) >> 3] = (bits[(sequence - oldest) >> 3] as number) | (1 << ((sequence - oldest) & 7));
      return bytes;
    }),
  );
}

export function decodeAnswered(bytes: Uint8Array): AnsweredChanges[] {
  const changes: AnsweredChanges[] = [];
  const view = viewOf(bytes);
  for (let at = 0; at < bytes.byteLength; ) {
    const nameEnd = at + 1 + (bytes[at] as number);
    const end = nameEnd + 16 + DONE_BYTES;
    assert(end <= bytes.byteLength, 'what was answered is told whole');
    const bits = bytes.subarray(nameEnd + 16, end);
    const [origin, oldest] = [readCounter(view, nameEnd), readCounter(view, nameEnd + 8)];
    const sequences: number[] = [];
    for (let place = 0; place < SEQUENCE_WINDOW; place++) if (((bits[place >> 3] as number) >> (place & 7)) & 1) sequences.push(oldest + place);
    changes.push({ node: Buffer.from(bytes.subarray(at + 1, nameEnd)).toString(), origin, oldest, sequences });
    at = end;
  }
  return changes;
}

export const EXTENT_BYTES = 8;

/** The payload of an answer to `EXTENTS`: for each extent twice its length, plus one where it holds data (8), big-endian. */
export function encodeExtents(extents: readonly Extent[]): Uint8Array {
  const bytes = new Uint8Array(extents.length * EXTENT_BYTES);
  const view = viewOf(bytes);
  extents.forEach(({ lengthBytes, allocated }, place) => {
    view.setBigUint64(place * EXTENT_BYTES, 2n * BigInt(lengthBytes) + (allocated ? 1n : 0n));
  });
  return bytes;
}

export function decodeExtents(bytes: Uint8Array): Extent[] {
  assert(bytes.byteLength > 0 && bytes.byteLength % EXTENT_BYTES === 0, 'extents have one length, and there is at least one');
  const view = viewOf(bytes);
  const extents: Extent[] = [];
  for (let at = 0; at < bytes.byteLength; at += EXTENT_BYTES) {
    const value = view.getBigUint64(at);
    extents.push({ lengthBytes: Number(value >> 1n), allocated: (value & 1n) === 1n });
  }
  return extents;
}
