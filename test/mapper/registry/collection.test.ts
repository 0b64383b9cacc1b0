/** Cycles of collection as the registry has them, and which generations of a volume are open, as short stories. */
import { describe, expect, it } from 'vitest';
import { pendingReservation } from '../../../src/mapper/registry/collection.ts';
import { epoch, generation, id, life, NOON, ownedDisk, Story } from './story.ts';

const LATER = '2026-01-31T13:00:00.000Z';

describe('the open generations of a volume', () => {
  it('are those of all owners since the last snapshot or release', () => {
    const story = new Story();
    story.startNode('a');
    story.startNode('b');
    story.create('disk');
    const open = () => story.volume(id(1)).openGenerations;
    expect(open()).toEqual([]);
    story.acquire(id(1), 'a');
    expect(open()).toEqual([1]);
    story.handOver(id(1), 'b');
    expect(open()).toEqual([1]);
    story.startNode('b');
    expect(open()).toEqual([1]);
    story.acquire(id(1), 'a');
    expect(open()).toEqual([1, 2]);
    story.reserve(id(1));
    story.reserve(id(1));
    expect(open()).toEqual([1, 2, 3, 4]);
    story.snapshot(id(1), 'cut');
    expect(open()).toEqual([5]);
    story.release(id(1));
    expect(open()).toEqual([]);
    expect(story.volume(id(2)).openGenerations).toEqual([]);
  });
});

describe('a reservation', () => {
  it('is pending until it is used, given back, replaced, or its owner is gone', () => {
    const pending = (story: Story) => pendingReservation(story.volume(id(1)));
    const story = ownedDisk();
    expect(pending(story)).toBe(3);
    story.reserve(id(1));
    expect(pending(story)).toBe(4);
    story.do({ type: 'cancelReservation', id: id(1), epoch: epoch(1), generation: generation(3) });
    expect(pending(story)).toBe(4);
    story.do({ type: 'cancelReservation', id: id(1), epoch: epoch(1), generation: generation(4) });
    expect(pending(story)).toBeNull();
    story.snapshot(id(1), 'cut');
    expect(pending(story)).toBeNull();
    story.reserve(id(1));
    story.handOver(id(1), 'b');
    expect(pending(story)).toBeNull();
    story.reserve(id(1));
    story.startNode('b');
    expect(pending(story)).toBeNull();
    story.acquire(id(1), 'b');
    expect(pending(story)).toBeNull();
  });
});

describe('a cycle', () => {
  const begin = (story: Story, node: string) => story.do({ type: 'beginCollection', node, livenessEpoch: story.lifeOf(node), startedAt: NOON });
  const finish = (cycle: number, freedObjects: number, error: null | { code: 'io-error'; message: string; hint: null } = null) =>
    ({ type: 'finishCollection', cycle, finishedAt: LATER, freedObjects, freedBytes: freedObjects * 512, error }) as const;

  it('learns what was given out before it, and adds to the totals at its end', () => {
    const story = ownedDisk();
    expect(begin(story, 'a')).toEqual({ cycle: 1, nextGeneration: 4, nextVolumeId: 3 });
    expect(story.registry.collection().running).toEqual({ cycle: 1, node: 'a', livenessEpoch: 1, startedAt: NOON });
    story.do(finish(1, 5));
    begin(story, 'b');
    const error = { code: 'io-error', message: 'broken', hint: null } as const;
    expect(story.do(finish(2, 2, error))).toEqual({
      cycle: 2,
      wanted: 0,
      running: null,
      last: { cycle: 2, node: 'b', startedAt: NOON, finishedAt: LATER, freedObjects: 2, freedBytes: 1024, error },
      totals: { cycles: 2, freedObjects: 7, freedBytes: 3584 },
    });
    expect(story.reload().collection()).toEqual(story.registry.collection());
  });

  it('that another one has followed does not end that one', () => {
    const story = ownedDisk();
    begin(story, 'a');
    begin(story, 'b');
    story.refuse(finish(1, 5), 'stale-epoch');
    story.do(finish(2, 1));
    story.refuse(finish(2, 1), 'stale-epoch');
    expect(story.registry.collection().totals.freedObjects).toBe(1);
  });

  it('is begun only for processes that are there', () => {
    const story = ownedDisk();
    story.refuse({ type: 'beginCollection', node: 'a', livenessEpoch: life(7), startedAt: NOON }, 'stale-epoch');
    story.refuse({ type: 'beginCollection', node: 'x', livenessEpoch: life(1), startedAt: NOON }, 'stale-epoch');
    story.refuse({ type: 'beginCollection', node: 'a', livenessEpoch: life(1), startedAt: 'today' }, 'invalid-argument');
  });

  it('is wanted after a removal or a request, until the next one is begun', () => {
    const story = ownedDisk();
    const collection = () => story.registry.collection();
    expect(story.do({ type: 'requestCollection' })).toBe(1);
    begin(story, 'a');
    expect(collection()).toMatchObject({ cycle: 1, wanted: 1 });
    // The one that runs may have read the registry before.
    story.do({ type: 'remove', id: id(2), epoch: epoch(0) });
    expect(collection()).toMatchObject({ cycle: 1, wanted: 2 });
    expect(story.do({ type: 'requestCollection' })).toBe(2);
    story.create('half', { importer: { node: 'b', livenessEpoch: life(1) } });
    begin(story, 'a');
    story.startNode('b');
    expect(collection()).toMatchObject({ cycle: 2, wanted: 3 });
  });
});
