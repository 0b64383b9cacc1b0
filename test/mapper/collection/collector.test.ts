/** What a cycle of collection removes and what it leaves alone: each rule, and the history that it is there for, as a short story. */
import { describe, expect, it } from 'vitest';
import type { Generation, VolumeId } from '../../../src/base/index.ts';
import { NAME_SET_MIN_BYTES } from '../../../src/mapper/core/name-set.ts';
import { CollectionStory } from './story.ts';

/** Volume `disk` with blocks 1, 2, 3 of generation 1, snapshot `base` of it, and block 2 written again under generation 2. */
async function sharedDisk(): Promise<{ story: CollectionStory; disk: VolumeId; base: VolumeId }> {
  const story = new CollectionStory();
  const disk = story.create('disk');
  await story.open(disk);
  await story.write(disk, 1, 2, 3);
  const base = await story.snapshot(disk, 'base');
  await story.write(disk, 2);
  return { story, disk, base };
}

describe('a volume that stays open for long', () => {
  async function folded(...times: number[]): Promise<{ story: CollectionStory; disk: VolumeId }> {
    const story = new CollectionStory();
    const disk = story.create('disk');
    await story.open(disk);
    for (const time of times) {
      await story.write(disk, time);
      await story.map(disk).fold();
    }
    return { story, disk };
  }

  it('loses the pages that its folds have superseded, and no others', async () => {
    const { story, disk } = await folded(1, 2, 3);
    expect(await story.stored('page')).toEqual(['1/1', '1/2', '1/3']);
    await story.collect();
    expect(await story.stored('page')).toEqual(['1/3']);
    // A second leaf, and a root above both: what is not changed stays in the tree.
    await story.write(disk, 70_000);
    await story.map(disk).fold();
    await story.write(disk, 70_001);
    await story.map(disk).fold();
    await story.collect();
    const left = await story.stored('page');
    expect(left).toContain('1/3');
    expect(left).not.toContain('1/4');
    expect(await story.collect()).toBe(0);
    expect(await story.stored()).toEqual(['1/1', '1/2', '1/3', '1/70000', '1/70001']);
  });

  it('keeps the pages of a fold whose header is not written yet', async () => {
    const { story, disk } = await folded(1);
    const { store } = story.map(disk);
    const writeHeader = store.writeHeader.bind(store);
    let go = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      go = resolve;
    });
    store.writeHeader = async (...header) => held.then(() => writeHeader(...header));
    await story.write(disk, 2);
    const fold = story.map(disk).fold();
    while ((await story.stored('page')).length < 2) await new Promise((resolve) => setImmediate(resolve));
    await story.collect();
    expect(await story.stored('page')).toEqual(['1/1', '1/2']);
    go();
    await fold;
    await story.collect();
    expect(await story.stored('page')).toEqual(['1/2']);
  });

  it('keeps what a snapshot has, that of a cut before the log was read too', async () => {
    const { story, disk } = await folded(1, 2);
    const commit = await story.cut(disk, 'base');
    await story.write(disk, 3);
    await story.map(disk).fold();
    story.onLook = async (look) => void (look === 2 && commit());
    await story.collect();
    expect(await story.stored('page')).toEqual(['1/1', '1/2', '2/1']);
    story.onLook = async () => undefined;
    await story.write(disk, 4);
    await story.map(disk).fold();
    await story.collect();
    expect(await story.stored('page')).toEqual(['1/2', '2/2']);
  });

  it('ends a cycle that another one has overtaken, and is damaged where it has not', async () => {
    const { story, disk } = await folded(1);
    const other = story.create('other');
    await story.open(other);
    await story.write(other, 1);
    await story.map(other).fold();
    const { store } = story;
    const readPage = store.readPage.bind(store);
    const beforePageOf = (generation: number, work: () => Promise<void>) => {
      store.readPage = async (...page) => {
        if (page[0] !== generation) return readPage(...page);
        store.readPage = readPage;
        await work();
        await story.collect();
        return readPage(...page);
      };
    };
    beforePageOf(1, async () => {
      await story.write(disk, 2);
      await story.map(disk).fold();
    });
    await expect(story.collect()).rejects.toMatchObject({ code: 'unavailable' });
    beforePageOf(2, async () => story.remove(other));
    await expect(story.collect()).rejects.toMatchObject({ code: 'unavailable' });
    expect(await story.collect()).toBe(0);
    await store.remove('page', [{ generation: story.generation(1), index: 2 }]);
    await expect(story.collect()).rejects.toMatchObject({ code: 'corrupt' });
  });
});

