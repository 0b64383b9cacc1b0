/** A device in memory: what the NBD gateway is tested and measured against. */
import { ArchipelagoError, type VolumeId } from '../../../src/base/index.ts';
import { type Device, type DeviceDirectory, type Extent, IO_FLUSH, IO_READ, IO_WRITE, IO_ZERO, type VolumeIo } from '../../../src/volume/device.ts';

/** Allocation is kept in pieces of this size. */
const PIECE_BYTES = 64 * 1024;

export interface RamDeviceOptions {
  readonly readOnly?: boolean;
  /** When an I/O is carried out and answered: within `submit`, or whenever this runs the callback it is given. */
  readonly schedule?: (run: () => void) => void;
}

/** The bytes, shared by all clients that are attached to them. */
export class RamVolume {
  readonly bytes: Uint8Array;
  readonly readOnly: boolean;
  readonly schedule: ((run: () => void) => void) | null;
  attached = 0;
  /** I/O that devices have and have not answered. */
  underWay = 0;
  /** All I/O ever submitted. */
  submitted = 0;
  flushes = 0;
  fuas = 0;
  /** Set to let all I/O fail. */
  failure: ArchipelagoError | null = null;
  private readonly allocated: Uint8Array;

  constructor(sizeBytes: number, options: RamDeviceOptions = {}) {
    this.bytes = new Uint8Array(sizeBytes);
    this.allocated = new Uint8Array(Math.ceil(sizeBytes / PIECE_BYTES));
    this.readOnly = options.readOnly ?? false;
    this.schedule = options.schedule ?? null;
  }

  carryOut(io: VolumeIo): ArchipelagoError | null {
    const { kind, offset, length } = io;
    if (this.failure !== null) return this.failure;
    if (io.fua) this.fuas++;
    if (kind === IO_FLUSH) {
      this.flushes++;
      return null;
    }
    if (offset + length > this.bytes.length) return new ArchipelagoError('invalid-argument', 'past the end');
    if (kind === IO_READ) {
      io.data.set(this.bytes.subarray(offset, offset + length));
      return null;
    }
    if (this.readOnly) return new ArchipelagoError('read-only', 'a snapshot');
    if (kind === IO_WRITE) {
      this.bytes.set(io.data, offset);
      this.allocated.fill(1, Math.floor(offset / PIECE_BYTES), Math.ceil((offset + length) / PIECE_BYTES));
    } else if (kind === IO_ZERO) {
      this.bytes.fill(0, offset, offset + length);
      const last = Math.floor((offset + length) / PIECE_BYTES);
      this.allocated.fill(0, Math.ceil(offset / PIECE_BYTES), offset + length === this.bytes.length ? this.allocated.length : last);
    }
    return null;
  }

  extents(offset: number, length: number): Extent[] {
    const found: { lengthBytes: number; allocated: boolean }[] = [];
    let at = offset;
    while (at < offset + length) {
      const piece = Math.floor(at / PIECE_BYTES);
      const end = Math.min((piece + 1) * PIECE_BYTES, offset + length);
      const allocated = this.allocated[piece] === 1;
      const last = found.at(-1);
      if (last?.allocated === allocated) last.lengthBytes += end - at;
      else found.push({ lengthBytes: end - at, allocated });
      at = end;
    }
    return found;
  }
}

class RamDevice implements Device {
  readonly volumeId = 1 as VolumeId;
  readonly blockSizeBytes = 4 * 1024 * 1024;
  closed = false;
  underWay = 0;
  private readonly volume: RamVolume;

  constructor(volume: RamVolume) {
    this.volume = volume;
    volume.attached++;
  }

  get sizeBytes(): number {
    return this.volume.bytes.length;
  }

  get readOnly(): boolean {
    return this.volume.readOnly;
  }

  submit(io: VolumeIo): void {
    if (this.closed) throw new Error('I/O on a closed device');
    this.volume.submitted++;
    if (this.volume.schedule === null) {
      io.done(this.volume.carryOut(io));
      return;
    }
    this.underWay++;
    this.volume.underWay++;
    // Data is looked at late, so that a front end that takes its buffer back too early is caught.
    this.volume.schedule(() => {
      this.underWay--;
      this.volume.underWay--;
      io.done(this.volume.carryOut(io));
    });
  }

  async extents(offsetBytes: number, lengthBytes: number, maxExtents?: number): Promise<Extent[]> {
    if (this.volume.failure !== null) throw this.volume.failure;
    return this.volume.extents(offsetBytes, lengthBytes).slice(0, maxExtents);
  }

  async close(): Promise<void> {
    if (this.closed) throw new Error('closed twice');
    if (this.underWay > 0) throw new Error('closed with I/O under way');
    this.closed = true;
    this.volume.attached--;
  }
}

/** Volumes by name. */
export class RamDirectory implements DeviceDirectory {
  readonly volumes = new Map<string, RamVolume>();

  constructor(volumes: Readonly<Record<string, RamVolume>> = {}) {
    for (const [name, volume] of Object.entries(volumes)) this.volumes.set(name, volume);
  }

  async attach(name: string): Promise<Device> {
    const volume = this.volumes.get(name);
    if (volume === undefined) throw new ArchipelagoError('not-found', `no volume '${name}'`);
    return new RamDevice(volume);
  }

  names(): string[] {
    return [...this.volumes.keys()];
  }
}
