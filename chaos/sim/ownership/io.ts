/** I/O on a device, as promises. */
import type { ArchipelagoError } from '../../../src/base/index.ts';
import { type Device, IO_FLUSH, IO_READ, IO_WRITE, type IoKind, VolumeIo } from '../../../src/volume/device.ts';

const NOTHING = new Uint8Array(0);

class PromisedIo extends VolumeIo {
  private readonly finished: (error: ArchipelagoError | null) => void;

  constructor(finished: (error: ArchipelagoError | null) => void) {
    super();
    this.finished = finished;
  }

  override done(error: ArchipelagoError | null): void {
    this.finished(error);
  }
}

/** Submits one I/O. */
export function submit(device: Device, kind: IoKind, offset: number, data: Uint8Array, fua = false): Promise<void> {
  return new Promise((resolve, reject) => {
    const io = new PromisedIo((error) => (error ? reject(error) : resolve()));
    io.kind = kind;
    io.offset = offset;
    io.length = data.byteLength;
    io.data = data;
    io.fua = fua;
    device.submit(io);
  });
}

export function write(device: Device, offset: number, value: number, length = 512): Promise<void> {
  return submit(device, IO_WRITE, offset, new Uint8Array(length).fill(value));
}

export function flush(device: Device): Promise<void> {
  return submit(device, IO_FLUSH, 0, NOTHING);
}

export async function read(device: Device, offset: number, length = 512): Promise<number> {
  const data = new Uint8Array(length).fill(0xee);
  await submit(device, IO_READ, offset, data);
  const [value] = data;
  if (data.some((byte) => byte !== value)) throw new Error('what was read is torn');
  return value as number;
}
