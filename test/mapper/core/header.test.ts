import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { crc32, type Epoch, type VolumeId, viewOf } from '../../../src/base/index.ts';
import { decodeHeader, encodeHeader } from '../../../src/mapper/core/header.ts';
import type { LiveState } from '../../../src/mapper/core/live.ts';
import { applyGenerations, isLive, isUnclean, NO_GENERATIONS } from '../../../src/mapper/core/live.ts';
import type { GenerationChange, VolumeHeader } from '../../../src/mapper/core/types.ts';
import { codeOf, generation } from './support.ts';

const volume = 12 as VolumeId;
const epoch = 34 as Epoch;
const sample: VolumeHeader = {
  root: { generation: generation(5), sequence: 6, checksum: 0xdead_beef, blocks: 7 },
  segment: 8,
  namingGeneration: generation(9),
  liveGenerations: [generation(9), generation(11)],
  uncleanGenerations: [generation(11)],
  nextPageSequence: 10,
};

describe('the header of a volume', () => {
  it('is on disk as documented', () => {
    const bytes = encodeHeader(volume, epoch, sample);
    expect(Buffer.from(bytes.subarray(0, -4)).toString('hex')).toBe(
      ['41725668', '0001', '0001', '0000007c', '00000000', '000000000000000c', '0000000000000022'].join('') +
        ['0000000000000005', '0000000000000006', '0000000000000007', 'deadbeef', '00000000'].join('') +
        ['0000000000000008', '0000000000000009', '000000000000000a', '00000002', '00000001'].join('') +
        ['0000000000000009', '000000000000000b', '000000000000000b'].join(''),
    );
    expect(viewOf(bytes).getUint32(bytes.byteLength - 4)).toBe(crc32(bytes.subarray(0, -4)));
  });

  it('gives back what was put in', () => {
    const counter = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
    const list = (minLength: number) => fc.uniqueArray(counter, { minLength, maxLength: 9 }).map((of) => of.sort((a, b) => a - b).map(generation));
    const root = fc.record({ generation: counter.map(generation), sequence: counter, checksum: fc.nat(0xffff_ffff), blocks: counter });
    const rest = fc.record({ root: fc.option(root), segment: counter, uncleanGenerations: list(0), nextPageSequence: counter });
    fc.assert(
      fc.property(rest, list(1), fc.nat(8), (fields, liveGenerations, place) => {
        const namingGeneration = liveGenerations[place % liveGenerations.length] ?? generation(1);
        const header: VolumeHeader = { ...fields, liveGenerations, namingGeneration };
        expect(decodeHeader(encodeHeader(volume, epoch, header), volume)).toEqual({ volume, epoch, header });
      }),
    );
  });

  it('with any bit flipped or any byte missing is damage', () => {
    const bytes = encodeHeader(volume, epoch, sample);
    for (let bit = 0; bit < bytes.byteLength * 8; bit++) {
      const copy = bytes.slice();
      copy[bit >>> 3] = (copy[bit >>> 3] as number) ^ (1 << (bit & 7));
      expect(codeOf(() => decodeHeader(copy, volume))).toBe('corrupt');
    }
    for (let length = 0; length < bytes.byteLength; length++) expect(codeOf(() => decodeHeader(bytes.subarray(0, length), volume))).toBe('corrupt');
    expect(codeOf(() => decodeHeader(bytes, 13 as VolumeId))).toBe('corrupt');
  });

  it('of a newer version is refused, whatever else is in it', () => {
    const bytes = new Uint8Array(40).fill(7);
    const view = viewOf(bytes);
    view.setUint32(0, 0x41725668);
    view.setUint16(4, 2);
    view.setUint32(8, 40);
    view.setUint32(36, crc32(bytes.subarray(0, 36)));
    expect(codeOf(() => decodeHeader(bytes, volume))).toBe('unsupported-version');
  });
});

describe('live generations', () => {
  const naming = (value: number, closeOthers = false) => ({ kind: 'naming', generation: generation(value), closeOthers }) as const;
  const takeover = (value: number) => ({ kind: 'takeover', generation: generation(value) }) as const;
  const claimed = { kind: 'claimed' } as const;
  const stateAfter = (...changes: GenerationChange[]): LiveState => changes.reduce(applyGenerations<LiveState>, NO_GENERATIONS);
  const state = (live: number[], unclean: number[], namingGeneration: number): LiveState => ({
    namingGeneration: generation(namingGeneration),
    liveGenerations: live.map(generation),
    uncleanGenerations: unclean.map(generation),
    nextPageSequence: 1,
  });

  it.each<[string, LiveState, LiveState]>([
    ['begin with the first owner', stateAfter(naming(3)), state([3], [], 3)],
    ['begin with a takeover where nobody was', stateAfter(takeover(3)), state([3], [], 3)],
    ['a cut leaves one', stateAfter(naming(3), naming(7, true)), state([7], [], 7)],
    ['a clean takeover adds one', stateAfter(naming(3), naming(7)), state([3, 7], [], 7)],
    ['a takeover adds one and makes the others unclean', stateAfter(naming(3), takeover(7), takeover(5)), state([3, 5, 7], [3, 7], 5)],
    ['a handover passes on what is unclean', stateAfter(naming(3), takeover(7), naming(7)), state([3, 7], [3], 7)],
    ['claimed, nothing is unclean', stateAfter(naming(3), takeover(7), claimed), state([3, 7], [], 7)],
    ['a further takeover makes it all unclean again', stateAfter(naming(3), takeover(7), claimed, takeover(9)), state([3, 7, 9], [3, 7], 9)],
    ['a cut is the proof that nothing was unclean', stateAfter(naming(3), takeover(7), naming(8, true)), state([8], [], 8)],
    ['the same takeover again changes nothing', stateAfter(naming(3), takeover(7), claimed, takeover(7)), state([3, 7], [], 7)],
    [
      'the same naming again changes nothing',
      applyGenerations({ ...stateAfter(naming(3)), nextPageSequence: 9 }, naming(3)),
      { ...stateAfter(naming(3)), nextPageSequence: 9 },
    ],
  ])('%s', (_, found, expected) => {
    expect(found).toEqual(expected);
  });

  it('say what may be written in place, and what must be claimed', () => {
    const found = stateAfter(naming(3), takeover(7));
    expect([2, 3, 7].map((value) => isLive(found, generation(value)))).toEqual([false, true, true]);
    expect([2, 3, 7].map((value) => isUnclean(found, generation(value)))).toEqual([false, true, false]);
  });
});
