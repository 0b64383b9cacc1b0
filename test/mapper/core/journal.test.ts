import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { concatBytes, crc32, type Epoch, type VolumeId, viewOf } from '../../../src/base/index.ts';
import { frameSeed, type JournalTail } from '../../../src/mapper/core/journal.ts';
import { decodeSegments, type Replay } from '../../../src/mapper/core/replay.ts';
import type { MapChange } from '../../../src/mapper/core/types.ts';
import { anyChange, cut, type Found, flip, lose, naming, read, Segment, volume } from './segments.ts';
import { absent, codeOf, generation, layered, plain, truncate } from './support.ts';

describe('a journal', () => {
  it('gives back every kind of change, in order', () => {
    const changes = [
      plain(0, 2 ** 53 - 1),
      layered(2 ** 40, 3, 0, 0xffff_ffff, 0x8000_0001),
      absent(9),
      truncate(12),
      naming(8, true),
      naming(9, false),
      { kind: 'takeover', generation: generation(2 ** 40) },
      { kind: 'claimed' },
    ] as const;
    const segment = new Segment(1).append(changes.slice(0, 2)).append([]).append(changes.slice(2), true);
    const replay = read([segment.found]);
    expect(replay.changes).toEqual(changes);
    expect(replay).toMatchObject({ nextSegment: 2, torn: false, cutAt: null, droppedRecords: 0, tail: segment.writer.tail });
  });

  it('begins empty', () => {
    expect(read([], 'boot-a', 5)).toEqual({ changes: [], tail: null, epoch: null, nextSegment: 5, torn: false, cutAt: null, droppedRecords: 0 });
    expect(read([new Segment(3).append([absent(1)]).found], 'boot-a', 5)).toMatchObject({ changes: [], nextSegment: 5 });
  });

  it('tells the epoch of the last owner that wrote what counts', () => {
    const one = new Segment(1, null, { epoch: 3 as Epoch }).append([plain(1, 1)], true);
    const two = new Segment(2, one.writer.tail, { epoch: 5 as Epoch }).append([{ kind: 'takeover', generation: generation(9) }]);
    expect(read([one.found, two.found]).epoch).toBe(5);
    // Begun, and no more: of that one nothing is known.
    expect(read([one.found, cut(two.found, two.bytes.byteLength - 1)]).epoch).toBe(3);
    // Not durable, after a power failure.
    expect(read([one.found, two.found], 'boot-b').epoch).toBeNull();
  });

  it('follows segments from the first that is not folded', () => {
    const one = new Segment(1).append([plain(1, 1)]);
    const two = new Segment(2, one.writer.tail).append([plain(2, 1)]);
    const three = new Segment(3, two.writer.tail).append([plain(3, 1)]);
    const all = [three.found, one.found, two.found];
    expect(read(all).changes).toEqual([plain(1, 1), plain(2, 1), plain(3, 1)]);
    expect(read(all, 'boot-a', 2).changes).toEqual([plain(2, 1), plain(3, 1)]);
    expect(read([three.found, two.found], 'boot-a', 2).changes).toEqual([plain(2, 1), plain(3, 1)]);
    expect(codeOf(() => read([three.found, one.found]))).toBe('corrupt');
    expect(codeOf(() => read([three.found, two.found]))).toBe('corrupt');
  });

  it('a segment that was switched to but never written to is skipped', () => {
    const one = new Segment(1).append([plain(1, 1)]);
    const two = new Segment(2, one.writer.tail);
    const three = new Segment(3, two.writer.tail).append([plain(3, 1)]);
    expect(read([one.found, three.found]).changes).toEqual([plain(1, 1), plain(3, 1)]);
    expect(read([three.found], 'boot-a', 2).changes).toEqual([plain(3, 1)]);
  });

  it('keeps the bytes of an append while the next frame is collected, and makes frames of any size', () => {
    const writer = new Segment(1).writer;
    writer.begin();
    writer.add(plain(1, 1));
    const first = writer.finish(null);
    const copy = first.slice();
    writer.begin();
    for (let index = 0; index < 5000; index++) writer.add(layered(index, 1, 2));
    expect(writer.pending).toBe(5000);
    const second = writer.finish(1);
    expect(first).toEqual(copy);
    expect(read([{ number: 1, bytes: concatBytes([first, second]) }]).changes.length).toBe(5001);
  });

  describe('after the death of a daemon', () => {
    it('loses only an append that was not complete', () => {
      const segment = new Segment(1)
        .append([plain(1, 1)])
        .append([plain(2, 1)], true)
        .append([plain(3, 1), plain(4, 1)]);
      const [first = 0, second = 0, third = 0] = segment.ends;
      for (let length = 0; length < third; length++) {
        const replay = read([cut(segment.found, length)]);
        const count = length >= second ? 2 : length >= first ? 1 : 0;
        expect(replay.changes.length).toBe(count);
        const whole = length === 0 || length === first || length === second;
        if (length > first) expect(replay.torn).toBe(!whole);
        if (length > first && !whole) expect(replay.cutAt).toEqual({ segment: 1, position: count === 2 ? second : first });
      }
    });

    it('goes on behind the cut in a new segment, and the torn end stays void', () => {
      const one = new Segment(1).append([plain(1, 1)]).append([plain(2, 1)]);
      const torn = cut(one.found, one.bytes.byteLength - 1);
      const replay = read([torn]);
      const two = new Segment(2, replay.tail, { epoch: 2 as Epoch }).append([plain(5, 1)], true).append([plain(6, 1)]);
      for (const boot of ['boot-a', 'boot-b']) {
        const again = read([torn, two.found], boot);
        expect(again.torn).toBe(false);
        expect(again.changes).toEqual(boot === 'boot-a' ? [plain(1, 1), plain(5, 1), plain(6, 1)] : [plain(1, 1)]);
      }
      expect(read([one.found, two.found]).changes).toEqual([plain(1, 1), plain(5, 1), plain(6, 1)]);
    });

    it('takes no damage for a torn end', () => {
      const one = new Segment(1)
        .append([plain(1, 1)])
        .append([plain(2, 1)])
        .append([plain(3, 1)]);
      const two = new Segment(2, one.writer.tail).append([plain(4, 1)]);
      const [first = 0, second = 0, third = 0] = one.ends;
      expect(codeOf(() => read([lose(one.found, first, second)]))).toBe('corrupt');
      expect(codeOf(() => read([lose(one.found, 0, 80)]))).toBe('corrupt');
      for (const length of [0, 10, first, second, second + 1, third - 1])
        expect(codeOf(() => read([cut(one.found, length), two.found]))).toBe('corrupt');
    });
  });

  describe('after a power failure', () => {
    it('counts what was there before the last mark, in whichever segment', () => {
      const one = new Segment(1)
        .append([plain(1, 1)])
        .append([plain(2, 1)], true)
        .append([plain(3, 1)]);
      const replay = read([one.found], 'boot-b');
      expect(replay.changes).toEqual([plain(1, 1)]);
      expect(replay).toMatchObject({ droppedRecords: 2, torn: false, tail: { segment: 1, length: one.ends[0] } });
      const two = new Segment(2, one.writer.tail)
        .append([plain(4, 1)])
        .append([], true)
        .append([plain(5, 1)]);
      expect(read([one.found, two.found], 'boot-b').changes).toEqual([plain(1, 1), plain(2, 1), plain(3, 1), plain(4, 1)]);
      const unmarked = new Segment(2, one.writer.tail).append([plain(4, 1)]);
      expect(read([one.found, unmarked.found], 'boot-b')).toMatchObject({ changes: [plain(1, 1)], droppedRecords: 3 });
    });

    it('never takes back what was dropped, nor drops what was taken over', () => {
      const one = new Segment(1).append([plain(1, 1)]).append([plain(2, 1)], true);
      const { tail, nextSegment } = read([one.found], 'boot-b');
      const two = new Segment(nextSegment, tail, { bootId: 'boot-b', epoch: 2 as Epoch }).append([plain(3, 1)]);
      expect(read([one.found, two.found], 'boot-b').changes).toEqual([plain(1, 1), plain(3, 1)]);
      expect(read([one.found, two.found], 'boot-c')).toMatchObject({ changes: [plain(1, 1)], droppedRecords: 1 });
      two.append([], true);
      expect(read([one.found, two.found], 'boot-c').changes).toEqual([plain(1, 1), plain(3, 1)]);
    });

    it('keeps what a mark covers when what it does not cover is lost, wherever the mark is', () => {
      const one = new Segment(1)
        .append([plain(1, 1)])
        .append([plain(2, 1)])
        .append([plain(3, 1)], 1);
      const [first = 0, second = 0] = one.ends;
      expect(read([one.found], 'boot-b')).toMatchObject({ changes: [plain(1, 1)], droppedRecords: 2 });
      const holed = lose(one.found, first, second);
      expect(read([holed], 'boot-b')).toMatchObject({ changes: [plain(1, 1)], torn: true, tail: { segment: 1, length: first } });
      expect(codeOf(() => read([holed], 'boot-a'))).toBe('corrupt');
      expect(codeOf(() => read([lose(one.found, first - 20, second)], 'boot-b'))).toBe('corrupt');
      // Even a mark for none of its own segment's frames is one for the segments before.
      const two = new Segment(2, one.writer.tail).append([plain(4, 1)]).append([], 0);
      expect(read([one.found, two.found], 'boot-b').changes).toEqual([plain(1, 1), plain(2, 1), plain(3, 1)]);
      const holedTwo = lose(two.found, 90, two.ends[0]);
      expect(read([one.found, holedTwo], 'boot-b').changes).toEqual([plain(1, 1), plain(2, 1), plain(3, 1)]);
      expect(codeOf(() => read([cut(one.found, second), holedTwo], 'boot-b'))).toBe('corrupt');
    });

    it('accepts holes in what no mark vouches for, and takes others for damage', () => {
      const one = new Segment(1)
        .append([plain(1, 1)])
        .append([], true)
        .append([plain(3, 1)])
        .append([plain(4, 1)]);
      const [first = 0, second = 0, third = 0] = one.ends;
      expect(read([lose(one.found, second, third)], 'boot-b')).toMatchObject({
        changes: [plain(1, 1)],
        torn: true,
        cutAt: { segment: 1, position: second },
      });
      expect(codeOf(() => read([lose(one.found, first - 20, first - 10)], 'boot-b'))).toBe('corrupt');
      expect(codeOf(() => read([lose(one.found, 0, 40)], 'boot-b'))).toBe('corrupt');
      const unmarked = new Segment(1).append([plain(1, 1)]).append([plain(2, 1)]);
      expect(read([lose(unmarked.found, 0, 40)], 'boot-b')).toMatchObject({ changes: [], torn: true, tail: null, nextSegment: 2 });
    });

    it('ends where a whole segment was lost that nothing vouches for', () => {
      const one = new Segment(1).append([plain(1, 1)]).append([], true);
      const two = new Segment(2, one.writer.tail).append([plain(2, 1)]);
      const three = new Segment(3, two.writer.tail).append([plain(3, 1)]);
      for (const lost of [[], [cut(two.found, 0)], [cut(two.found, 20)], [lose(two.found, 0)], [lose(two.found, 100)]]) {
        const replay = read([one.found, ...lost, three.found], 'boot-b');
        expect(replay.changes).toEqual([plain(1, 1)]);
        expect(replay).toMatchObject({ torn: true, nextSegment: 4, tail: { segment: 1 }, droppedRecords: 1 });
        const marked = new Segment(3, two.writer.tail).append([], true);
        expect(codeOf(() => read([one.found, ...lost, marked.found], 'boot-b'))).toBe('corrupt');
        const resumed = new Segment(3, two.writer.tail, { bootId: 'boot-b' }).append([plain(3, 1)]);
        expect(codeOf(() => read([one.found, ...lost, resumed.found], 'boot-c'))).toBe('corrupt');
        // What goes on from here does not fall over what was lost.
        const four = new Segment(4, replay.tail, { bootId: 'boot-b' }).append([plain(4, 1)], true);
        expect(read([one.found, ...lost, three.found, four.found], 'boot-b').changes).toEqual([plain(1, 1), plain(4, 1)]);
      }
    });
  });

  it('refuses what belongs to another segment, volume or epoch', () => {
    const one = new Segment(1).append([plain(1, 1)]);
    expect(codeOf(() => read([{ number: 2, bytes: one.bytes }]))).toBe('corrupt');
    expect(codeOf(() => decodeSegments([one.found], { volume: 8 as VolumeId, bootId: 'boot-a', fromSegment: 1 }))).toBe('corrupt');
    const later = new Segment(2, one.writer.tail, { epoch: 3 as Epoch }).append([plain(2, 1)]);
    expect(codeOf(() => decodeSegments([one.found, later.found], { volume, bootId: 'boot-a', fromSegment: 1, epoch: 2 as Epoch }))).toBe('corrupt');
    const newer = new Segment(1, null, { epoch: 3 as Epoch }).append([plain(1, 1)]);
    const older = new Segment(2, newer.writer.tail).append([plain(2, 1)]);
    expect(codeOf(() => read([newer.found, older.found]))).toBe('corrupt');
    // A frame of the same number and place, but of another epoch.
    const other = new Segment(1, null, { epoch: 2 as Epoch }).append([plain(1, 1)]).append([plain(6, 6)], true);
    const mixed = concatBytes([one.bytes, other.bytes.subarray(other.ends[0])]);
    expect(read([{ number: 1, bytes: mixed }])).toMatchObject({ changes: [plain(1, 1)], torn: true });
  });

  it('refuses segments and marks that contradict what is there, whatever power failed', () => {
    const one = new Segment(1).append([plain(1, 1)]).append([plain(2, 1)]);
    const tail = one.writer.tail as JournalTail;
    for (const wrong of [
      { ...tail, checksum: 1 + (tail.checksum >>> 1) },
      { ...tail, length: tail.length - 1 },
    ]) {
      const two = new Segment(2, wrong).append([plain(3, 1)]);
      for (const boot of ['boot-a', 'boot-b']) expect(codeOf(() => read([one.found, two.found], boot))).toBe('corrupt');
    }
    const bytes = one.bytes.slice();
    const view = viewOf(bytes);
    const [first = 0, second = 0] = one.ends;
    view.setUint8(first + 24, 1);
    view.setUint32(first + 32, 2);
    view.setUint32(second - 4, crc32(bytes.subarray(first, second - 4), frameSeed(volume, 1)));
    expect(codeOf(() => read([{ number: 1, bytes }]))).toBe('corrupt');
    view.setUint32(first + 32, 1);
    view.setUint32(second - 4, crc32(bytes.subarray(first, second - 4), frameSeed(volume, 1)));
    expect(read([{ number: 1, bytes }], 'boot-b').changes).toEqual([plain(1, 1)]);
  });

  it('refuses a frame that has more or fewer records than it says', () => {
    for (const count of [0, 1, 3]) {
      const bytes = new Segment(1).append([plain(1, 1), absent(2)]).bytes.slice();
      const view = viewOf(bytes);
      const start = view.getUint32(8);
      view.setUint32(start + 28, count);
      view.setUint32(bytes.byteLength - 4, crc32(bytes.subarray(start, bytes.byteLength - 4), frameSeed(volume, 1)));
      expect(codeOf(() => read([{ number: 1, bytes }]))).toBe('corrupt');
    }
  });

  it('refuses a newer version, and an unknown kind of record', () => {
    const one = new Segment(1).append([plain(1, 1)]);
    const header = one.bytes.slice();
    const view = viewOf(header);
    view.setUint16(4, 2);
    const length = view.getUint32(8);
    view.setUint32(length - 4, crc32(header.subarray(0, length - 4)));
    expect(codeOf(() => read([{ number: 1, bytes: header }]))).toBe('unsupported-version');
    const segment = new Segment(1);
    segment.writer.begin();
    segment.writer.add(plain(1, 1));
    const inside = segment.writer as unknown as { view: DataView; frameAt: number };
    inside.view.setUint8(inside.frameAt + 36, 6);
    expect(codeOf(() => read([{ number: 1, bytes: segment.writer.finish(null) }]))).toBe('unsupported-version');
  });
});

