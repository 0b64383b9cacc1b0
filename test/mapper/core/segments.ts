/** Journal segments as they grow, and the damage that is done to them. */

import fc from 'fast-check';
import { expect } from 'vitest';
import { concatBytes, type Epoch, type VolumeId } from '../../../src/base/index.ts';
import { FrameWriter, type JournalTail, type SegmentIdentity } from '../../../src/mapper/core/journal.ts';
import { decodeSegments, type Replay } from '../../../src/mapper/core/replay.ts';
import type { MapChange } from '../../../src/mapper/core/types.ts';
import { absent, generation, layered, plain, truncate } from './support.ts';

export const volume = 7 as VolumeId;
export const naming = (value: number, closeOthers: boolean): MapChange => ({ kind: 'naming', generation: generation(value), closeOthers });

/** A segment as it grows: each append is a list of changes, with a mark for all frames before or for so many, or without. */
export class Segment {
  readonly writer: FrameWriter;
  bytes = new Uint8Array(0);
  /** Where each append ends. */
  readonly ends: number[] = [];

  constructor(segment: number, predecessor: JournalTail | null = null, identity: Partial<SegmentIdentity> = {}) {
    this.writer = new FrameWriter({ volume, epoch: 1 as Epoch, segment, bootId: 'boot-a', predecessor, ...identity });
  }

  append(changes: readonly MapChange[], mark: boolean | number = false): this {
    this.writer.begin();
    for (const change of changes) this.writer.add(change);
    const bytes = this.writer.finish(mark === true ? this.writer.frames : mark === false ? null : mark);
    expect(this.writer.start).toBe(this.bytes.byteLength);
    this.bytes = concatBytes([this.bytes, bytes]) as Uint8Array<ArrayBuffer>;
    expect(this.writer.length).toBe(this.bytes.byteLength);
    this.ends.push(this.bytes.byteLength);
    return this;
  }

  get number(): number {
    return this.writer.identity.segment;
  }

  get found(): { number: number; bytes: Uint8Array } {
    return { number: this.number, bytes: this.bytes };
  }
}

export type Found = { number: number; bytes: Uint8Array };
export const read = (segments: readonly Found[], bootId = 'boot-a', fromSegment = 1): Replay =>
  decodeSegments(segments, { volume, bootId, fromSegment });
export const cut = ({ number, bytes }: Found, length: number): Found => ({ number, bytes: bytes.subarray(0, length) });
export function flip({ number, bytes }: Found, bit: number): Found {
  const copy = bytes.slice();
  copy[bit >>> 3] = (copy[bit >>> 3] as number) ^ (1 << (bit & 7));
  return { number, bytes: copy };
}
/** As a power failure leaves a range that was not synced. */
export function lose({ number, bytes }: Found, from: number, to = bytes.byteLength): Found {
  return { number, bytes: bytes.slice().fill(0, from, to) };
}

const index = fc.nat(2000);
/** Any change that a journal can record. */
export const anyChange: fc.Arbitrary<MapChange> = fc.oneof(
  fc.tuple(index, fc.integer({ min: 1, max: 2 ** 40 })).map(([at, value]) => plain(at, value)),
  fc.tuple(index, fc.integer({ min: 1, max: 99 }), fc.nat(99), fc.nat()).map(([at, value, base, presence]) => layered(at, value, base, presence)),
  index.map(absent),
  index.map(truncate),
  fc.tuple(fc.integer({ min: 1, max: 99 }), fc.boolean()).map(([value, closeOthers]) => naming(value, closeOthers)),
  fc.integer({ min: 1, max: 99 }).map((value): MapChange => ({ kind: 'takeover', generation: generation(value) })),
  fc.constant<MapChange>({ kind: 'claimed' }),
);
