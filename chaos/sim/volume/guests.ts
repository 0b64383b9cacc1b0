/** Guests of a world: random I/O on a volume, with the twin told of all of it, and questions where there is data. */
import type { ArchipelagoError } from '../../../src/base/index.ts';
import { IO_FLUSH, IO_READ, IO_WRITE, IO_ZERO, type IoKind } from '../../../src/volume/device.ts';
import type { ServedVolume } from '../../../src/volume/served-volume.ts';
import { checkExtents, type ToldVolume } from '../../checkers/extents-are-true.ts';
import { fillSector, SECTOR_BYTES } from '../../checkers/never-torn-nor-foreign.ts';
import { checkFlushFails } from '../../checkers/no-flush-after-failure.ts';
import { checkFound } from '../../checkers/no-live-object-freed.ts';
import { BLOCK_BYTES, BLOCK_SECTORS, type Disk, MAX_IN_FLIGHT, SIZE_BYTES, SUB_BLOCK_SECTORS, USED_BLOCKS, WorldIo } from './setting.ts';
import type { PendingChange, Twin } from './twin.ts';
import type { World } from './world.ts';

export function randomIo(world: World, volume: Disk): void {
  const { prng } = world;
  if (!volume.served?.admits || volume.inFlight >= MAX_IN_FLIGHT) return;
  const lot = prng.below(100);
  const kind: IoKind = lot < 35 ? IO_READ : lot < 80 ? IO_WRITE : lot < 91 ? IO_ZERO : IO_FLUSH;
  if (kind === IO_FLUSH) submit(world, volume, kind, 0, 0, false);
  else {
    const [first, count] = randomRange(world);
    submit(world, volume, kind, first, count, kind !== IO_READ && prng.chance(0.1));
  }
}

/** In sectors: small ones, whole sub-blocks, whole blocks, and such as reach into the next block. */
export function randomRange(world: World): [number, number] {
  const { prng } = world;
  const block = world.pick(USED_BLOCKS);
  const endSector = SIZE_BYTES / SECTOR_BYTES;
  const blockStart = block * BLOCK_SECTORS;
  const style = prng.below(10);
  let first = blockStart + prng.below(prng.chance(0.5) ? 8 : BLOCK_SECTORS);
  let count = 1 + prng.below(5);
  if (style === 0) [first, count] = [blockStart, BLOCK_SECTORS];
  else if (style === 1 && (block < 2 || block === 700)) [first, count] = [blockStart + BLOCK_SECTORS - 1 - prng.below(20), 2 + prng.below(40)];
  else if (style <= 3) [first, count] = [blockStart + 2 * prng.below(BLOCK_SECTORS / 2), 2 * (1 + prng.below(20))];
  else if (style === 4) count = 1 + prng.below(BLOCK_SECTORS);
  const limit = USED_BLOCKS.includes(block + 1) ? blockStart + 2 * BLOCK_SECTORS : blockStart + BLOCK_SECTORS;
  first = Math.min(first, endSector - 1);
  return [first, Math.min(count, limit - first, endSector - first)];
}

export function submit(world: World, volume: Disk, kind: IoKind, first: number, count: number, fua: boolean): void {
  const { twin, served, map } = volume;
  if (served === null) return;
  const { life } = world;
  const words = new Uint32Array((count * SECTOR_BYTES) / 4);
  const read = kind === IO_READ ? twin.beginRead() : null;
  const start = read?.start ?? twin.now();
  const failed = map?.failed ?? null;
  let change: PendingChange | null = null;
  if (kind === IO_WRITE || kind === IO_ZERO) {
    // Now and then what is written is all zeros.
    const id = kind === IO_ZERO || world.prng.chance(0.03) ? 0 : world.nextWrite++;
    for (let place = 0; place < count; place++) fillSector(words, place, id, first + place);
    change = twin.beginChange(first, count, id);
  } else if (kind === IO_READ) words.fill(0xdead);
  const end = change ? world.begin('write') : kind === IO_FLUSH ? world.begin('flush') : null;
  const io = new WorldIo((error) => {
    // Of a process that has died.
    if (life !== world.life) return;
    end?.();
    volume.inFlight--;
    world.ios++;
    if (change && error === null) world.acknowledgedWrites++;
    try {
      if (change) twin.endChange(change, error === null, error === null && fua);
      else if (error === null && kind === IO_READ) twin.checkRead(first, words, start);
      else if (error === null) twin.endFlush(start);
      checkFlushFails(failed !== null, error === null && (fua || kind === IO_FLUSH));
      if (error !== null) checkFound(error);
      if (error !== null && !['no-space', 'io-error'].includes(error.code)) throw error;
      if (error !== null && !world.options.faults) throw error;
    } catch (violation) {
      world.failure ??= violation;
    } finally {
      if (read) twin.endRead(read);
    }
  });
  io.kind = kind;
  io.offset = first * SECTOR_BYTES;
  io.length = count * SECTOR_BYTES;
  io.data = new Uint8Array(words.buffer);
  io.fua = fua;
  volume.inFlight++;
  served.submit(io);
}

/** What is called a hole reads as zeros; and while nothing changes, what is called data does not. */
export async function lookForData(world: World, volume: Disk): Promise<void> {
  const { served, twin } = volume;
  const { life } = world;
  if (!served?.admits) return;
  const [first, count] = randomRange(world);
  const read = twin.beginRead();
  try {
    const { changes } = twin;
    const quiet = !twin.changing;
    const extents = await served.extents(first * SECTOR_BYTES, count * SECTOR_BYTES, 1 + world.prng.below(8));
    if (life !== world.life) return;
    world.extentsFound += extents.length;
    checkExtents(toldOf(twin, read.start), extents, first, quiet && twin.changes === changes);
  } catch (error) {
    const { code } = error as ArchipelagoError;
    if (code !== 'stale-epoch') world.expected(error, life);
  } finally {
    twin.endRead(read);
  }
}

export async function readBlock(world: World, served: ServedVolume, block: number): Promise<Uint32Array> {
  const length = Math.min(BLOCK_BYTES, SIZE_BYTES - block * BLOCK_BYTES);
  const words = new Uint32Array(length / 4);
  await world.pump(
    new Promise<void>((resolve, reject) => {
      const io = new WorldIo((error) => (error ? reject(error) : resolve()));
      io.offset = block * BLOCK_BYTES;
      io.length = length;
      io.data = new Uint8Array(words.buffer);
      served.submit(io);
    }),
  );
  return words;
}

function toldOf(twin: Twin, start: number): ToldVolume {
  return {
    subBlockSectors: SUB_BLOCK_SECTORS,
    expectZeros: (first, count) => twin.checkRead(first, new Uint32Array((count * SECTOR_BYTES) / 4), start),
    isZero: (first, count) => [...twin.possibleNow(range(first, first + count)).values()].every((ids) => ids.every((id) => id === 0)),
  };
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, place) => from + place);
}
