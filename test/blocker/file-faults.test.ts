/** What the file driver does when syncs fail or take long. */
import { readdirSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ManualClock } from '../../chaos/sim/manual-clock.ts';
import { type Durability, systemDurability } from '../../src/blocker/file/durability.ts';
import type { FileVolumeStore } from '../../src/blocker/file/volume-store.ts';
import type { BlockStore, VolumeStore } from '../../src/blocker/index.ts';
import { done, epochOf, expectBytes, expectCode, generationOf, owner, pattern, readOf, volumeId } from '../contract/store-support.ts';
import { freshDirectory, openFiles, removeDirectory } from './support.ts';

const generation = generationOf(7);

/** Syncs that a test fails or holds up, chosen by what they are for. */
class FaultyDurability implements Durability {
  readonly log: string[] = [];
  /** Fails every sync whose description matches. */
  failing: RegExp | null = null;
  /** Holds up every sync whose description matches, until `resume`. */
  holding: RegExp | null = null;
  private held: (() => void)[] = [];

  data(fd: number, path: string): Promise<void> {
    return this.call(`data ${path}`, () => systemDurability.data(fd, path));
  }

  directory(path: string): Promise<void> {
    return this.call(`directory ${path}`, () => systemDurability.directory(path));
  }

  fileSystem(path: string): Promise<void> {
    return this.call(`file system ${path}`, async () => {});
  }

  get heldCount(): number {
    return this.held.length;
  }

  resume(): void {
    this.holding = null;
    for (const go of this.held.splice(0)) go();
  }

  private async call(what: string, sync: () => Promise<void>): Promise<void> {
    this.log.push(what);
    if (this.holding?.test(what)) await new Promise<void>((resolve) => this.held.push(resolve));
    if (this.failing?.test(what)) throw Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' });
    await sync();
  }
}

let directory: string;
let durability: FaultyDurability;
let store: BlockStore;

beforeEach(async () => {
  directory = freshDirectory();
  durability = new FaultyDurability();
  store = await openFiles(directory, { durability });
});

afterEach(async () => {
  durability.resume();
  durability.failing = null;
  await store.close();
  removeDirectory(directory);
});

async function written(volume: VolumeStore, index: number): Promise<void> {
  await done((waiter) => volume.object(generation, index).create(0, pattern(index, 512), waiter));
}

async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** Waits for a state that other turns bring about. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turns(1);
}

it('a volume is removed only when its takeover has settled, which would still put files into its directory', async () => {
  durability.holding = /directory .*volumes\/\w+\/\w+$/;
  const volume = (await owner(store)) as FileVolumeStore;
  await until(() => durability.heldCount === 1);
  const removal = store.removeLog(volumeId(1));
  await turns(100);
  expect(readdirSync(`${directory}/volumes`)).toHaveLength(1);
  durability.resume();
  await removal;
  expect(readdirSync(`${directory}/volumes`)).toEqual([]);
  expect(await volume.settled).toBeNull();
});

describe('a takeover syncs nothing while guests start again', () => {
  let clock: ManualClock;
  let volume: FileVolumeStore;

  beforeEach(async () => {
    await store.close();
    clock = new ManualClock();
    store = await openFiles(directory, { durability, clock });
    durability.log.length = 0;
    volume = (await owner(store)) as FileVolumeStore;
    await turns(100);
    expect(durability.log).toEqual([]);
  });

  it('but soon after', async () => {
    clock.advance(1000);
    expect(await volume.settled).toBeNull();
    expect(durability.log).not.toEqual([]);
  });

  it('unless a flush waits for it', async () => {
    await volume.sync();
    expect(durability.log).not.toEqual([]);
  });

  it('unless its use ends', async () => {
    await volume.close();
    expect(await volume.settled).toBeNull();
  });
});

