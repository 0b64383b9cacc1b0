/** The frame reader against a stream that is cut anywhere, and against lengths that lie. */
import { expect, it } from 'vitest';
import { Prng } from '../../src/base/index.ts';
import { emptyHeader, HEADER_BYTES, ProtocolError, writeHeader } from '../../src/net/frame.ts';
import { FrameReader } from '../../src/net/frame-reader.ts';
import { bytes } from './hosts.ts';

interface Frame {
  kind: number;
  requestId: number;
  type: number;
  replyBytes: number;
  metadata: Uint8Array;
  payload: Uint8Array;
}

function encode(frame: Frame): Uint8Array {
  const header = { ...emptyHeader(), ...frame, metadataBytes: frame.metadata.byteLength, payloadBytes: frame.payload.byteLength };
  const out = new Uint8Array(HEADER_BYTES + header.metadataBytes + header.payloadBytes);
  writeHeader(out, 0, header);
  out.set(frame.metadata, HEADER_BYTES);
  out.set(frame.payload, HEADER_BYTES + header.metadataBytes);
  return out;
}

function collector(frames: Frame[], maxMetadataBytes = 1000, maxPayloadBytes = 5000): FrameReader {
  return new FrameReader(maxMetadataBytes, maxPayloadBytes, ({ kind, requestId, type, replyBytes }, metadata, payload) => {
    frames.push({ kind, requestId, type, replyBytes, metadata: Uint8Array.from(metadata), payload: Uint8Array.from(payload) });
  });
}

it('reads the same frames however the stream is cut', () => {
  for (let seed = 1; seed <= 300; seed++) {
    const random = new Prng(seed);
    const frames = Array.from({ length: 1 + random.below(8) }, (_, i) => ({
      kind: random.below(5),
      requestId: random.next32(),
      type: random.below(65_536),
      replyBytes: random.next32(),
      metadata: bytes(random.chance(0.3) ? 0 : random.below(60), i),
      payload: bytes(random.chance(0.3) ? 0 : random.below(400), i + 99),
    }));
    const stream = Buffer.concat(frames.map(encode));
    const got: Frame[] = [];
    const reader = collector(got);
    for (let at = 0; at < stream.byteLength; ) {
      const take = 1 + random.below(random.chance(0.5) ? 12 : 300);
      // A copy, so that a reader which looked at a piece again later would see nonsense.
      const piece = Uint8Array.from(stream.subarray(at, at + take));
      reader.push(piece);
      piece.fill(0xff);
      at += take;
    }
    expect(got, `seed ${seed}`).toEqual(frames);
  }
});

it('refuses a length beyond its bound before it allocates, and one that contradicts itself', () => {
  const header = new Uint8Array(HEADER_BYTES);
  const refuses = (metadataBytes: number, payloadBytes: number) => {
    writeHeader(header, 0, { ...emptyHeader(), metadataBytes, payloadBytes });
    expect(() => collector([]).push(header.slice())).toThrow(ProtocolError);
  };
  refuses(1001, 0);
  refuses(0, 5001);
  refuses(0, 0xffff_0000);
  writeHeader(header, 0, { ...emptyHeader(), metadataBytes: 10, payloadBytes: 0 });
  header[15] = 11;
  expect(() => collector([]).push(header.slice())).toThrow(/malformed/);
  expect(() => collector([]).push(Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'))).toThrow(ProtocolError);
  writeHeader(header, 0, { ...emptyHeader(), metadataBytes: 1000, payloadBytes: 5000 });
  collector([]).push(header.slice());
});

it('delivers nothing after it was stopped in the middle of a piece', () => {
  let seen = 0;
  const frame = encode({ kind: 0, requestId: 0, type: 1, replyBytes: 0, metadata: bytes(3), payload: bytes(3) });
  const reader = new FrameReader(100, 100, () => {
    seen += 1;
    reader.stop();
  });
  reader.push(Buffer.concat([frame, frame, frame]));
  expect(seen).toBe(1);
});
