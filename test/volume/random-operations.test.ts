/**
 * Random sequences of operations on volumes in a memory store, each answered before the next, against arrays of bytes: at least a million of them.
 * What is under way at the same time, faults and crashes are for the simulator.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ManualClock } from '../../chaos/sim/manual-clock.ts';
import { type ArchipelagoError, type Epoch, type Generation, silentLog, type VolumeId } from '../../src/base/index.ts';
import { openMemoryStore } from '../../src/blocker/index.ts';
import { OpenMap, PageCache, PagedTree, type PageRef } from '../../src/mapper/index.ts';
import { IO_FLUSH, IO_READ, IO_WRITE, IO_ZERO, type IoKind, VolumeIo } from '../../src/volume/device.ts';
import { Lease } from '../../src/volume/lease.ts';
import { ServedVolume } from '../../src/volume/served-volume.ts';

const SECTOR = 512;
const BLOCK_BYTES = 64 * 1024;
const BLOCK_SECTORS = BLOCK_BYTES / SECTOR;
const MAX_SECTORS = 3 * BLOCK_SECTORS;
const MAX_VOLUMES = 3;
const MIN_OPERATIONS = 1_000_000;
const RUNS = 760;

class Io extends VolumeIo {
  ended: ArchipelagoError | null | undefined;
  private answered: (() => void) | null = null;

  override done(error: ArchipelagoError | null): void {
    this.ended = error;
    this.answered?.();
  }

  get whenDone(): Promise<void> {
    return new Promise((resolve) => {
      this.answered = resolve;
    });
  }
}

/** A byte for each sector: what all of it is filled with. */
type Model = Uint8Array;

interface OpenVolume {
  readonly id: VolumeId;
  readonly initialRoot: PageRef | null;
  epoch: number;
  sectors: number;
  map: OpenMap;
  served: ServedVolume;
  readonly model: Model;
}

interface Snapshot {
  readonly root: PageRef | null;
  readonly sectors: number;
  readonly model: Model;
}

class Machine {
  operations = 0;
  private readonly store = openMemoryStore();
  private readonly cache = new PageCache();
  private readonly lease = new Lease(new ManualClock());
  private readonly volumes: OpenVolume[] = [];
  private readonly snapshots: Snapshot[] = [];
  private lastId = 0;
  private lastGeneration = 0;

  constructor() {
    this.lease.extend(Number.POSITIVE_INFINITY);
  }

  /** The bits of `code` say what is done, where and with what. */
  async run(code: number): Promise<void> {
    this.operations++;
    const lot = code % 1000;
    const [place, value] = [(code >>> 10) % MAX_SECTORS, 1 + ((code >>> 20) % 255)];
    const length = lot % 10 === 0 ? BLOCK_SECTORS : 1 + (value % 9);
    if (this.volumes.length === 0 || (lot >= 990 && this.volumes.length < MAX_VOLUMES)) return this.create(value);
    const volume = this.volumes[value % this.volumes.length] as OpenVolume;
    const first = place % volume.sectors;
    const count = Math.min(length, volume.sectors - first);
    if (lot < 450) return this.read(volume.served, volume.model, first, count);
    if (lot < 800) return this.change(volume, IO_WRITE, first, count, value);
    if (lot < 930) return this.change(volume, IO_ZERO, first, count, 0);
    if (lot < 955) return this.io(volume.served, IO_FLUSH, 0, new Uint8Array(0));
    if (lot < 963) return this.snapshot(volume);
    if (lot < 970) return this.resize(volume, 1 + place);
    if (lot < 978) return this.reopen(volume);
    if (lot < 982) return void (await volume.map.fold());
    return lot < 986 ? this.remove(volume) : this.readAll();
  }

  async readAll(): Promise<void> {
    for (const { served, model, sectors } of this.volumes) await this.read(served, model, 0, sectors);
    for (const { root, model, sectors } of this.snapshots) {
      const blockStore = this.store;
      const options = { blockStore, pages: new PagedTree(blockStore, root, this.cache), owned: null, blockSizeBytes: BLOCK_BYTES };
      const served = new ServedVolume({ ...options, sizeBytes: sectors * SECTOR });
      await this.read(served, model, 0, sectors);
      served.forgetBlocks();
    }
  }

  private async io(served: ServedVolume, kind: IoKind, first: number, data: Uint8Array): Promise<void> {
    const io = new Io();
    io.kind = kind;
    io.offset = first * SECTOR;
    io.length = data.byteLength;
    io.data = data;
    served.submit(io);
    if (io.ended === undefined) await io.whenDone;
    if (io.ended) throw io.ended;
  }