describe('a failed sync is fatal for the volume store', () => {
  const cases: [what: string, failing: RegExp, provoke: (volume: VolumeStore) => Promise<unknown>][] = [
    ['of an object', /data .*blocks/, (volume) => volume.sync()],
    ['of the directory of a generation', /directory .*blocks\/\w+$/, (volume) => volume.sync()],
    ['of the directory of generations', /directory .*blocks$/, (volume) => volume.sync()],
    ['of a page', /data .*pages/, (volume) => volume.sync()],
    ['of the journal', /data .*journal/, (volume) => volume.sync()],
    ['of the journal alone', /data .*journal/, (volume) => volume.syncJournal()],
    ['of a new header', /data .*header/, (volume) => volume.writeHeader(pattern(1, 10))],
    ['of the entry of a header', /directory .*volumes\/\w+\/\w+$/, (volume) => volume.writeHeader(pattern(1, 10))],
  ];
  for (const [what, failing, provoke] of cases) {
    it(what, async () => {
      const volume = await owner(store);
      await written(volume, 1);
      await volume.writePage(generation, 1, pattern(1, 100));
      await done((waiter) => volume.appendJournal(1, 0, pattern(1, 10), waiter));
      // Past the settling of the new log, which syncs some of the same.
      await until(() => durability.log.filter((line) => line.endsWith('/volumes')).length >= 1);
      await turns(20);
      durability.failing = failing;
      await expectCode(provoke(volume), 'io-error');
      durability.failing = null;
      const synced = durability.log.length;
      // It is not asked again: the kernel would say that all is well.
      await expectCode(volume.sync(), 'io-error');
      await expectCode(volume.syncJournal(), 'io-error');
      await expectCode(volume.writeHeader(pattern(2, 10)), 'io-error');
      await expectCode(volume.writePage(generation, 2, pattern(1, 10)), 'io-error');
      await expectCode(readOf(volume.object(generation, 1), 0, 512), 'io-error');
      await expectCode(
        done((waiter) => volume.appendJournal(1, 10, pattern(1, 10), waiter)),
        'io-error',
      );
      for (const start of ['create', 'write'] as const) {
        await expectCode(
          done((waiter) => volume.object(generation, 1)[start](0, pattern(1, 10), waiter)),
          'io-error',
        );
      }
      expect(durability.log).toHaveLength(synced);
      // Other volumes go on, and so does this one under a new epoch.
      await written(await owner(store, 2, 1), 50);
      expectBytes(await readOf((await owner(store, 1, 2)).object(generation, 1), 0, 512), pattern(1, 512));
    });
  }

  it('of what a dead owner left', async () => {
    await written(await owner(store, 1, 1), 1);
    durability.failing = /file system/;
    const volume = await owner(store, 1, 2, false);
    await expectCode(volume.sync(), 'io-error');
    await expectCode(volume.sync(), 'io-error');
  });

  it('of the copy of the log', async () => {
    await written(await owner(store, 1, 1), 1);
    durability.failing = /directory .*volumes/;
    const volume = await owner(store, 1, 2);
    await expectCode(volume.syncJournal(), 'io-error');
    await expectCode(volume.sync(), 'io-error');
  });
});

