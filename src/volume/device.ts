/**
 * What a volume looks like to a front end (NBD today): a device that takes I/O objects. The front end owns and pools these objects, so
 * that a small request costs no promise, closure or allocation.
 */
import { ArchipelagoError, type VolumeId } from '../base/index.ts';

/** Kinds of I/O; plain numbers, because they are compared on every request. */
export const IO_READ = 0;
export const IO_WRITE = 1;
/** Makes everything answered before it durable. `offset` and `length` are 0. */
export const IO_FLUSH = 2;
/** Makes the range read as zeros and frees what it can: TRIM and WRITE_ZEROES. */
export const IO_ZERO = 3;

export type IoKind = typeof IO_READ | typeof IO_WRITE | typeof IO_FLUSH | typeof IO_ZERO;

/** Whether an I/O of this kind changes the volume. */
export function changes(kind: IoKind): boolean {
  return kind === IO_WRITE || kind === IO_ZERO;
}

const NO_DATA = new Uint8Array(0);

/**
 * One I/O. A front end subclasses it, fills it and submits it; from then on it and the bytes behind `data` belong to the device until
 * `done` was called, and after that it may be used again. Fields that only devices use are declared here too, so that queues need no
 * wrapper objects.
 */
export abstract class VolumeIo {
  /** The device may make a zero of a write of nothing but zeros. */
  kind: IoKind = IO_READ;
  /** In bytes; any alignment. */
  offset = 0;
  /** In bytes; equals `data.byteLength` for reads and writes. */
  length = 0;
  /** What to write, or where to put what was read. The device never changes what is to be written. */
  data: Uint8Array = NO_DATA;
  /** Forced unit access: a write or zero is answered only when it is durable. */
  fua = false;

  /** For a read: the front end can do without zeros in `data` and looks at `hole`. */
  takesHoles = false;
  /** Set by the device, in place of filling `data`, where a read that `takesHoles` found nothing allocated in all of its range. */
  hole = false;

  /** For the device that has the I/O: the next one in a queue. */
  next: VolumeIo | null = null;
  /** For the device: one block's part of a larger I/O. */
  part = false;
  /** For the device: the number of a change that was forwarded and has no answer yet; 0 for all else. */
  sequence = 0;

  /** Called exactly once for each submission, perhaps before `submit` returns, in any order among I/Os. Null means success. */
  abstract done(error: ArchipelagoError | null): void;

  /** For the device: its owner has moved before the answer. True when whoever submitted the I/O takes it back to send it again. */
  moved(): boolean {
    return false;
  }

  /**
   * For the device: nobody waits for the answer any more. What it only holds by then it does not begin, but ends with `abandonedError`: a guest
   * whose host was thought dead may have been started at another node meanwhile, and have written over it.
   */
  isAbandoned(): boolean {
    return false;
  }
}

export function abandonedError(): ArchipelagoError {
  return new ArchipelagoError('unavailable', 'the client has gone, and what it had asked for was not begun');
}

/** A run of bytes with one allocation state. */
export interface Extent {
  readonly lengthBytes: number;
  /** False: it reads as zeros. */
  readonly allocated: boolean;
}

/** Extents in one answer, at most. */
export const MAX_EXTENTS = 4096;

/** One attached client's view of a volume or snapshot. */
export interface Device {
  readonly volumeId: VolumeId;
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  readonly readOnly: boolean;
  /** Refuses by `done(error)`: `invalid-argument` past the end, `read-only` for a change of a snapshot. */
  submit(io: VolumeIo): void;
  /**
   * The extents from `offsetBytes` on, exact to sub-blocks, covering at least one byte and at most `lengthBytes`; neighbours differ in their
   * state. At most `maxExtents` of them: whoever needs few says so, because looking costs reads.
   */
  extents(offsetBytes: number, lengthBytes: number, maxExtents?: number): Promise<Extent[]>;
  /** Detaches the client. All its I/O must be done. */
  close(): Promise<void>;
}

/** Where front ends get their devices: by name, on whichever node. */
export interface DeviceDirectory {
  /** Attaches a client. Fails with `not-found`, or `unavailable` when nobody can serve the volume in time. */
  attach(name: string): Promise<Device>;
  /** Name of each volume and snapshot, for NBD's LIST. */
  names(): string[];
}
