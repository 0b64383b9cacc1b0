/** The numbers of forwarded changes: what the sender gives, what the owner remembers, and what both do when answers are lost. */
import { afterEach, describe, expect, test } from 'vitest';
import { BLOCK_BYTES, Cluster } from '../../chaos/sim/ownership/cluster.ts';
import { read, write } from '../../chaos/sim/ownership/io.ts';
import { assert, Prng } from '../../src/base/index.ts';
import { IO_WRITE, type IoKind, VolumeIo } from '../../src/volume/device.ts';
import { AnsweredWindow, AnsweredWindows, SEQUENCE_WINDOW, SentSequences } from '../../src/volume/sequences.ts';
import { decodeAnswered, encodeAnswered, IO } from '../../src/volume/wire.ts';

class Change extends VolumeIo {
  override kind: IoKind = IO_WRITE;
  override done(): void {}
}

describe('windows', () => {
  test('sender and owner agree with plain sets, whatever is lost', () => {
    const prng = new Prng(7);
    const sent = new SentSequences(1);
    const window = new AnsweredWindow(1);
    const open: Change[] = [];
    const done = new Set<number>();
    let newest = 0;
    for (let step = 0; step < 20_000; step++) {
      // Bursts, so that the window fills and empties.
      const grows = Math.floor(step / 4000) % 2 === 0;
      if (sent.room && prng.below(10) < (grows ? 8 : 3)) {
        const change = new Change();
        sent.number(change);
        assert(change.sequence === ++newest, 'numbers are given in order');
        open.push(change);
      }
      const place = prng.below(Math.max(1, open.length));
      const change = open[place];
      if (change === undefined) continue;
      const { sequence } = change;
      // An attempt arrives.
      window.heard(sent.oldest);
      assert(window.covers(sequence) && window.isDone(sequence) === done.has(sequence), `number ${sequence} at step ${step}`);
      if (!window.isDone(sequence)) {
        window.begin(sequence);
        assert(window.isUnderWay(sequence), 'an attempt is under way');
        if (prng.below(4) === 0) window.forget(sequence);
        else {
          window.done(sequence);
          done.add(sequence);
        }
      }
      // Its answer arrives, or does not.
      if (done.has(sequence) && prng.below(3) > 0) {
        sent.retire(change);
        assert(change.sequence === 0, 'what is answered has no number');
        open.splice(place, 1);
      }
      if (step % 10 > 0) continue;
      const oldest = open.length === 0 ? newest + 1 : Math.min(...open.map((each) => each.sequence));
      assert(sent.oldest === oldest && sent.room === newest + 1 - oldest < SEQUENCE_WINDOW, `the window at step ${step}`);
    }
    expect(newest).toBeGreaterThan(3 * SEQUENCE_WINDOW);
  });

  test('a change keeps its number, and whoever begins it twice has made a mistake', () => {
    const sent = new SentSequences(1);
    const change = new Change();
    sent.number(change);
    sent.number(change);
    expect(change.sequence).toBe(1);
    const window = new AnsweredWindow(1);
    window.begin(1);
    expect(() => window.begin(1)).toThrow();
    sent.retire(change);
    sent.retire(change);
    expect(sent.oldest).toBe(2);
  });

  test('a handover passes on what was done, to the last number of the window, and only of the same process', () => {
    const windows = new AnsweredWindows();
    const far = windows.of('far', 77);
    far.heard(1_000_000);
    for (const sequence of [1_000_000, 1_000_003, 1_000_000 + SEQUENCE_WINDOW - 1]) {
      far.begin(sequence);
      far.done(sequence);
    }
    far.begin(1_000_001);
    windows.of('näh', 5);
    const told = decodeAnswered(encodeAnswered(windows.toHandOver()));
    const done = [1_000_000, 1_000_003, 1_000_000 + SEQUENCE_WINDOW - 1];
    expect(told).toEqual([{ node: 'far', origin: 77, oldest: 1_000_000, sequences: done }]);
    const next = new AnsweredWindows(told);
    expect(done.every((sequence) => next.isDone('far', 77, sequence))).toBe(true);
    expect(next.isDone('far', 77, 1_000_001)).toBe(false);
    expect(next.isDone('far', 78, 1_000_000)).toBe(false);
    expect(next.of('far', 78).isDone(1_000_000)).toBe(false);
    expect(decodeAnswered(encodeAnswered([]))).toEqual([]);
  });
});