describe('a sync', () => {
  it('leaves what is written meanwhile to the next, and a call meanwhile waits for that', async () => {
    const volume = await owner(store);
    await written(volume, 1);
    durability.holding = /data .*blocks/;
    const first = volume.sync();
    await until(() => durability.heldCount === 1);
    expect(volume.unsynced()).toEqual([{ generation, index: 1 }]);
    await done((waiter) => volume.object(generation, 1).write(0, pattern(9, 512), waiter));
    const ended: string[] = [];
    const later = [volume.sync(), volume.sync(), volume.sync()].map((sync) => sync.then(() => void ended.push('later')));
    void first.then(() => ended.push('first'));
    durability.resume();
    durability.holding = /data .*blocks/;
    await until(() => durability.heldCount === 1);
    expect(ended).toEqual(['first']);
    expect(volume.unsynced()).toEqual([{ generation, index: 1 }]);
    durability.resume();
    await Promise.all(later);
    // The three shared one round.
    expect(durability.log.filter((line) => /data .*blocks/.test(line))).toHaveLength(2);
    expect(volume.unsynced()).toEqual([]);
  });

  it('of the journal alone covers a record that a sync under way has not seen', async () => {
    const volume = await owner(store);
    await done((waiter) => volume.appendJournal(1, 0, pattern(1, 10), waiter));
    await volume.sync();
    await done((waiter) => volume.appendJournal(1, 10, pattern(1, 10), waiter));
    durability.holding = /data .*journal/;
    const first = volume.sync();
    await until(() => durability.heldCount === 1);
    let isCovered = false;
    const alone = volume.syncJournal().then(() => {
      isCovered = true;
    });
    await turns(20);
    expect(isCovered).toBe(false);
    durability.resume();
    await Promise.all([first, alone]);
  });

  it('goes in order: objects and pages, then their directories; and beside them the journal, then its directory', async () => {
    const volume = await owner(store);
    await volume.sync();
    for (const index of [1, 2, 3]) await written(volume, index);
    await volume.writePage(generation, 1, pattern(1, 100));
    await done((waiter) => volume.appendJournal(1, 0, pattern(1, 10), waiter));
    durability.log.length = 0;
    await volume.sync();
    const order = durability.log.map((line) => /(data|directory) .*?(blocks|pages|volumes)/.exec(line)?.slice(1, 3).join(' '));
    expect(order.filter((call) => call?.endsWith('volumes'))).toEqual(['data volumes', 'directory volumes']);
    expect(order.filter((call) => !call?.endsWith('volumes'))).toEqual([
      'data blocks',
      'data blocks',
      'data blocks',
      'data pages',
      'directory blocks',
      'directory blocks',
      'directory pages',
      'directory pages',
    ]);
    durability.log.length = 0;
    // A directory once for what was added to it, and nothing where nothing was done.
    await done((waiter) => volume.object(generation, 1).write(0, pattern(2, 512), waiter));
    await volume.sync();
    await volume.sync();
    expect(durability.log).toHaveLength(1);
  });

  it('keeps to its bound', async () => {
    const volume = await owner(store);
    await volume.sync();
    for (let index = 0; index < 10; index++) await written(volume, index);
    durability.holding = /data .*blocks/;
    const syncing = volume.sync();
    await until(() => durability.heldCount === 4);
    await turns(20);
    expect(durability.heldCount).toBe(4);
    durability.resume();
    await syncing;
  });

  it('syncs the whole file system once for all volumes of a dead owner, and again only for a later one', async () => {
    const wholes = () => durability.log.filter((line) => line.startsWith('file system')).length;
    for (const volume of [1, 2, 3]) await written(await owner(store, volume, 1), volume);
    expect(wholes()).toBe(0);
    durability.holding = /file system/;
    const volumes = await Promise.all([1, 2, 3].map((volume) => owner(store, volume, 2, false)));
    const syncs = Promise.all(volumes.map((volume) => volume.sync()));
    // Each asks once its log has settled.
    await Promise.all(volumes.map((volume) => (volume as FileVolumeStore).settled));
    await turns(2);
    expect(durability.heldCount).toBe(1);
    durability.resume();
    await syncs;
    // Those that asked after the first had begun share the second.
    expect(wholes()).toBe(2);
    const before = wholes();
    await volumes[0]?.sync();
    await (await owner(store, 1, 3, true)).sync();
    expect(wholes()).toBe(before);
  });

  it('of a later owner covers what an unclean one had not synced before it handed over', async () => {
    await written(await owner(store, 1, 1), 1);
    durability.holding = /file system/;
    const unclean = await owner(store, 1, 2, false);
    await until(() => durability.heldCount === 1);
    await unclean.close();
    const next = await owner(store, 1, 3, true);
    durability.log.length = 0;
    durability.resume();
    await next.sync();
    expect(durability.log.some((line) => line.startsWith('file system'))).toBe(true);
  });

  it('is not owed for what was left under an earlier boot', async () => {
    const first = await owner(store, 1, 1);
    await first.writeHeader(pattern(1, 10));
    await store.close();
    store = await openFiles(directory, { durability, bootId: 'another' });
    const { header, store: volume } = await store.takeOver(volumeId(1), epochOf(2), false);
    expectBytes(header as Uint8Array, pattern(1, 10));
    await volume.sync();
    expect(durability.log.some((line) => line.startsWith('file system'))).toBe(false);
  });
});
