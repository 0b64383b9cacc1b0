/**
 * Random work on a volume, and a power failure at each moment at which something is about to become durable. What had been synced by
 * then has to be there afterwards: objects, pages, journal, header. The disk is a model that keeps only what was synced.
 */
import { existsSync, mkdtempSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Prng } from '../../src/base/index.ts';
import type { BlockStore, VolumeStore } from '../../src/blocker/index.ts';
import { done, epochOf, expectBytes, generationOf, pattern, readOf, volumeId } from '../contract/store-support.ts';
import { ModelDisk } from './model-disk.ts';
import { openFiles, removeDirectory } from './support.ts';

const STEPS = 40;
const OBJECT_BYTES = 20_000;
const MEMORY_DISK = '/dev/shm';

/** What must have survived. Objects are left out once they are changed again: of those, each sector may be old or new. */
interface Promised {
  objects: Map<string, Uint8Array>;
  pages: Map<number, Uint8Array>;
  /** Of each segment, the bytes that must be its beginning. */
  journal: Map<number, Uint8Array>;
  /** One of these. */
  headers: (Uint8Array | null)[];
}

const copyOf = ({ objects, pages, journal, headers }: Promised): Promised => ({
  objects: new Map(objects),
  pages: new Map(pages),
  journal: new Map(journal),
  headers: [...headers],
});

let root: string;
beforeEach(() => {
  expect(existsSync(MEMORY_DISK), `${MEMORY_DISK} is needed: a file system that does not use inode numbers again`).toBe(true);
  root = mkdtempSync(`${MEMORY_DISK}/archipelago-power-`);
});
afterEach(() => removeDirectory(root));

for (let seed = 1; seed <= 12; seed++) {
  it(`loses nothing that was synced, whenever the power fails (seed ${seed})`, async () => {
    const disk = new ModelDisk(`${root}/disk`);
    const failures: { image: string; promised: Promised; epoch: number }[] = [];
    const work = new Work(new Prng(seed));
    disk.beforeCall = (call) => {
      // All moments of the beginning, and some of the rest.
      if (call > 12 && (call * 7 + seed) % 5 !== 0) return;
      const image = `${root}/image-${call}`;
      disk.restore(image);
      failures.push({ image, promised: copyOf(work.promised), epoch: work.epoch });
    };
    await work.run(await openFiles(`${root}/disk`, { durability: disk, bootId: 'before', maxDescriptors: 3 }));
    expect(failures.length).toBeGreaterThan(15);
    for (const { image, promised, epoch } of failures) await verify(image, promised, epoch);
  });
}

async function verify(image: string, promised: Promised, epoch: number): Promise<void> {
  const store = await openFiles(image, { bootId: 'after' });
  const { header, segments } = await store.takeOver(volumeId(1), epochOf(epoch + 1), false);
  const hex = (bytes: Uint8Array | null | undefined) => (bytes ? Buffer.from(bytes).toString('hex') : 'none');
  expect(promised.headers.map(hex), image).toContain(hex(header));
  for (const [number, bytes] of promised.journal) {
    const found = segments.find((segment) => segment.number === number)?.bytes;
    expect(hex(found).startsWith(hex(bytes)), `${image}: segment ${number}: ${hex(found)} should begin with ${hex(bytes)}`).toBe(true);
  }
  for (const [sequence, bytes] of promised.pages) expectBytes(await store.readPage(generationOf(1), sequence), bytes);
  for (const [name, bytes] of promised.objects) {
    const [generation, index] = name.split('/').map(Number) as [number, number];
    expectBytes(await readOf(store.immutableObject(generationOf(generation), index), 0, OBJECT_BYTES), bytes);
  }
  await store.close();
}

class Work {
  epoch = 1;
  promised: Promised = { objects: new Map(), pages: new Map(), journal: new Map(), headers: [null] };
  private readonly prng: Prng;
  private readonly objects = new Map<string, Uint8Array>();
  private readonly pages = new Map<number, Uint8Array>();
  private readonly journal = new Map<number, Uint8Array>();
  private segment = 1;