describe('nodes', () => {
  let cluster: Cluster;

  afterEach(() => {
    expect(cluster.internalErrors).toEqual([]);
  });

  async function start() {
    cluster = new Cluster(['a', 'b', 'c']);
    const { id } = cluster.create('v', 8);
    await cluster.until(cluster.node('a').volumes.own(id));
    const [a, b] = [await cluster.until(cluster.node('a').volumes.attach('v')), await cluster.until(cluster.node('b').volumes.attach('v'))];
    // From here on it stays with a, which has a writing client.
    await cluster.until(write(a, 7 * BLOCK_BYTES, 1));
    return { id, a, b };
  }

  test('what was done before its answer was lost is not done again, however often the link goes', async () => {
    const { a, b } = await start();
    cluster.link('a', 'b').slow = [];
    const lost = write(b, 0, 1);
    await cluster.turns(20);
    expect(await cluster.until(read(a, 0))).toBe(1);
    await cluster.until(write(a, 0, 2));
    for (let time = 0; time < 3; time++) {
      cluster.cut('a', 'b');
      cluster.restore('a', 'b');
      cluster.link('a', 'b').slow = [];
      await cluster.turns(20);
    }
    cluster.cut('a', 'b');
    cluster.link('a', 'b').slow = null;
    cluster.restore('a', 'b');
    await cluster.until(lost);
    expect(await cluster.until(read(b, 0))).toBe(2);
    // What comes after is done.
    await cluster.until(write(b, 0, 3));
    expect(await cluster.until(read(a, 0))).toBe(3);
  });

  test('what the owner has never seen is done once the link is back', async () => {
    const { a, b } = await start();
    cluster.link('b', 'a').slow = [];
    const delayed = write(b, 0, 1);
    await cluster.turns(20);
    const frames = cluster.link('b', 'a').slow ?? [];
    cluster.link('b', 'a').slow = null;
    cluster.cut('a', 'b');
    cluster.restore('a', 'b');
    await cluster.until(delayed);
    await cluster.until(write(a, 0, 2));
    // The first attempt arrives in the end, from a connection that is no more.
    for (const frame of frames) frame();
    await cluster.turns(40);
    expect(await cluster.until(read(a, 0))).toBe(2);
  });

  test('a change whose failure was never heard of is tried again', async () => {
    const { a, b } = await start();
    const { store } = cluster.node('a');
    store.faults.noSpace = 1;
    cluster.link('a', 'b').slow = [];
    const written = write(b, BLOCK_BYTES, 1);
    await cluster.turns(20);
    store.faults.noSpace = 0;
    cluster.cut('a', 'b');
    cluster.link('a', 'b').slow = null;
    cluster.restore('a', 'b');
    await cluster.until(written);
    expect(await cluster.until(read(a, BLOCK_BYTES))).toBe(1);
  });

  test('a change that failed may be tried again', async () => {
    const { a, b } = await start();
    const { store } = cluster.node('a');
    store.faults.noSpace = 1;
    await expect(cluster.until(write(b, BLOCK_BYTES, 1))).rejects.toMatchObject({ code: 'no-space' });
    store.faults.noSpace = 0;
    await cluster.until(write(b, BLOCK_BYTES, 2));
    expect(await cluster.until(read(a, BLOCK_BYTES))).toBe(2);
  });

  test('one change without an answer stops the others at the end of the window, and not before', async () => {
    const { b } = await start();
    const link = cluster.link('b', 'a');
    link.maxRequests = 4 * SEQUENCE_WINDOW;
    const { store } = cluster.node('a');
    store.atOnce = 0;
    store.holding = 1;
    const first = write(b, 0, 1);
    await cluster.turns(10);
    let answered = 0;
    const before = link.sent.get(IO) ?? 0;
    const others = Array.from({ length: SEQUENCE_WINDOW + 500 }, () => write(b, BLOCK_BYTES, 2).then(() => answered++));
    await cluster.turns(600);
    for (let turn = 0; turn < 200 && answered < SEQUENCE_WINDOW - 1; turn++) await cluster.turns(100);
    expect(answered).toBe(SEQUENCE_WINDOW - 1);
    expect((link.sent.get(IO) ?? 0) - before).toBe(SEQUENCE_WINDOW - 1);
    store.land();
    await cluster.until(Promise.all([first, ...others]), 120_000);
  });
});
