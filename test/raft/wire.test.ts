/** Frames, beside protobufjs, which reads and writes the same schema. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import protobuf from 'protobufjs';
import { describe, expect, it } from 'vitest';
import { Prng } from '../../src/base/index.ts';
import type { Entry, Message, MessageBody } from '../../src/raft/core/types.ts';
import { decodeFrame, encodeFrame, type Frame, type FrameBody } from '../../src/raft/wire.ts';

/** The schema as the comment of the module has it. */
function frameType(): protobuf.Type {
  const source = readFileSync(join(import.meta.dirname, '../../src/raft/wire.ts'), 'utf8');
  const schema = source
    .slice(source.indexOf('syntax = "proto3"'), source.indexOf('*/'))
    .split('\n')
    .map((line) => line.replace(/^ \* ?/, ''))
    .join('\n');
  return protobuf.parse(schema, { keepCase: true }).root.lookupType('Frame');
}

class Draw {
  private readonly random: Prng;

  constructor(seed: number) {
    this.random = new Prng(seed);
  }

  /** Of every length, zero and the largest among them. */
  counter = <Number extends number>(): Number => {
    const bits = this.random.below(54);
    return Math.floor(this.random.unit() * 2 ** bits) as Number;
  };

  flag = () => this.random.chance(0.5);

  text = () => ['', 'a', 'node-17', 'Ägäis', '⛵'.repeat(60)][this.random.below(5)] as string;

  bytes = () => new Uint8Array(this.random.chance(0.1) ? 20_000 : this.random.below(200)).map(() => this.random.below(256));

  list = <Item>(item: () => Item): Item[] => Array.from({ length: this.random.below(4) }, item);

  entry = (placed: boolean) => ({
    index: placed ? this.counter() : 0,
    term: placed ? this.counter() : 0,
    kind: (['command', 'noop', 'configuration'] as const)[this.random.below(3)] as 'command',
    data: this.bytes(),
    clientId: this.text(),
    session: this.counter(),
    sequence: this.counter(),
    acknowledged: this.counter(),
  });

  bodies(): MessageBody[] {
    const { counter, flag } = this;
    return [
      { type: 'preVote', lastIndex: counter(), lastTerm: counter(), force: flag() },
      { type: 'vote', lastIndex: counter(), lastTerm: counter(), force: flag() },
      { type: 'preVoteReply', granted: flag() },
      { type: 'voteReply', granted: flag() },
      {
        type: 'append',
        previousIndex: counter(),
        previousTerm: counter(),
        entries: this.list(() => this.entry(true)) as never,
        commit: counter(),
        quiet: flag(),
      },
      { type: 'appendReply', rejected: flag(), index: counter(), hintIndex: counter(), hintTerm: counter() },
      { type: 'heartbeat', commit: counter(), round: counter() },
      { type: 'heartbeatReply', round: counter() },
      { type: 'timeoutNow' },
      { type: 'propose', entries: this.list(() => this.entry(false)) as never },
      { type: 'readIndex', context: counter() },
      { type: 'readIndexReply', context: counter(), index: counter(), refused: flag() },
      { type: 'transferLeader', target: this.text() },
    ];
  }

  frames(): Frame[] {
    const [from, to] = [this.text(), this.text()];
    const names = () => this.list(() => `n${this.random.below(9)}`);
    const configuration = { voters: names(), outgoing: names(), learners: names(), learnersNext: names() };
    const snapshot = { index: this.counter(), term: this.counter(), configuration } as never;
    const entries = this.list(() => ({ key: this.text(), value: this.bytes() }));
    const bodies: FrameBody[] = this.bodies().map((body) => ({ raft: { from, to, term: this.counter(), ...body } as Message }));
    const { counter, flag } = this;
    const whole = { count: counter(), sum: this.random.next32() };
    bodies.push({ chunk: { transfer: counter(), term: counter(), snapshot, sequence: counter(), entries, last: flag(), ...whole } });
    bodies.push({ chunkReply: { transfer: counter(), next: counter(), restart: flag() } });
    return bodies.map((body) => ({ from, to, ...body }));
  }
}