  constructor(prng: Prng) {
    this.prng = prng;
  }

  async run(store: BlockStore): Promise<void> {
    let { store: volume } = await store.takeOver(volumeId(1), epochOf(this.epoch), false);
    for (let step = 0; step < STEPS; step++) {
      const choice = this.prng.below(20);
      if (choice < 9) await this.changeObject(volume);
      else if (choice < 11) await this.writePage(volume);
      else if (choice < 14) await this.append(volume);
      else if (choice < 15) await this.writeHeader(volume);
      else if (choice < 17) await this.sync(volume);
      else if (choice < 18) await this.syncJournal(volume);
      else volume = await this.changeOwner(store, volume);
    }
    await this.sync(volume);
    await store.close();
  }

  private async changeObject(volume: VolumeStore): Promise<void> {
    const [generation, index] = [1 + this.prng.below(3), this.prng.below(3)];
    const name = `${generation}/${index}`;
    this.promised.objects.delete(name);
    const object = volume.object(generationOf(generation), index);
    const offset = this.prng.below(OBJECT_BYTES - 5000);
    const data = pattern(this.prng.below(256), 1 + this.prng.below(5000));
    const before = this.objects.get(name);
    const after = before?.slice() ?? new Uint8Array(OBJECT_BYTES);
    if (before === undefined) {
      await done((waiter) => object.create(offset, data, waiter));
      after.set(data, offset);
    } else if (this.prng.chance(0.15)) {
      await done((waiter) => object.remove(waiter));
      this.objects.delete(name);
      object.release();
      return;
    } else if (this.prng.chance(0.3)) {
      await done((waiter) => object.zero(offset, data.byteLength * 4, waiter));
      after.fill(0, offset, offset + data.byteLength * 4);
    } else {
      await done((waiter) => object.write(offset, data, waiter));
      after.set(data, offset);
    }
    this.objects.set(name, after);
    object.release();
  }

  private async writePage(volume: VolumeStore): Promise<void> {
    const [sequence, bytes] = [this.pages.size, pattern(this.pages.size, 300)];
    await volume.writePage(generationOf(1), sequence, bytes);
    this.pages.set(sequence, bytes);
  }

  private async append(volume: VolumeStore): Promise<void> {
    if (this.prng.chance(0.3)) this.segment++;
    const before = this.journal.get(this.segment) ?? new Uint8Array(0);
    const record = pattern(this.prng.below(256), 1 + this.prng.below(40));
    await done((waiter) => volume.appendJournal(this.segment, before.byteLength, record, waiter));
    this.journal.set(this.segment, Buffer.concat([before, record]));
  }

  private async writeHeader(volume: VolumeStore): Promise<void> {
    const header = pattern(this.prng.below(256), 20);
    this.promised.headers.push(header);
    await volume.writeHeader(header);
    this.promised.headers = [header];
    if (!this.prng.chance(0.5)) return;
    for (const number of this.journal.keys()) {
      if (number >= this.segment) continue;
      this.journal.delete(number);
      this.promised.journal.delete(number);
    }
    await volume.dropSegments(this.segment);
  }

  private async sync(volume: VolumeStore): Promise<void> {
    const [objects, pages, journal] = [new Map(this.objects), new Map(this.pages), new Map(this.journal)];
    await volume.sync();
    this.promised = { objects, pages, journal, headers: this.promised.headers };
  }

  private async syncJournal(volume: VolumeStore): Promise<void> {
    const journal = new Map(this.journal);
    await volume.syncJournal();
    this.promised.journal = journal;
  }

  private async changeOwner(store: BlockStore, volume: VolumeStore): Promise<VolumeStore> {
    const clean = this.prng.chance(0.5);
    const left = volume.unsynced();
    if (this.prng.chance(0.5)) await volume.close();
    this.epoch++;
    const next = (await store.takeOver(volumeId(1), epochOf(this.epoch), clean)).store;
    if (clean) next.adoptUnsynced(left);
    return next;
  }
}
