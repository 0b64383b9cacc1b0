/** The merge of layered blocks, step by step: what it copies, when, and in which order with syncs, records, cuts and guests. */
import { expect, test } from 'vitest';
import { ManualClock } from '../../chaos/sim/manual-clock.ts';
import { type Epoch, type Generation, silentLog, type VolumeId } from '../../src/base/index.ts';
import { openMemoryStore } from '../../src/blocker/index.ts';
import { LAYERED, OpenMap, PageCache, type PageRef } from '../../src/mapper/index.ts';
import { IO_READ, IO_WRITE, type IoKind, VolumeIo } from '../../src/volume/device.ts';
import { Lease } from '../../src/volume/lease.ts';
import { ClockedMergePace } from '../../src/volume/merge-pace.ts';
import { ServedVolume } from '../../src/volume/served-volume.ts';

const BLOCK = 4 << 20;
const SUB = 64 << 10;
const BLOCKS = 4;
const STEP = 4 * SUB;

class Io extends VolumeIo {
  private readonly ended: (error: unknown) => void;

  constructor(ended: (error: unknown) => void) {
    super();
    this.ended = ended;
  }

  override done(error: unknown): void {
    this.ended(error);
  }
}

/** A clone of a full volume, with the turns of its merge in the test's hand. */
class Clone {
  readonly store = openMemoryStore();
  readonly log: string[] = [];
  private waits: (() => void)[] = [];
  map!: OpenMap;
  served!: ServedVolume;

  static async make(): Promise<Clone> {
    const clone = new Clone();
    await clone.open(1, null);
    for (let index = 0; index < BLOCKS; index++) await clone.write(index * BLOCK, BLOCK, 1);
    const root = await clone.cut(2);
    await clone.open(3, root);
    return clone;
  }

  private async open(id: number, initialRoot: PageRef | null): Promise<void> {
    const [volume, epoch, blockStore] = [id as VolumeId, 1 as Epoch, this.store];
    const takeover = await blockStore.takeOver(volume, epoch, false);
    const naming = { generation: id as Generation };
    this.map = await OpenMap.open({ blockStore, takeover, volume, epoch, initialRoot, naming, bootId: 'b', cache: new PageCache(), log: silentLog });
    const lease = new Lease(new ManualClock());
    lease.extend(Number.POSITIVE_INFINITY);
    const turn = () => new Promise<void>((resolve) => this.waits.push(resolve));
    this.served = new ServedVolume({
      blockStore,
      pages: this.map.pages,
      owned: { map: this.map, epoch, lease },
      sizeBytes: BLOCKS * BLOCK,
      blockSizeBytes: BLOCK,
      mergePace: { take: turn, pause: turn },
    });
  }

  async cut(generation: number): Promise<PageRef | null> {
    await this.served.stopAdmitting();
    const { root, durable } = await this.map.cut(generation as Generation);
    this.served.forgetBlocks();
    this.served.resumeAdmitting();
    await durable;
    return root;
  }

  /** Lets the merge take some steps; false when it waits for none. */
  async turns(count: number): Promise<boolean> {
    for (let i = 0; i < count; i++) {
      if (this.waits.length === 0) return false;
      this.waits.shift()?.();
      for (let j = 0; j < 5; j++) await new Promise((resolve) => setImmediate(resolve));
    }
    return this.waits.length > 0;
  }

  private submit(kind: IoKind, offset: number, data: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      const io = new Io((error) => (error ? reject(error) : resolve()));
      Object.assign(io, { kind, offset, length: data.byteLength, data });
      this.served.submit(io);
    });
  }

  write(offset: number, length: number, value: number): Promise<void> {
    return this.submit(IO_WRITE, offset, new Uint8Array(length).fill(value));
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const data = new Uint8Array(length).fill(0xee);
    await this.submit(IO_READ, offset, data);
    return data;
  }

  get layered(): number[] {
    return Array.from({ length: BLOCKS }, (_, index) => index).filter((index) => this.map.pages.generationOf(index) === LAYERED);
  }

  /** Of the clone's block, where it differs from the base. */
  async differs(index: number): Promise<number[]> {
    const data = await this.read(index * BLOCK, BLOCK);
    return Array.from({ length: BLOCK / SUB }, (_, sub) => sub).filter((sub) => data.subarray(sub * SUB, (sub + 1) * SUB).some((byte) => byte !== 1));
  }
}