const frames = fc.array(fc.record({ changes: fc.array(anyChange, { maxLength: 4 }), lag: fc.constantFrom(null, null, 0, 1, 2) }), {
  minLength: 1,
  maxLength: 6,
});
const journals = fc.array(frames, { minLength: 1, maxLength: 4 });

interface Written {
  readonly segments: Segment[];
  /** All changes, and after how many of them each frame ends. */
  readonly changes: MapChange[];
  readonly frameEnds: number[];
  /** Changes that a mark covers; a mark may be for fewer frames than there are before it. */
  readonly marked: number;
}

function write(journal: readonly { changes: MapChange[]; lag: number | null }[][]): Written {
  const segments: Segment[] = [];
  const changes: MapChange[] = [];
  const frameEnds = [0];
  let marked = 0;
  for (const [place, list] of journal.entries()) {
    const segment = new Segment(place + 1, segments.at(-1)?.writer.tail ?? null);
    const segmentStart = frameEnds.length - 1;
    for (const frame of list) {
      const covered = Math.max(0, segment.ends.length - (frame.lag ?? 0));
      segment.append(frame.changes, frame.lag !== null && covered);
      if (frame.lag !== null) marked = Math.max(marked, frameEnds[segmentStart + covered] as number);
      changes.push(...frame.changes);
      frameEnds.push(changes.length);
    }
    segments.push(segment);
  }
  return { segments, changes, frameEnds, marked };
}