describe('a cycle', () => {
  it('removes what only a removed snapshot had, and nothing else', async () => {
    const { story, disk, base } = await sharedDisk();
    expect(await story.collect()).toBe(0);
    story.remove(base);
    await story.map(disk).fold();
    await story.collect();
    expect(await story.stored()).toEqual(['1/1', '1/3', '2/2']);
    expect(await story.collect()).toBe(0);
  });

  it('removes all of a removed volume, with its log and its pages', async () => {
    const { story, disk, base } = await sharedDisk();
    await story.map(disk).fold();
    story.remove(disk);
    await story.collect();
    expect(await story.stored()).toEqual(['1/1', '1/2', '1/3']);
    story.remove(base);
    await story.collect();
    expect([await story.stored('object'), await story.stored('page')]).toEqual([[], []]);
    expect(await story.store.readLog(disk)).toBeNull();
  });

  it('keeps both objects of a layered block, in the tree and in the journal', async () => {
    const { story, disk, base } = await sharedDisk();
    await story.createObject(disk, 3);
    const entry = { kind: 'layered', index: 3, generation: 2 as Generation, base: 1 as Generation, presenceLow: 1, presenceHigh: 0 } as const;
    await story.record(disk, entry);
    story.remove(base);
    await story.collect();
    await story.map(disk).fold();
    await story.collect();
    expect(await story.stored()).toEqual(['1/1', '1/3', '2/2', '2/3']);
  });

  it('keeps what a clone starts from until the clone has a map of its own', async () => {
    const { story, disk, base } = await sharedDisk();
    const clone = story.clone(base, 'clone');
    story.remove(base);
    story.remove(disk);
    await story.collect();
    expect(await story.stored()).toEqual(['1/1', '1/2', '1/3']);
    await story.open(clone);
    await story.write(clone, 1);
    await story.record(clone, { kind: 'absent', index: 2 });
    await story.collect();
    expect(await story.stored()).toEqual(['1/1', '1/2', '1/3', '3/1']);
    await story.map(clone).fold();
    await story.collect();
    expect(await story.stored()).toEqual(['1/3', '3/1']);
  });

  it('goes over everything in several passes where memory does not suffice', async () => {
    const story = new CollectionStory();
    const disk = story.create('disk');
    await story.open(disk);
    // One container each: far more than fits.
    const places = Array.from({ length: 1000 }, (_, place) => place * 65_536);
    await story.write(disk, ...places);
    const base = await story.snapshot(disk, 'base');
    for (const [place, index] of places.entries()) if (place % 10 === 0) await story.record(disk, { kind: 'absent', index });
    await story.map(disk).fold();
    story.remove(base);
    const collection = story.collection({ memoryBytes: 4 * NAME_SET_MIN_BYTES });
    await collection.run();
    expect(collection.progress.pass).toBeGreaterThan(1);
    expect(collection.seen).toBeGreaterThan(collection.progress.listed);
    expect(await story.stored()).toEqual(
      places
        .filter((_, place) => place % 10 !== 0)
        .map((index) => `1/${index}`)
        .sort(),
    );
  });
});

