/** What every store promises to the layers above: each driver runs this suite. */
import { describe, expect, it } from 'vitest';
import { blockStoreClaimContract } from './block-store-claims.ts';
import { blockStoreCollectionContract } from './block-store-collection.ts';
import { blockStoreLogContract } from './block-store-log.ts';
import { blockStoreRandomContract } from './block-store-random.ts';
import {
  done,
  eachTest,
  expectBytes,
  expectCode,
  generationOf,
  joined,
  owner,
  pattern,
  readOf,
  type StoreUnderTest,
  zeros,
} from './store-support.ts';

export interface StorePromises {
  /** True where the store itself refuses a stale owner's changes to objects; a file system cannot. */
  readonly guardsObjects: boolean;
  /** True where nothing is ever left to sync. */
  readonly durableAtOnce?: boolean;
  /** True where the store can say how much it holds; Ceph without a manager cannot. */
  readonly tellsUsage?: boolean;
  /** Fewer where an operation takes milliseconds. */
  readonly randomRuns?: number;
}

const KIB = 1024;
const MIB = 1024 * KIB;
const generation = generationOf(7);

export function blockStoreContract(name: string, open: () => Promise<StoreUnderTest>, promises: StorePromises): void {
  describe(`${name}: objects`, () => objectContract(open, promises));
  describe(`${name}: sharing and order`, () => concurrencyContract(open));
  blockStoreClaimContract(name, open, promises);
  blockStoreLogContract(name, open, promises);
  blockStoreCollectionContract(name, open);
  blockStoreRandomContract(name, open, promises);
}

