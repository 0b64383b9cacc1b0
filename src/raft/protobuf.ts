/**
 * Protobuf as it is on the wire, without reflection: frames between members are many and small, and a general library spends more time on
 * them than the core does. Fields that are zero, false or empty are left out, as proto3 has it.
 */
import { ArchipelagoError } from '../base/index.ts';

const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;
/** Most that one field without bytes or text takes. */
const FIELD_BYTES = 12;
/** Names that are kept as strings, so that they are not decoded again in each frame. */
const MAX_NAMES = 32;
const SHORT_BYTES = 32;

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

export class ProtobufWriter {
  private bytes = new Uint8Array(4096);
  private at = 0;

  /** A number from 0 to 2^53 - 1. */
  counter(field: number, value: number): void {
    if (value === 0) return;
    this.reserve(FIELD_BYTES);
    this.varint(field * 8 + VARINT);
    this.varint(value);
  }

  flag(field: number, value: boolean): void {
    if (value) this.counter(field, 1);
  }

  text(field: number, value: string): void {
    if (value === '') return;
    // UTF-8 takes at most three bytes for each unit of a string.
    this.reserve(FIELD_BYTES + 3 * value.length);
    const start = this.begin(field);
    if (!this.ascii(value)) this.at = start + encoder.encodeInto(value, this.bytes.subarray(start)).written;
    this.end(start);
  }

  blob(field: number, value: Uint8Array): void {
    const { byteLength } = value;
    if (byteLength === 0) return;
    this.reserve(FIELD_BYTES + byteLength);
    this.varint(field * 8 + LENGTH_DELIMITED);
    this.varint(byteLength);
    this.bytes.set(value, this.at);
    this.at += byteLength;
  }

  /** Leaves room for what is no protobuf. Its bytes are those of whatever was written here before. */
  skip(count: number): void {
    this.reserve(count);
    this.at += count;
  }

  /** Fields that were written before, or what is no protobuf. */
  fields(encoded: Uint8Array): void {
    this.reserve(encoded.byteLength);
    this.bytes.set(encoded, this.at);
    this.at += encoded.byteLength;
  }

  /** Bytes since the last `take`. */
  get length(): number {
    return this.at;
  }

  /** What was written behind the first `start` bytes, in a buffer of its own. */
  copyFrom(start: number): Uint8Array {
    return this.bytes.slice(start, this.at);
  }

  /** Begins a message within the message; what this returns ends it. */
  begin(field: number): number {
    this.reserve(FIELD_BYTES);
    this.varint(field * 8 + LENGTH_DELIMITED);
    // Room for a short length; a longer one moves what follows.
    return ++this.at;
  }

  end(start: number): void {
    const length = this.at - start;
    if (length < 0x80) {
      this.bytes[start - 1] = length;
      return;
    }
    let extra = 0;
    for (let rest = length; rest >= 0x80; rest = Math.floor(rest / 0x80)) extra++;
    this.reserve(extra);
    this.bytes.copyWithin(start + extra, start, this.at);
    this.at = start - 1;
    this.varint(length);
    this.at += length;
  }

  /** What was written since the last call, in a buffer of its own. */
  take(): Uint8Array {
    const taken = this.copyFrom(0);
    this.at = 0;
    return taken;
  }

  /** The same without a copy: it holds until something else is written. */
  takeView(): Uint8Array {
    const taken = this.bytes.subarray(0, this.at);
    this.at = 0;
    return taken;
  }

  /** False if there is more than ASCII in it. For names, which are short, this is quicker than the encoder. */
  private ascii(value: string): boolean {
    const { bytes } = this;
    for (let position = 0; position < value.length; position++) {
      const unit = value.charCodeAt(position);
      if (unit >= 0x80) return false;
      bytes[this.at++] = unit;
    }
    return true;
  }

  private varint(value: number): void {
    const { bytes } = this;
    while (value >= 0x80) {
      bytes[this.at++] = (value % 0x80) | 0x80;
      value = Math.floor(value / 0x80);
    }
    bytes[this.at++] = value;
  }

  private reserve(count: number): void {
    const needed = this.at + count;
    if (needed <= this.bytes.length) return;
    const larger = new Uint8Array(2 * needed);
    larger.set(this.bytes.subarray(0, this.at));
    this.bytes = larger;
  }
}