  private async read(served: ServedVolume, model: Model, first: number, count: number): Promise<void> {
    const data = new Uint8Array(count * SECTOR).fill(0xee);
    await this.io(served, IO_READ, first, data);
    const expected = new Uint8Array(count * SECTOR);
    for (let sector = 0; sector < count; sector++) expected.fill(model[first + sector] as number, sector * SECTOR, (sector + 1) * SECTOR);
    if (Buffer.compare(data, expected) !== 0) {
      const at = data.findIndex((byte, place) => byte !== expected[place]);
      throw new Error(`sector ${first + Math.floor(at / SECTOR)} shows ${data[at]}, not ${expected[at]}`);
    }
  }

  private async change({ served, model }: OpenVolume, kind: IoKind, first: number, count: number, value: number): Promise<void> {
    await this.io(served, kind, first, new Uint8Array(count * SECTOR).fill(value));
    model.fill(value, first, first + count);
  }

  /** Anew, or from a snapshot. */
  private async create(value: number): Promise<void> {
    const from = value % 3 === 0 ? undefined : this.snapshots[value % Math.max(1, this.snapshots.length)];
    const [id, sectors, model] = [++this.lastId as VolumeId, from?.sectors ?? MAX_SECTORS, from?.model.slice() ?? new Uint8Array(MAX_SECTORS)];
    const initialRoot = from?.root ?? null;
    this.volumes.push({ id, initialRoot, epoch: 1, sectors, model, ...(await this.open(id, 1, initialRoot, sectors)) });
  }

  private async open(
    volume: VolumeId,
    number: number,
    initialRoot: PageRef | null,
    sectors: number,
  ): Promise<{ map: OpenMap; served: ServedVolume }> {
    const { store: blockStore, cache, lease } = this;
    const epoch = number as Epoch;
    const takeover = await blockStore.takeOver(volume, epoch, false);
    const naming = { generation: ++this.lastGeneration as Generation };
    const map = await OpenMap.open({ blockStore, takeover, volume, epoch, initialRoot, naming, bootId: 'b', cache, log: silentLog });
    const sizes = { sizeBytes: sectors * SECTOR, blockSizeBytes: BLOCK_BYTES };
    return { map, served: new ServedVolume({ blockStore, pages: map.pages, owned: { map, epoch, lease }, ...sizes }) };
  }

  private async snapshot({ served, map, model, sectors }: OpenVolume): Promise<void> {
    await served.stopAdmitting();
    const { root, durable } = await map.cut(++this.lastGeneration as Generation);
    served.forgetBlocks();
    served.resumeAdmitting();
    await durable;
    this.snapshots.push({ root, sectors, model: model.slice() });
    if (this.snapshots.length > MAX_VOLUMES) this.snapshots.shift();
  }

  /** What a shrink cuts off is gone for good. */
  private async resize(volume: OpenVolume, sectors: number): Promise<void> {
    const { served, map, model } = volume;
    await served.stopAdmitting();
    if (sectors < volume.sectors) {
      await served.truncate(sectors * SECTOR);
      await map.flush();
      model.fill(0, sectors);
    }
    served.sizeBytes = sectors * SECTOR;
    volume.sectors = sectors;
    served.resumeAdmitting();
  }

  private async close({ served, map }: OpenVolume): Promise<void> {
    await served.stopAdmitting();
    await map.fold();
    await map.drain();
    served.forgetBlocks();
    await map.close();
  }

  private async reopen(volume: OpenVolume): Promise<void> {
    await this.close(volume);
    Object.assign(volume, await this.open(volume.id, ++volume.epoch, volume.initialRoot, volume.sectors));
  }

  private async remove(volume: OpenVolume): Promise<void> {
    await this.close(volume);
    await this.store.removeLog(volume.id);
    this.volumes.splice(this.volumes.indexOf(volume), 1);
  }
}

it('a million random operations show what arrays of bytes would', { timeout: 300_000 }, async () => {
  let operations = 0;
  const codes = fc.uint32Array({ minLength: 1, maxLength: 3000, size: 'max' });
  await fc.assert(
    fc.asyncProperty(codes, async (sequence) => {
      const machine = new Machine();
      for (const code of sequence) await machine.run(code);
      await machine.readAll();
      operations += machine.operations;
    }),
    { numRuns: RUNS, seed: Number(process.env['RANDOM_OPERATIONS_SEED'] ?? 1) },
  );
  expect(operations).toBeGreaterThanOrEqual(MIN_OPERATIONS);
});