test('a block is merged once it has rested, and not while it grows', async () => {
  const clone = await Clone.make();
  await clone.write(BLOCK, 512, 2);
  // The first walk only notes that the block is new, and so does each one after it that finds it changed.
  for (let walk = 0; walk < 3; walk++) {
    await clone.turns(1);
    await clone.write(BLOCK + (walk + 2) * SUB, 512, 2);
    expect(clone.layered).toEqual([1]);
  }
  await clone.turns(2);
  expect(clone.layered).toEqual([1]);
  while (await clone.turns(1));
  expect(clone.layered).toEqual([]);
  expect(clone.served.mergedBlocks).toBe(1);
  expect(await clone.differs(1)).toEqual([0, 2, 3, 4]);
  expect(await clone.differs(0)).toEqual([]);
  // It is independent now: overwriting in place changes no entry.
  const blocks = clone.map.pages.generationOf(1);
  await clone.write(BLOCK + 50 * SUB, 512, 3);
  expect(clone.map.pages.generationOf(1)).toBe(blocks);
});

test('what the guest writes meanwhile stays, before and after its sub-block was copied', async () => {
  const clone = await Clone.make();
  await clone.write(0, 512, 2);
  await clone.turns(1 + 1 + 4);
  for (const sub of [3, 10, 30, 63]) await clone.write(sub * SUB + 100, 512, 3);
  await clone.turns(2);
  await clone.write(4 * SUB, 3 * SUB, 4);
  while (await clone.turns(1));
  expect(clone.layered).toEqual([]);
  expect(await clone.differs(0)).toEqual([0, 3, 4, 5, 6, 10, 30, 63]);
  expect((await clone.read(63 * SUB + 99, 2)).join()).toBe('1,3');
});

test('copies are synced before the entry is recorded as plain', async () => {
  const clone = await Clone.make();
  await clone.write(0, 512, 2);
  const { store } = clone.map;
  const log: string[] = [];
  const [object, sync, append] = [store.object.bind(store), store.sync.bind(store), store.appendJournal.bind(store)];
  const { write } = Object.getPrototypeOf(object(3 as Generation, 0));
  Object.getPrototypeOf(object(3 as Generation, 0)).write = function (...call: unknown[]) {
    log.push('copy');
    return write.apply(this, call);
  };
  store.sync = async () => {
    await sync();
    log.push('synced');
  };
  store.appendJournal = (...call) => {
    // A record of a plain entry makes the frame longer than a mark alone.
    if (call[2].byteLength > 50) log.push('record');
    return append(...call);
  };
  while (await clone.turns(1));
  expect(clone.layered).toEqual([]);
  const copies = log.lastIndexOf('copy');
  expect(copies).toBeGreaterThan(10);
  expect(log.slice(copies + 1)).toEqual(['synced', 'record']);
});

test('a snapshot ends the merge of what it takes', async () => {
  const clone = await Clone.make();
  await clone.write(0, 512, 2);
  await clone.turns(1 + 1 + 5);
  await clone.cut(9);
  while (await clone.turns(1));
  expect(clone.layered).toEqual([0]);
  expect(await clone.differs(0)).toEqual([0]);
  // Shared again, it is copied whole at its next write: never more than two objects deep.
  await clone.write(BLOCK / 2, 512, 3);
  expect(clone.layered).toEqual([]);
  expect(await clone.differs(0)).toEqual([0, 32]);
});

test('an object that was never written to costs no walk', async () => {
  const clone = await Clone.make();
  await clone.read(0, 512);
  expect(await clone.turns(1)).toBe(false);
});

test('the pace is that of the process, and does not save up', async () => {
  const clock = new ManualClock();
  const pace = new ClockedMergePace(clock, 1000 * STEP);
  const done: number[] = [];
  const take = (name: number) => pace.take(STEP).then(() => done.push(name));
  clock.advance(60_000);
  for (let i = 0; i < 4; i++) void take(i);
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  await settle();
  expect(done).toEqual([0]);
  clock.advance(2);
  await settle();
  expect(done).toEqual([0, 1, 2]);
  clock.advance(2);
  await settle();
  expect(done).toEqual([0, 1, 2, 3]);
});