/** Throws `invalid-argument` for what is no protobuf. */
export class ProtobufReader {
  private readonly bytes: Uint8Array;
  private at = 0;
  private limit: number;
  private wireType = VARINT;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.limit = bytes.length;
  }

  /** Of the next field, when the one before has been read. */
  get position(): number {
    return this.at;
  }

  copy(start: number, end: number): Uint8Array {
    return copyOf(this.bytes, start, end);
  }

  /** The number of the next field, or 0 at the end of the message. Its value must be read, or skipped, before the next one. */
  next(): number {
    if (this.at >= this.limit) return 0;
    const tag = this.varint();
    this.wireType = tag & 7;
    return Math.floor(tag / 8);
  }

  /** A number up to 2^53 - 1. */
  counter(): number {
    this.expect(VARINT);
    return this.varint();
  }

  flag(): boolean {
    return this.counter() !== 0;
  }

  /** For names that come again and again. */
  name(): string {
    const end = this.endOfValue();
    const { bytes, at: start } = this;
    this.at = end;
    for (const known of names) if (isSame(known.bytes, bytes, start, end)) return known.text;
    const copy = copyOf(bytes, start, end);
    const text = textOf(copy);
    if (names.length < MAX_NAMES) names.push({ bytes: copy, text });
    return text;
  }

  text(): string {
    const end = this.endOfValue();
    const text = textOf(this.bytes.subarray(this.at, end));
    this.at = end;
    return text;
  }

  /** A copy: the frame may be a slice of a large receive buffer, which the log would keep alive. */
  blob(): Uint8Array<ArrayBuffer> {
    const end = this.endOfValue();
    const copy = copyOf(this.bytes, this.at, end);
    this.at = end;
    return copy;
  }

  /** Goes into the message that is this field's value; what this returns leaves it. */
  enter(): number {
    const outer = this.limit;
    this.limit = this.endOfValue();
    return outer;
  }

  leave(outer: number): void {
    this.limit = outer;
  }

  skip(): void {
    if (this.wireType === VARINT) this.varint();
    else if (this.wireType === LENGTH_DELIMITED) this.at = this.endOfValue();
    else if (this.wireType === FIXED64) this.at += 8;
    else if (this.wireType === FIXED32) this.at += 4;
    else throw unreadable(`wire type ${this.wireType}`);
    if (this.at > this.limit) throw unreadable('cut short');
  }

  private endOfValue(): number {
    this.expect(LENGTH_DELIMITED);
    const length = this.varint();
    const end = this.at + length;
    if (end > this.limit) throw unreadable('cut short');
    return end;
  }

  private varint(): number {
    const { bytes, limit } = this;
    const first = bytes[this.at] as number;
    if (first < 0x80 && this.at < limit) {
      this.at++;
      return first;
    }
    let value = 0;
    for (let factor = 1; ; factor *= 0x80) {
      if (this.at >= limit) throw unreadable('cut short');
      const byte = bytes[this.at++] as number;
      value += (byte & 0x7f) * factor;
      if (value > Number.MAX_SAFE_INTEGER) throw unreadable(`the number ${value}`);
      if (byte < 0x80) return value;
      // Ten bytes are the longest that 64 bits take.
      if (factor > 2 ** 56) throw unreadable('a number without end');
    }
  }

  private expect(wireType: number): void {
    if (this.wireType !== wireType) throw unreadable(`wire type ${this.wireType} in place of ${wireType}`);
  }
}

/** Names that were read before, of this process's few groups. */
const names: { readonly bytes: Uint8Array; readonly text: string }[] = [];

function isSame(known: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  if (known.length !== end - start) return false;
  for (let at = 0; at < known.length; at++) if (known[at] !== bytes[start + at]) return false;
  return true;
}

function copyOf(bytes: Uint8Array, start: number, end: number): Uint8Array<ArrayBuffer> {
  const length = end - start;
  const copy = new Uint8Array(length);
  // For a few bytes another view would cost more than the copy.
  if (length > SHORT_BYTES) copy.set(bytes.subarray(start, end));
  else for (let at = 0; at < length; at++) copy[at] = bytes[start + at] as number;
  return copy;
}

function textOf(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw unreadable('text that is not UTF-8', cause);
  }
}

function unreadable(what: string, cause?: unknown): ArchipelagoError {
  return new ArchipelagoError('invalid-argument', `a Raft frame that cannot be read: ${what}`, cause === undefined ? {} : { cause });
}