function objectContract(open: () => Promise<StoreUnderTest>, { tellsUsage = true }: StorePromises): void {
  const at = eachTest(open);

  it('reads zeros wherever nothing was written, beyond the end as well', async () => {
    const object = (await owner(at.store)).object(generation, 3);
    const data = pattern(1, 4 * KIB);
    await done((waiter) => object.create(100 * KIB, data, waiter));
    expectBytes(await readOf(object, 96 * KIB, 12 * KIB), joined(zeros(4 * KIB), data, zeros(4 * KIB)));
    expectBytes(await readOf(object, 0, 300 * KIB), joined(zeros(100 * KIB), data, zeros(196 * KIB)));
    expectBytes(await readOf(object, 3 * MIB, 64 * KIB), zeros(64 * KIB));
    expectBytes(await readOf(object, 2 * MIB, MIB), zeros(MIB));
    expectBytes(await readOf(object, 0, 0), zeros(0));
  });

  it('says not-found for what does not exist, never zeros', async () => {
    const volume = await owner(at.store);
    const object = volume.object(generation, 1);
    await expectCode(readOf(object, 0, 512), 'not-found');
    await expectCode(readOf(at.other.immutableObject(generation, 1), 0, 512), 'not-found');
    await expectCode(
      done((waiter) => object.write(0, pattern(1, 512), waiter)),
      'not-found',
    );
    await expectCode(
      done((waiter) => object.zero(0, 512, waiter)),
      'not-found',
    );
    await done((waiter) => object.remove(waiter));
    expect(await at.store.objectExists({ generation, index: 1 })).toBe(false);
    await done((waiter) => object.create(0, pattern(1, 512), waiter));
    expect(await at.other.objectExists({ generation, index: 1 })).toBe(true);
  });

  it('refuses to create what exists, and leaves it as it was', async () => {
    const volume = await owner(at.store);
    const object = volume.object(generation, 1);
    await done((waiter) => object.create(0, pattern(1, 4 * KIB), waiter));
    await expectCode(
      done((waiter) => object.create(0, pattern(2, 8 * KIB), waiter)),
      'exists',
    );
    await expectCode(
      done((waiter) => volume.object(generation, 1).create(0, pattern(2, 512), waiter)),
      'exists',
    );
    expectBytes(await readOf(object, 0, 8 * KIB), joined(pattern(1, 4 * KIB), zeros(4 * KIB)));
  });

  it('makes a removed name anew without anything of the old', async () => {
    const object = (await owner(at.store)).object(generation, 1);
    await done((waiter) => object.create(0, pattern(1, 256 * KIB), waiter));
    await done((waiter) => object.remove(waiter));
    await expectCode(readOf(object, 0, 512), 'not-found');
    await expectCode(readOf(at.store.immutableObject(generation, 1), 0, 512), 'not-found');
    await done((waiter) => object.create(8 * KIB, pattern(2, 512), waiter));
    expectBytes(await readOf(object, 0, 256 * KIB), joined(zeros(8 * KIB), pattern(2, 512), zeros(247 * KIB + 512)));
  });

  it('writes in place, small and large, aligned or not', async () => {
    const object = (await owner(at.store)).object(generation, 1);
    const expected = zeros(4 * MIB);
    await done((waiter) => object.create(0, pattern(1, 512), waiter));
    expected.set(pattern(1, 512));
    const writes: [offset: number, length: number][] = [
      [4 * KIB, 4 * KIB],
      [MIB, 2 * MIB],
      [MIB + 512, 64 * KIB],
      [65_535, 65_537],
      [4 * MIB - 512, 512],
      [1, 1],
    ];
    for (const [seed, [offset, length]] of writes.entries()) {
      await done((waiter) => object.write(offset, pattern(seed, length), waiter));
      expected.set(pattern(seed, length), offset);
    }
    expectBytes(await readOf(object, 0, 4 * MIB), expected);
    for (let offset = 0; offset < 4 * MIB; offset += 509 * KIB) {
      expectBytes(await readOf(object, offset, 4 * KIB), expected.slice(offset, offset + 4 * KIB));
    }
  });

  it('zeroes ranges within, across and beyond the end', async () => {
    const object = (await owner(at.store)).object(generation, 1);
    const expected = pattern(1, MIB);
    await done((waiter) => object.create(0, expected, waiter));
    const zeroes: [offset: number, length: number][] = [
      [4 * KIB, 4 * KIB],
      [100, 200],
      [512, 0],
      [64 * KIB, 512 * KIB],
      [2 * MIB, MIB],
      [900 * KIB, 3 * MIB],
      [MIB - 1, 1],
    ];
    for (const [offset, length] of zeroes) {
      await done((waiter) => object.zero(offset, length, waiter));
      expected.fill(0, offset, offset + length);
      expectBytes(await readOf(object, 0, MIB), expected);
    }
    await done((waiter) => object.write(MIB, pattern(2, 512), waiter));
    expectBytes(await readOf(object, 0, MIB + 512), joined(expected, pattern(2, 512)));
    await done((waiter) => object.zero(0, 4 * MIB, waiter));
    expectBytes(await readOf(object, 0, MIB + 512), zeros(MIB + 512));
    expect(await at.store.objectExists({ generation, index: 1 })).toBe(true);
  });

  it('keeps nothing of the buffers that it was given', async () => {
    const object = (await owner(at.store)).object(generation, 1);
    const data = pattern(1, 256 * KIB);
    await done((waiter) => object.create(0, data, waiter));
    expectBytes(data, pattern(1, 256 * KIB));
    data.fill(9);
    const small = pattern(2, 512);
    await done((waiter) => object.write(512 * KIB, small, waiter));
    small.fill(9);
    expectBytes(await readOf(object, 0, 256 * KIB), pattern(1, 256 * KIB));
    expectBytes(await readOf(object, 512 * KIB, 512), pattern(2, 512));
    (await readOf(object, 0, 512)).fill(9);
    expectBytes(await readOf(object, 0, 512), pattern(1, 512));
  });

  it('takes views into larger buffers for what they are', async () => {
    const object = (await owner(at.store)).object(generation, 1);
    const large = pattern(1, 16 * KIB);
    await done((waiter) => object.create(0, large.subarray(1000, 5096), waiter));
    const into = new Uint8Array(3 * KIB).fill(0xee);
    await done((waiter) => object.read(0, into.subarray(KIB, 2 * KIB), waiter));
    expectBytes(into.subarray(KIB, 2 * KIB), large.subarray(1000, 1000 + KIB));
    expect(into[KIB - 1]).toBe(0xee);
    expect(into[2 * KIB]).toBe(0xee);
  });

  it('lets others read what is closed to writing', async () => {
    const object = (await owner(at.store)).object(generation, 1);
    await done((waiter) => object.create(4 * KIB, pattern(1, 200 * KIB), waiter));
    object.release();
    const reader = at.other.immutableObject(generation, 1);
    for (let pass = 0; pass < 3; pass++) {
      expectBytes(await readOf(reader, 0, 8 * KIB), joined(zeros(4 * KIB), pattern(1, 4 * KIB)));
      expectBytes(await readOf(reader, 0, 300 * KIB), joined(zeros(4 * KIB), pattern(1, 200 * KIB), zeros(96 * KIB)));
    }
    reader.release();
  });

  it('keeps pages, and says not-found for those that are not there', async () => {
    const volume = await owner(at.store);
    await expectCode(at.store.readPage(generation, 5), 'not-found');
    await volume.writePage(generation, 5, pattern(1, 4 * KIB));
    await volume.writePage(generation, 5, pattern(1, 4 * KIB));
    await volume.writePage(generation, 6, pattern(2, 100));
    const page = await at.other.readPage(generation, 5);
    expectBytes(page, pattern(1, 4 * KIB));
    page.fill(9);
    expectBytes(await at.other.readPage(generation, 5), pattern(1, 4 * KIB));
    expectBytes(await at.other.readPage(generation, 6), pattern(2, 100));
    await expectCode(at.store.readPage(generation, 7), 'not-found');
    await expectCode(at.store.readPage(generationOf(8), 5), 'not-found');
  });

  it('tells its state', async () => {
    const object = (await owner(at.store)).object(generation, 1);
    await done((waiter) => object.create(0, pattern(1, MIB), waiter));
    const status = await at.store.status();
    expect(status.kind).toBe(at.store.kind);
    expect(status.usedBytes).toBeGreaterThanOrEqual(tellsUsage ? MIB : 0);
    expect(status.availableBytes === null || !tellsUsage || status.availableBytes > 0).toBe(true);
  });
}