/** Reads a damaged journal: null for `corrupt`; else what came out must be a whole number of frames from the start. */
function readPrefix(written: Written, found: readonly Found[], boot: string): Replay | null {
  let replay: Replay;
  try {
    replay = read(found, boot);
  } catch (error) {
    expect(error).toMatchObject({ name: 'ArchipelagoError', code: 'corrupt' });
    return null;
  }
  expect(written.frameEnds).toContain(replay.changes.length);
  expect(replay.changes).toEqual(written.changes.slice(0, replay.changes.length));
  return replay;
}

describe('a journal and chance', () => {
  it('whole, it gives everything under its boot, and what is marked under another', () => {
    fc.assert(
      fc.property(journals, (journal) => {
        const written = write(journal);
        const found = written.segments.map((segment) => segment.found);
        expect(readPrefix(written, found, 'boot-a')?.changes.length).toBe(written.changes.length);
        expect(readPrefix(written, found, 'boot-b')?.changes.length).toBe(written.marked);
      }),
    );
  });

  it('cut at any byte of the last segment, it loses what is behind, and nothing that a mark vouches for', () => {
    fc.assert(
      fc.property(journals, fc.double({ min: 0, max: 1, noNaN: true }), (journal, share) => {
        const written = write(journal);
        const found = written.segments.map((segment) => segment.found);
        const last = found.pop() as Found;
        const length = Math.floor(last.bytes.byteLength * share);
        const replay = readPrefix(written, [...found, cut(last, length)], 'boot-a');
        const before = written.segments.slice(0, -1).reduce((sum, segment) => sum + segment.ends.length, 0);
        const kept = (written.segments.at(-1) as Segment).ends.filter((end) => end <= length).length;
        expect(replay?.changes.length).toBe(written.frameEnds[before + kept]);
        readPrefix(written, [...found, cut(last, length)], 'boot-b');
      }),
    );
  });

  it('with a flipped bit anywhere, no wrong change comes out, and only the last frame can be lost without an error', () => {
    fc.assert(
      fc.property(journals, fc.nat(), fc.nat(), (journal, which, where) => {
        const written = write(journal);
        const found = written.segments.map((segment) => segment.found);
        const place = which % found.length;
        const victim = found[place] as Found;
        const bit = where % (victim.bytes.byteLength * 8);
        found[place] = flip(victim, bit);
        const replay = readPrefix(written, found, 'boot-a');
        const ends = (written.segments[place] as Segment).ends;
        const inLast = place === found.length - 1 && (ends.length < 2 || bit >>> 3 >= (ends.at(-2) as number));
        if (inLast && replay !== null) expect(replay.changes.length).toBe(written.frameEnds.at(-2));
        if (!inLast) expect(replay).toBeNull();
        const other = readPrefix(written, found, 'boot-b');
        if (other !== null && !inLast) expect(other.changes.length).toBeLessThanOrEqual(written.marked);
      }),
      { numRuns: 500 },
    );
  });

  it('after a power failure that took any ranges behind the last mark, all that is marked comes out', () => {
    const ranges = fc.array(fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(200)), { maxLength: 3 });
    fc.assert(
      fc.property(journals, ranges, ranges, fc.boolean(), (journal, losses, moreLosses, goneWhole) => {
        const written = write(journal);
        // The mark itself and all before it were synced.
        let markSegment = -1;
        let markEnd = 0;
        for (const [place, list] of journal.entries()) {
          for (const [frame, { lag }] of list.entries()) {
            if (lag === null) continue;
            markSegment = place;
            markEnd = (written.segments[place] as Segment).ends[frame] as number;
          }
        }
        let found = written.segments.map((segment, place) => {
          let left = segment.found;
          if (place < markSegment) return left;
          const from = place === markSegment ? markEnd : 0;
          for (const [share, length] of place % 2 === 0 ? losses : moreLosses) {
            const start = from + Math.floor((left.bytes.byteLength - from) * share);
            left = lose(left, start, Math.min(start + length, left.bytes.byteLength));
          }
          return left;
        });
        if (goneWhole && found.length - 1 > markSegment) found = found.filter((_, place) => place !== markSegment + 1);
        const replay = readPrefix(written, found, 'boot-b');
        expect(replay?.changes.length).toBe(written.marked);
        // Going on from there, everything stays as it was decided, whatever the next reader finds behind.
        const next = new Segment(replay?.nextSegment ?? 0, replay?.tail ?? null, { bootId: 'boot-b' }).append([plain(1, 77)]).append([], true);
        const again = read([...found, next.found], 'boot-c');
        expect(again.changes).toEqual([...written.changes.slice(0, written.marked), plain(1, 77)]);
      }),
      { numRuns: 500 },
    );
  });
});
