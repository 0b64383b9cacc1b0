/**
 * Which parts of a volume hold data, exact to sub-blocks. What the map has nothing for is a hole; in the blocks that it names, a sub-block is
 * one when it reads as zeros, which is all that a hole promises and needs no record of what was written. Data tells itself by its first
 * bytes, so a full block costs a read of a few of them; only what begins with zeros is read to its end.
 *
 * The reads are the volume's own, in order with all others. The last of them is answered only while the ownership still holds, and that
 * vouches for everything that was found before, errors included.
 */
import { ArchipelagoError, isZero } from '../base/index.ts';
import { END, type PagedTree, SUB_BLOCKS } from '../mapper/index.ts';
import { type Extent, IO_READ, VolumeIo } from './device.ts';

/** Bytes of a sub-block that are looked at first. */
const PROBE_BYTES = 4096;
/** Looked at together; the memory of one call. */
const WINDOW_BYTES = 1 << 20;
/** Bytes in blocks with objects that one call looks through; its caller asks again for the rest. */
const LOOK_BYTES = 128 << 20;

export interface ScannedVolume {
  readonly pages: PagedTree;
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  readonly admits: boolean;
  submit(io: VolumeIo): void;
}

/** Not served here any more, or not now: whoever asked asks again where the volume is. */
function movedAway(): ArchipelagoError {
  return new ArchipelagoError('stale-epoch', 'the volume is not served here now');
}

class Reads {
  private remaining = 0;
  private error: ArchipelagoError | null = null;
  private ended: (() => void) | null = null;

  begin(): void {
    this.remaining++;
  }

  end(error: ArchipelagoError | null): void {
    this.error ??= error;
    if (--this.remaining === 0) this.ended?.();
  }

  /** Resolves when all that has begun has ended. */
  async all(): Promise<void> {
    if (this.remaining > 0) await new Promise<void>((resolve) => (this.ended = resolve));
    if (this.error) throw this.error;
  }
}

class ScanIo extends VolumeIo {
  private readonly reads: Reads;

  constructor(reads: Reads, offset: number, into: Uint8Array) {
    super();
    this.reads = reads;
    this.kind = IO_READ;
    this.offset = offset;
    this.length = into.byteLength;
    this.data = into;
    this.takesHoles = true;
  }

  /** Once read. */
  get zero(): boolean {
    return this.hole || isZero(this.data);
  }

  override done(error: ArchipelagoError | null): void {
    this.reads.end(error);
  }

  override moved(): boolean {
    this.reads.end(movedAway());
    return true;
  }
}

async function read(volume: ScannedVolume, pieces: readonly { offset: number; into: Uint8Array }[]): Promise<ScanIo[]> {
  const reads = new Reads();
  if (!volume.admits) throw movedAway();
  const ios = pieces.map(({ offset, into }) => {
    reads.begin();
    return new ScanIo(reads, offset, into);
  });
  for (const io of ios) volume.submit(io);
  await reads.all();
  return ios;
}

/** Collects runs, joining neighbours of one state. */
class Extents {
  readonly list: { lengthBytes: number; allocated: boolean }[] = [];
  private readonly max: number;

  constructor(max: number) {
    this.max = max;
  }

  /** False when it is one more than are wanted. */
  add(lengthBytes: number, allocated: boolean): boolean {
    const last = this.list.at(-1);
    if (last?.allocated === allocated) last.lengthBytes += lengthBytes;
    else if (this.list.length === this.max) return false;
    else this.list.push({ lengthBytes, allocated });
    return true;
  }
}

/** See `Device.extents`. Rejects with `stale-epoch` when the volume is not served here any more. */
export async function findExtents(volume: ScannedVolume, offsetBytes: number, lengthBytes: number, maxExtents: number): Promise<Extent[]> {
  const found = new Extents(maxExtents);
  let failure: unknown = null;
  try {
    await scan(volume, offsetBytes, Math.min(offsetBytes + lengthBytes, volume.sizeBytes), found);
  } catch (error) {
    // An owner that was paused may miss pages that its successor does without, and that were removed since.
    failure = error;
  }
  await read(volume, [{ offset: offsetBytes, into: new Uint8Array(1) }]);
  if (failure !== null) throw failure;
  return found.list;
}

async function scan(volume: ScannedVolume, offsetBytes: number, end: number, found: Extents): Promise<void> {
  const { blockSizeBytes, pages } = volume;
  let buffer: Uint8Array | null = null;
  let looked = 0;
  for (let at = offsetBytes; at < end && looked < LOOK_BYTES; ) {
    const index = Math.floor(at / blockSizeBytes);
    const next = await pages.nextAllocated(index);
    if (next !== index) {
      const to = next === END ? end : Math.min(end, next * blockSizeBytes);
      if (!found.add(to - at, false)) return;
      at = to;
      continue;
    }
    const to = Math.min(end, (index + 1) * blockSizeBytes, (Math.floor(at / WINDOW_BYTES) + 1) * WINDOW_BYTES);
    buffer ??= new Uint8Array(WINDOW_BYTES);
    if (!(await lookAt(volume, at, buffer.subarray(0, to - at), found))) return;
    looked += to - at;
    at = to;
  }
}

/** Adds what is in one window of a block. False when no more extents are wanted. */
async function lookAt(volume: ScannedVolume, offset: number, window: Uint8Array, found: Extents): Promise<boolean> {
  const grainBytes = Math.min(WINDOW_BYTES, volume.blockSizeBytes / SUB_BLOCKS);
  const grains: { offset: number; bytes: Uint8Array }[] = [];
  for (let at = 0; at < window.byteLength; ) {
    const to = Math.min(window.byteLength, at + grainBytes - ((offset + at) % grainBytes));
    grains.push({ offset: offset + at, bytes: window.subarray(at, to) });
    at = to;
  }
  const probes = await read(
    volume,
    grains.map((grain) => ({ offset: grain.offset, into: grain.bytes.subarray(0, PROBE_BYTES) })),
  );
  const zero = probes.map((probe) => probe.zero);
  const unsure = grains.filter(({ bytes }, place) => zero[place] && bytes.byteLength > PROBE_BYTES);
  const rests = await read(
    volume,
    unsure.map((grain) => ({ offset: grain.offset + PROBE_BYTES, into: grain.bytes.subarray(PROBE_BYTES) })),
  );
  rests.forEach((rest, place) => {
    if (!rest.zero) zero[grains.indexOf(unsure[place] as (typeof grains)[number])] = false;
  });
  return grains.every(({ bytes }, place) => found.add(bytes.byteLength, !zero[place]));
}