function concurrencyContract(open: () => Promise<StoreUnderTest>): void {
  const at = eachTest(open);

  it('makes one object of seven first writes at a time', async () => {
    const volume = await owner(at.store);
    for (const [index, length] of [4 * KIB, 256 * KIB].entries()) {
      const object = volume.object(generation, index);
      const outcomes = await Promise.allSettled(
        Array.from({ length: 7 }, (_, seed) => done((waiter) => object.create(0, pattern(seed, length), waiter))),
      );
      const winners = [...outcomes.keys()].filter((seed) => outcomes[seed]?.status === 'fulfilled');
      expect(winners).toHaveLength(1);
      for (const outcome of outcomes) if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'exists' });
      expectBytes(await readOf(object, 0, length), pattern(winners[0] as number, length));
    }
  });

  it('zero to the end beside a large write beyond it loses nothing of the write', async () => {
    const object = (await owner(at.store)).object(generation, 1);
    await done((waiter) => object.create(0, pattern(1, MIB), waiter));
    await Promise.all([
      done((waiter) => object.write(2 * MIB, pattern(2, 2 * MIB), waiter)),
      done((waiter) => object.zero(512 * KIB, 512 * KIB, waiter)),
    ]);
    expectBytes(await readOf(object, 0, 4 * MIB), joined(pattern(1, 512 * KIB), zeros(1536 * KIB), pattern(2, 2 * MIB)));
    await Promise.all([
      done((waiter) => object.zero(MIB, 3 * MIB, waiter)),
      done((waiter) => object.write(4 * MIB, pattern(3, 4 * KIB), waiter)),
      done((waiter) => object.write(5 * MIB, pattern(4, 256 * KIB), waiter)),
    ]);
    expectBytes(await readOf(object, 4 * MIB, 4 * KIB), pattern(3, 4 * KIB));
    expectBytes(await readOf(object, 5 * MIB, 256 * KIB), pattern(4, 256 * KIB));
    expectBytes(await readOf(object, MIB, 3 * MIB), zeros(3 * MIB));
  });

  it('serves many operations at a time, on many objects and on one', async () => {
    const volume = await owner(at.store);
    const objects = Array.from({ length: 40 }, (_, index) => volume.object(generation, index));
    await Promise.all(objects.map((object, index) => done((waiter) => object.create(0, pattern(index, 16 * KIB), waiter))));
    for (const object of objects) object.release();
    // New handles, so that each driver has to look them up again while many wait.
    const again = objects.map((_, index) => volume.object(generation, index));
    await Promise.all(
      again.flatMap((object, index) =>
        Array.from({ length: 8 }, (_, part) => {
          const length = part === 7 ? 128 * KIB : 4 * KIB;
          return done((waiter) => object.write((16 + 4 * part) * KIB, pattern(index + part, length), waiter));
        }),
      ),
    );
    await Promise.all(
      again.map(async (object, index) => {
        expectBytes(await readOf(object, 0, 16 * KIB), pattern(index, 16 * KIB));
        for (let part = 0; part < 7; part++) expectBytes(await readOf(object, (16 + 4 * part) * KIB, 4 * KIB), pattern(index + part, 4 * KIB));
        expectBytes(await readOf(object, 44 * KIB, 128 * KIB), pattern(index + 7, 128 * KIB));
      }),
    );
  });

  it('shows through one handle what was written through another', async () => {
    const volume = await owner(at.store);
    const [one, two] = [volume.object(generation, 1), volume.object(generation, 1)];
    await done((waiter) => one.create(0, pattern(1, 512), waiter));
    await done((waiter) => two.write(MIB, pattern(2, 512), waiter));
    expectBytes(await readOf(one, MIB, 512), pattern(2, 512));
    one.release();
    expectBytes(await readOf(two, 0, 512), pattern(1, 512));
    await done((waiter) => two.remove(waiter));
    await expectCode(readOf(volume.object(generation, 1), 0, 512), 'not-found');
  });

  it('ends the use of a volume store, operations under way first', async () => {
    const volume = await owner(at.store);
    const object = volume.object(generation, 1);
    await done((waiter) => object.create(0, pattern(1, 512), waiter));
    const writing = done((waiter) => object.write(0, pattern(2, 2 * MIB), waiter));
    await Promise.all([volume.close(), writing, volume.close()]);
    await expectCode(readOf(object, 0, 512), 'io-error');
    await expectCode(
      done((waiter) => object.write(0, pattern(1, 512), waiter)),
      'io-error',
    );
    await expectCode(volume.sync(), 'io-error');
    object.release();
    expectBytes(await readOf((await owner(at.store, 1, 2)).object(generation, 1), 0, 2 * MIB), pattern(2, 2 * MIB));
  });
}