/** As good as the entry, but another object. */
function copyOf(entry: Entry): Entry {
  return { ...entry };
}

const draw = new Draw(5);
const FRAMES = Array.from({ length: 15 }, () => draw.frames()).flat();

describe('a frame', () => {
  it('comes out as it went in', () => {
    for (const frame of FRAMES) expect(decodeFrame(encodeFrame(frame.from, frame.to, frame))).toEqual(frame);
  });

  it('is what protobufjs reads and writes', () => {
    const type = frameType();
    for (const frame of FRAMES) {
      const bytes = encodeFrame(frame.from, frame.to, frame);
      const again = type.encode(type.decode(bytes)).finish();
      expect(decodeFrame(again)).toEqual(frame);
      // Nothing is lost on the way through the other one; only zeros that it writes out could make a difference.
      expect(Buffer.from(again).equals(bytes)).toBe(true);
    }
  });

  it('with entries that were sent or received before is the same as without such a memory', () => {
    const frame = (entries: readonly Entry[]) => {
      const message = { from: 'a', to: 'b', term: 1, type: 'append', previousIndex: 0, previousTerm: 0, entries, commit: 0, quiet: false };
      return encodeFrame('a', 'b', { raft: message as unknown as Message });
    };
    const draws = new Draw(9);
    const sent = Array.from({ length: 6 }, () => draws.entry(true) as unknown as Entry);
    const received = (decodeFrame(frame(sent.slice(0, 3).map(copyOf))) as unknown as { raft: { entries: Entry[] } }).raft.entries;
    const other = draws.entry(true) as unknown as Entry;
    const [first, second, third] = sent as [Entry, Entry, Entry];
    const lists = [
      [first, second, third],
      [first, other, third],
      [first, second, other],
      [first, second],
      [second, third],
      sent,
      [...received, ...sent],
      [other, ...received, first],
      [...received.slice(1), ...received],
      sent,
    ];
    for (const entries of lists) expect(Buffer.from(frame(entries)).equals(frame(entries.map(copyOf)))).toBe(true);
  });

  it('may have fields that nobody knows yet', () => {
    const bytes = encodeFrame('a', 'b', { chunkReply: { transfer: 300, next: 1, restart: true } });
    // Fields 15 (a number), 14 (eight bytes), 13 (bytes) and 12 (four bytes).
    const unknown = [15 * 8, 0x96, 1, 14 * 8 + 1, 1, 2, 3, 4, 5, 6, 7, 8, 13 * 8 + 2, 2, 9, 9, 12 * 8 + 5, 1, 2, 3, 4];
    expect(decodeFrame(Uint8Array.from([...bytes, ...unknown]))).toEqual(decodeFrame(bytes));
  });

  it('that is cut short, of another version or nonsense is refused and nothing else', () => {
    const random = new Prng(3);
    for (const frame of FRAMES.slice(0, 30)) {
      const bytes = encodeFrame(frame.from, frame.to, frame).subarray(0, 300);
      for (let length = 0; length < bytes.length; length++) {
        const altered = bytes.slice(0, length);
        if (random.chance(0.5) && length > 0) altered[random.below(length)] = random.below(256);
        try {
          decodeFrame(altered);
        } catch (error) {
          expect(error).toMatchObject({ name: 'ArchipelagoError', code: expect.stringMatching(/^(invalid-argument|unsupported-version)$/) });
        }
      }
    }
    expect(() => decodeFrame(Uint8Array.from([8, 2]))).toThrow(expect.objectContaining({ code: 'unsupported-version' }));
    expect(() => decodeFrame(Uint8Array.from([8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]))).toThrow(/cannot be read/);
    expect(() => decodeFrame(new Uint8Array(0))).toThrow(expect.objectContaining({ code: 'unsupported-version' }));
  });
});
