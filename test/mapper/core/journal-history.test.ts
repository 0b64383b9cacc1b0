/**
 * Owners come and go: they append, flush, switch segments, are killed, and lose power; each new one goes on from what it read. Verified:
 * after a kill everything that was appended is there; after a power failure everything that was flushed; what comes out is always a
 * prefix of what went in; and what was decided once (kept or dropped) stays so. Not verified: damage, which `journal.test.ts` does.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Epoch } from '../../../src/base/index.ts';
import type { JournalTail } from '../../../src/mapper/core/journal.ts';
import { decodeSegments, type Replay } from '../../../src/mapper/core/replay.ts';
import type { MapChange } from '../../../src/mapper/core/types.ts';
import { anyChange, Segment, volume } from './segments.ts';

/** A segment on the disk. */
interface Stored {
  bytes: Uint8Array;
  /** Bytes that survive a power failure. */
  synced: number;
}

class Host {
  readonly disk = new Map<number, Stored>();
  boot = 1;
  epoch = 1;
  segment: Segment;
  /** What the current owner holds to be in the journal. */
  history: MapChange[] = [];
  /** How many of them must survive a power failure, and how many may. */
  flushed = 0;
  marked = 0;

  constructor() {
    this.segment = this.segmentOf(1, null);
  }

  append(changes: readonly MapChange[], covered: number | false = false): void {
    this.segment.append(changes, covered);
    this.history.push(...changes);
    const synced = this.disk.get(this.segment.number)?.synced ?? 0;
    this.disk.set(this.segment.number, { bytes: this.segment.bytes, synced });
  }

  sync(): void {
    for (const stored of this.disk.values()) stored.synced = stored.bytes.byteLength;
    this.flushed = this.marked;
  }

  /** FLUSH: everything is made durable, while more is appended; then the mark is set for what was there before, and made durable. */
  flush(meanwhile: readonly (readonly MapChange[])[], stopBefore: 'mark' | 'sync' | null): void {
    const covered = this.segment.writer.frames;
    const changes = this.history.length;
    this.sync();
    for (const list of meanwhile) this.append(list);
    if (stopBefore === 'mark') return;
    this.marked = changes;
    this.append([], covered);
    if (stopBefore === null) this.sync();
  }

  switchSegment(): void {
    this.segment = this.segmentOf(this.segment.number + 1, this.segment.writer.tail);
  }

  /** The owner dies in the middle of an append of which `share` gets through. */
  kill(changes: readonly MapChange[], share: number): void {
    const before = this.segment.bytes;
    this.segment.append(changes);
    const written = before.byteLength + Math.floor((this.segment.bytes.byteLength - before.byteLength) * share);
    if (written > before.byteLength) {
      const synced = this.disk.get(this.segment.number)?.synced ?? 0;
      this.disk.set(this.segment.number, { bytes: this.segment.bytes.subarray(0, written), synced });
    }
    if (share === 1) this.history.push(...changes);
    const replay = this.takeOver();
    expect(replay.changes).toEqual(this.history);
  }

  /** Of what was not synced, the host loses what `fates` says: a byte each for a piece of 16 bytes. */
  losePower(fates: readonly number[]): void {
    let place = 0;
    const fate = () => fates[place++ % fates.length] as number;
    for (const [number, stored] of this.disk) {
      const bytes = stored.bytes.slice();
      for (let at = stored.synced; at < bytes.byteLength; at += 16) if (fate() % 3 === 0) bytes.fill(0, at, Math.min(at + 16, bytes.byteLength));
      const length = fate() % 2 === 0 ? bytes.byteLength : Math.max(stored.synced, bytes.byteLength - fate());
      this.disk.set(number, { bytes: bytes.subarray(0, length), synced: length });
      if (stored.synced === 0 && fate() % 3 === 0) this.disk.delete(number);
    }
    this.boot++;
    const replay = this.takeOver();
    expect(replay.changes.length).toBeGreaterThanOrEqual(this.flushed);
    expect([this.flushed, this.marked]).toContain(replay.changes.length);
    expect(replay.changes).toEqual(this.history.slice(0, replay.changes.length));
    // What was read after a power failure is on the disk.
    this.history = [...replay.changes];
    this.flushed = this.history.length;
    this.marked = this.history.length;
  }

  private takeOver(): Replay {
    this.epoch++;
    const found = [...this.disk].map(([number, { bytes }]) => ({ number, bytes }));
    const options = { volume, bootId: `boot ${this.boot}`, fromSegment: 1, epoch: this.epoch as Epoch };
    const replay = decodeSegments(found, options);
    this.segment = this.segmentOf(replay.nextSegment, replay.tail);
    return replay;
  }

  private segmentOf(number: number, predecessor: JournalTail | null): Segment {
    return new Segment(number, predecessor, { epoch: this.epoch as Epoch, bootId: `boot ${this.boot}` });
  }
}

const changes = fc.array(anyChange, { maxLength: 3 });
type Step = (host: Host) => void;
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: changes.map(
      (list): Step =>
        (host) =>
          host.append(list),
    ),
  },
  // One that stops before its last sync leaves a mark of which nobody knows whether it is there for good.
  {
    weight: 4,
    arbitrary: fc.tuple(fc.array(changes, { maxLength: 2 }), fc.constantFrom(null, null, 'mark' as const, 'sync' as const)).map(
      ([meanwhile, stopBefore]): Step =>
        (host) =>
          host.flush(meanwhile, stopBefore),
    ),
  },
  { weight: 1, arbitrary: fc.constant<Step>((host) => host.sync()) },
  { weight: 3, arbitrary: fc.constant<Step>((host) => host.switchSegment()) },
  {
    weight: 2,
    arbitrary: fc.tuple(changes, fc.constantFrom(0, 0.1, 0.5, 0.9, 1)).map(
      ([list, share]): Step =>
        (host) =>
          host.kill(list, share),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.array(fc.nat(200), { minLength: 1, maxLength: 40 }).map(
      (fates): Step =>
        (host) =>
          host.losePower(fates),
    ),
  },
);

it('a journal outlives its owners and its hosts', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const host = new Host();
      for (const one of steps) one(host);
      host.kill([], 0);
      host.losePower([0]);
    }),
    { numRuns: 500 },
  );
});