describe('a cycle leaves alone', () => {
  it('what was made under an open generation and is not recorded yet', async () => {
    const { story, disk } = await sharedDisk();
    await story.createObject(disk, 9);
    expect(await story.collect()).toBe(0);
    expect(await story.stored()).toContain('2/9');
    // Closed, it is an orphan.
    await story.release(disk);
    await story.collect();
    expect(await story.stored()).not.toContain('2/9');
  });

  it('what was made under a generation that was given out after its begin', async () => {
    const { story, disk } = await sharedDisk();
    await story.release(disk);
    // Between the look at the registry and the sweep.
    story.onSweep = async () => {
      await story.open(disk);
      await story.createObject(disk, 9);
      await story.write(disk, 10);
    };
    await story.collect();
    expect(await story.stored()).toEqual(expect.arrayContaining(['3/9', '3/10']));
  });

  it('what only a journal mentions, whether the record counts after a power failure or not', async () => {
    const { story, disk, base } = await sharedDisk();
    await story.write(disk, 7);
    await story.record(disk, { kind: 'absent', index: 7 });
    story.remove(base);
    // As it would be after the end of an ownership, if that closed generations.
    story.shown = (record) => ({ ...record, openGenerations: [] });
    await story.collect();
    expect(await story.stored()).toEqual(['1/1', '1/2', '1/3', '2/2', '2/7']);
  });

  it('what only a snapshot will refer to that is being made', async () => {
    const { story, disk, base } = await sharedDisk();
    story.remove(base);
    await story.record(disk, { kind: 'plain', index: 2, generation: 1 as Generation });
    const commit = await story.cut(disk, 'late');
    // After the cut, and before its log is read, the volume gives up what the snapshot holds.
    for (const index of [1, 2]) await story.record(disk, { kind: 'absent', index });
    await story.map(disk).fold();
    story.onLook = async (look) => {
      if (look === 3) commit();
    };
    await story.collect();
    expect(await story.stored()).toEqual(['1/1', '1/2', '1/3', '2/2']);
  });

  it('nothing for a snapshot that was given up', async () => {
    const { story, disk, base } = await sharedDisk();
    story.remove(base);
    const generation = story.registry.reserve(disk);
    const { durable } = await story.map(disk).cut(generation);
    await durable;
    await story.record(disk, { kind: 'absent', index: 1 });
    await story.map(disk).fold();
    story.onLook = async (look) => {
      if (look === 3) story.registry.do({ type: 'cancelReservation', id: disk, epoch: story.registry.volume(disk).epoch, generation });
    };
    await story.collect();
    expect(await story.stored()).toEqual(['1/3', '2/2']);
  });

  it('what an owner may have copied from the log of the one before, until it has shown its own', async () => {
    const { story, disk, base } = await sharedDisk();
    story.remove(base);
    await story.map(disk).fold();
    // The former owner, only paused, drops a block from its log; the new one had copied it before, and is slow to show its copy.
    story.registry.startNode('a');
    const { record } = story.registry.acquire(disk, 'b');
    const log = await story.store.readLog(disk);
    await story.record(disk, { kind: 'absent', index: 1 });
    await story.map(disk).fold();
    const options = story.collection({ clock: story.clock });
    const readLog = story.store.readLog.bind(story.store);
    let copied = false;
    story.store.readLog = async (id) => (copied && log ? { ...log, epoch: record.epoch } : readLog(id));
    story.onLook = async (look) => {
      if (look === 4) copied = true;
    };
    await options.run();
    expect(await story.stored()).toContain('1/1');
  });

  it('everything, when a map cannot be read', async () => {
    const { story, base } = await sharedDisk();
    const { root } = story.registry.volume(base);
    await story.store.remove('page', [{ generation: root?.generation as Generation, index: root?.sequence as number }]);
    const before = await story.stored();
    await expect(story.collect()).rejects.toMatchObject({ code: 'corrupt', message: expect.stringContaining("snapshot 'base'") });
    expect(await story.stored()).toEqual(before);
    story.remove(base);
  });
});

describe('a cycle waits', () => {
  it('for the owner that has acquired the volume to take its log over', async () => {
    const { story, disk } = await sharedDisk();
    story.registry.startNode('a');
    const { record } = story.registry.acquire(disk, 'b');
    let looked = 0;
    story.onLook = async (look) => {
      looked = look;
      if (look === 5) await story.store.takeOver(disk, record.epoch, false);
    };
    await story.collect();
    expect(looked).toBeGreaterThanOrEqual(5);
  });

  it('not for an owner that died before it could: somebody else takes it over', async () => {
    const { story, disk } = await sharedDisk();
    story.registry.startNode('a');
    story.registry.acquire(disk, 'b');
    story.registry.startNode('b');
    const taken: VolumeId[] = [];
    const takeOver = async (id: VolumeId) => {
      taken.push(id);
      await story.open(id);
    };
    await story.collect({ takeOver });
    expect(taken).toEqual([disk]);
  });
});

describe('a collector that was paused', () => {
  it('does no harm when it goes on with what it has seen, whatever happened since', async () => {
    const { story, disk, base } = await sharedDisk();
    await story.map(disk).fold();
    story.remove(base);
    let wakeUp = (): void => undefined;
    const asleep = new Promise<void>((resolve) => {
      wakeUp = resolve;
    });
    const paused = story.collection();
    story.onSweep = () => asleep;
    const run = paused.run();
    while (paused.progress.phase !== 'sweeping') await new Promise((resolve) => setImmediate(resolve));
    story.onSweep = async () => undefined;
    // Another cycle, another snapshot, a clone of it that outlives it, a change of owner, and new data everywhere.
    await story.write(disk, 1, 8);
    const second = await story.snapshot(disk, 'second');
    const clone = story.clone(second, 'clone');
    await story.open(clone);
    await story.write(clone, 3, 9);
    await story.release(disk);
    await story.open(disk);
    await story.write(disk, 2);
    story.remove(second);
    await story.collect();
    const before = await story.stored();
    wakeUp();
    await run;
    expect(await story.stored()).toEqual(before);
    expect(paused.progress.freedObjects).toBe(0);
  });

  it('stops when it is told to', async () => {
    const { story } = await sharedDisk();
    const collection = story.collection();
    story.onLook = async () => collection.stop();
    await expect(collection.run()).rejects.toMatchObject({ code: 'unavailable' });
  });
});
