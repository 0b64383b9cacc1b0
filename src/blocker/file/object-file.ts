/**
 * One block object as a file. All handles of one owner to one object share it, and with it one file descriptor, what is known of its
 * size, and which of its pages are in the page cache.
 *
 * Small transfers are synchronous where they cannot wait for the disk: reads of pages that are known to be cached, and writes. They
 * allocate nothing. All else goes through libuv's pool.
 */
import { constants, fstatSync, ftruncate, open, openSync, readSync, unlink } from 'node:fs';
import { ArchipelagoError, assert, type Generation } from '../../base/index.ts';
import { objectExists, objectMissing, refuse } from '../answers.ts';
import type { StoreWaiter, WritableBlockObject } from '../store.ts';
import { replaceByCopy } from './claim.ts';
import { Descriptor, type DescriptorHolder } from './descriptors.ts';
import { claimPath, objectPath } from './layout.ts';
import { type ParkedOperation, performParked } from './parked.ts';
import { type FileStoreParts, Slowness } from './parts.ts';
import { PAGE_MASK, Residency } from './residency.ts';
import { readWhole, type TransferDone, writeWhole, writeWholeSync, ZEROS, zeroData } from './transfer.ts';

/** Up to here a transfer may be synchronous. */
const SMALL_BYTES = 65_536;
/** Synchronous reads that take longer have waited for the disk. */
const SLOW_READ_MS = 1;

/** Whoever an object file belongs to: a volume's owner, or the store for what is immutable. */
export interface ObjectOwner {
  readonly parts: FileStoreParts;
  readonly openFlags: number;
  /** Null for one that claims nothing. */
  readonly logDirectory: string | null;
  /** Set once the owner may not go on; every later call is answered with it. */
  readonly failure: ArchipelagoError | null;
  /** Makes the directory that is to hold the objects of a generation. */
  prepareGeneration(generation: Generation): void;
  /**
   * Tells `stale-epoch` when a later owner has taken over by now, null when none has. Synchronous: a look at a few entries of a directory, which
   * the takeover has read.
   */
  supersededNow(): ArchipelagoError | null;
  created(file: ObjectFile): void;
  /** Its name leads to a new file. */
  claimed(file: ObjectFile): void;
  changed(file: ObjectFile): void;
  removed(file: ObjectFile): void;
  operationStarted(): void;
  operationEnded(): void;
  /** No handle is left and no descriptor open. */
  unused(file: ObjectFile): void;
}

export class ObjectFile implements WritableBlockObject, DescriptorHolder {
  readonly generation: Generation;
  readonly index: number;
  readonly owner: ObjectOwner;
  recentlyUsed = false;
  /** True while the owner counts it among what is to be synced. */
  dirty = false;
  handles = 0;
  private readonly parts: FileStoreParts;
  private readonly residency = new Residency();
  private readonly slowReads = new Slowness(SLOW_READ_MS, 32);
  private descriptor: Descriptor | null = null;
  /**
   * Where the file ends, known while the descriptor is open. It grows when a write *starts*, so that no truncation can cut off a write
   * that is under way beyond the range that it zeroes (test: 'zero to the end beside a large write').
   */
  private size = 0;
  /** Closed while the file is being opened, truncated, claimed or removed; operations park meanwhile. Their number is the caller's to bound. */
  private gated = false;
  /** Reads and changes under way on the pool. */
  private transfers = 0;
  /** A claim that waits for their end. */
  private whenQuiet: (() => void) | null = null;
  private parked: ParkedOperation[] = [];

  constructor(owner: ObjectOwner, generation: Generation, index: number) {
    this.owner = owner;
    this.parts = owner.parts;
    this.generation = generation;
    this.index = index;
  }

  get isBusy(): boolean {
    return this.gated || (this.descriptor !== null && this.descriptor.users > 0);
  }

  get isHeld(): boolean {
    return this.handles > 0;
  }

  get isUnused(): boolean {
    return this.handles === 0 && this.descriptor === null && !this.gated;
  }

  get path(): string {
    return objectPath(this.parts.directory, this.generation, this.index);
  }

  /** The descriptor stays open for the next handle, until the cache wants its place. */
  release(): void {
    assert(this.handles > 0, 'a handle is released once');
    this.handles--;
    if (this.isUnused) this.owner.unused(this);
  }

  evict(): void {
    this.descriptor?.retire();
    this.descriptor = null;
    if (this.isUnused) this.owner.unused(this);
  }

  /** Gives the descriptor up at once, whatever the cache thinks. */
  detach(): void {
    this.parts.descriptors.delete(this);
    this.evict();
  }

  read(offset: number, into: Uint8Array, waiter: StoreWaiter): boolean {
    const descriptor = this.descriptor;
    if (descriptor === null || this.gated || this.owner.failure !== null) return this.park('read', offset, into.byteLength, into, waiter);
    this.recentlyUsed = true;
    const length = into.byteLength;
    const present = Math.min(length, this.size - offset);
    if (present <= 0) {
      into.fill(0);
      return true;
    }
    if (present > SMALL_BYTES || !this.residency.covers(offset, present)) return this.readLater(descriptor, offset, into, present, waiter);
    const beganMs = this.parts.clock.nowMs();
    let count: number;
    try {
      count = readSync(descriptor.fd, into, 0, present, offset);
    } catch (error) {
      return refuse(waiter, this.failed('reading', error));
    }
    if (this.slowReads.isVerdict(this.parts.clock.nowMs() - beganMs)) this.residency.clear();
    if (count < present) return this.readLater(descriptor, offset, into, present, waiter);
    if (present < length) into.fill(0, present);
    return true;
  }

  write(offset: number, data: Uint8Array, waiter: StoreWaiter): boolean {
    const descriptor = this.descriptor;
    if (descriptor === null || this.gated || this.owner.failure !== null) return this.park('write', offset, data.byteLength, data, waiter);
    return this.put(descriptor, offset, data, data.byteLength, waiter);
  }

  zero(offset: number, length: number, waiter: StoreWaiter): boolean {
    const descriptor = this.descriptor;
    if (descriptor === null || this.gated || this.owner.failure !== null) return this.park('zero', offset, length, ZEROS, waiter);
    this.recentlyUsed = true;
    if (offset >= this.size || length === 0) return true;
    if (offset + length >= this.size) return this.truncate(descriptor, offset, waiter);
    zeroData(descriptor.fd, offset, offset + length, this.later(descriptor, 'zeroing', offset, length, waiter));
    return false;
  }

  create(offset: number, data: Uint8Array, waiter: StoreWaiter): boolean {
    if (this.gated || this.owner.failure !== null) return this.park('create', offset, data.byteLength, data, waiter);
    if (this.descriptor !== null) return refuse(waiter, objectExists(this.generation, this.index));
    let fd: number;
    try {
      fd = this.openNew();
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      return refuse(waiter, code === 'EEXIST' ? objectExists(this.generation, this.index) : this.failed('creating', error));
    }
    const descriptor = new Descriptor(fd, this.parts.log);
    this.size = 0;
    this.residency.clear();
    this.descriptor = descriptor;
    this.owner.created(this);
    this.parts.descriptors.add(this);
    const isDone = this.put(descriptor, offset, data, data.byteLength, waiter);
    // Only use after the first says that it will be used again.
    this.recentlyUsed = false;
    return isDone;
  }

  remove(waiter: StoreWaiter): boolean {
    if (this.gated || this.owner.failure !== null) return this.park('remove', 0, 0, ZEROS, waiter);
    const stale = this.owner.supersededNow();
    if (stale !== null) return refuse(waiter, stale);
    this.gated = true;
    this.owner.operationStarted();
    this.detach();
    unlink(this.path, (error) => {
      const gone = error === null || error.code === 'ENOENT';
      if (gone) this.owner.removed(this);
      this.finish(waiter, gone ? null : this.failed('removing', error));
    });
    return false;
  }

  claim(waiter: StoreWaiter): boolean {
    if (this.gated || this.owner.failure !== null) return this.park('claim', 0, 0, ZEROS, waiter);
    this.gated = true;
    this.owner.operationStarted();
    // What this owner has under way would else land in the file that is being replaced, behind the copy.
    if (this.transfers === 0) void this.replace(waiter);
    else this.whenQuiet = () => void this.replace(waiter);
    return false;
  }

  private async replace(waiter: StoreWaiter): Promise<void> {
    const { logDirectory } = this.owner;
    assert(logDirectory !== null, 'what is immutable is not claimed');
    try {
      const { fd, sizeBytes } = await replaceByCopy(this.parts, this.path, claimPath(logDirectory, this.generation, this.index));
      this.detach();
      this.size = sizeBytes;
      this.residency.clear();
      this.descriptor = new Descriptor(fd, this.parts.log);
      this.parts.descriptors.add(this);
      this.owner.claimed(this);
      this.finish(waiter, null);
    } catch (error) {
      // A later owner may have ended our claims, or removed our log.
      this.finish(waiter, this.owner.supersededNow() ?? this.claimFailed(error));
    }
  }

  private claimFailed(error: unknown): ArchipelagoError {
    const { code, path } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' && path === this.path ? objectMissing(this.generation, this.index) : this.failed('claiming', error);
  }

  /** Makes what completed writes have left durable. An object that is gone needs nothing. */
  async makeDurable(): Promise<void> {
    const descriptor = this.descriptor;
    if (descriptor !== null) {
      descriptor.users++;
      try {
        await this.parts.durability.data(descriptor.fd, this.path);
      } finally {
        descriptor.leave();
      }
      return;
    }
    await syncByName(this.parts, this.path);
  }

  /** Writes the first `length` bytes of `data`, synchronously where that will not wait. */
  private put(descriptor: Descriptor, offset: number, data: Uint8Array, length: number, waiter: StoreWaiter): boolean {
    this.recentlyUsed = true;
    const end = offset + length;
    const beganMs = this.parts.clock.nowMs();
    // A part of a page that is on the disk but not in memory is read first.
    const fills = ((offset | length) & PAGE_MASK) !== 0 && offset < this.size && !this.residency.covers(offset, length);
    if (offset > this.size) this.residency.markHole(this.size, offset);
    if (end > this.size) this.size = end;
    if (length > SMALL_BYTES || fills || this.parts.pace.mayBlock(beganMs)) {
      const whole = length === data.byteLength ? data : data.subarray(0, length);
      writeWhole(descriptor.fd, whole, offset, this.later(descriptor, 'writing', offset, length, waiter));
      return false;
    }
    try {
      writeWholeSync(descriptor.fd, data, length, offset);
    } catch (error) {
      return refuse(waiter, this.failed('writing', error));
    }
    this.parts.pace.took(beganMs, this.parts.clock.nowMs());
    this.residency.mark(offset, length);
    if (!this.dirty) this.owner.changed(this);
    return true;
  }

  private readLater(descriptor: Descriptor, offset: number, into: Uint8Array, present: number, waiter: StoreWaiter): boolean {
    this.begin(descriptor);
    readWhole(descriptor.fd, into, present, offset, (error) => {
      this.end(descriptor);
      if (error !== null) return waiter.storeDone(this.failed('reading', error));
      into.fill(0, present);
      this.residency.mark(offset, present);
      waiter.storeDone(null);
    });
    return false;
  }

  /** Starts a change on the pool; the result is what ends it. */
  private later(descriptor: Descriptor, what: string, offset: number, length: number, waiter: StoreWaiter): TransferDone {
    this.begin(descriptor);
    return (error) => {
      this.end(descriptor);
      if (error !== null) return waiter.storeDone(this.failed(what, error));
      this.residency.mark(offset, length);
      if (!this.dirty) this.owner.changed(this);
      waiter.storeDone(null);
    };
  }

  /** Zeroes all from `offset` on and gives its space back. Nothing else may extend the file meanwhile, so the gate is closed. */
  private truncate(descriptor: Descriptor, offset: number, waiter: StoreWaiter): boolean {
    this.gated = true;
    this.begin(descriptor);
    ftruncate(descriptor.fd, offset, (error) => {
      this.end(descriptor);
      if (error === null) {
        this.size = offset;
        if (!this.dirty) this.owner.changed(this);
      }
      waiter.storeDone(error === null ? null : this.failed('truncating', error));
      this.openGate();
    });
    return false;
  }

  private begin(descriptor: Descriptor): void {
    descriptor.users++;
    this.transfers++;
    this.owner.operationStarted();
  }

  private end(descriptor: Descriptor): void {
    descriptor.leave();
    this.transfers--;
    this.owner.operationEnded();
    const { whenQuiet } = this;
    if (whenQuiet === null || this.transfers > 0) return;
    this.whenQuiet = null;
    whenQuiet();
  }

  /** Ends what has closed the gate. */
  private finish(waiter: StoreWaiter, error: ArchipelagoError | null): void {
    this.owner.operationEnded();
    waiter.storeDone(error);
    this.openGate();
  }

  private failed(what: string, error: unknown): ArchipelagoError {
    return ArchipelagoError.from(error, `${what} ${this.path}`);
  }

  private openNew(): number {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
    try {
      return openSync(this.path, flags, 0o600);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      this.owner.prepareGeneration(this.generation);
      return openSync(this.path, flags, 0o600);
    }
  }

  /** Keeps an operation until the gate opens, and opens the file if that is what it waits for. */
  private park(kind: ParkedOperation['kind'], offset: number, length: number, bytes: Uint8Array, waiter: StoreWaiter): boolean {
    if (this.owner.failure !== null) return refuse(waiter, this.owner.failure);
    this.owner.operationStarted();
    this.parked.push({ kind, offset, length, bytes, waiter });
    if (!this.gated) this.open();
    return false;
  }

  private open(): void {
    this.gated = true;
    open(this.path, this.owner.openFlags, (openError, fd) => {
      if (openError !== null) return this.openFailed(openError);
      const descriptor = new Descriptor(fd, this.parts.log);
      try {
        // What is open is in memory. A guest may wait behind a takeover for this, and the pool is busy with what that has to sync.
        this.size = fstatSync(fd).size;
      } catch (statError) {
        descriptor.retire();
        return this.openFailed(statError as NodeJS.ErrnoException);
      }
      const stale = this.owner.supersededNow();
      if (stale !== null) {
        descriptor.retire();
        return this.openGate(stale);
      }
      this.descriptor = descriptor;
      this.parts.descriptors.add(this);
      this.openGate();
    });
  }

  private openFailed(error: NodeJS.ErrnoException): void {
    const answer = error.code === 'ENOENT' ? objectMissing(this.generation, this.index) : this.failed('opening', error);
    this.openGate(answer);
  }

  /** Lets the parked operations go on; those that need the open file get `error` where opening it has failed. */
  private openGate(error: ArchipelagoError | null = null): void {
    this.gated = false;
    const parked = this.parked;
    this.parked = [];
    for (const operation of parked) {
      const { kind, waiter } = operation;
      if (error !== null && kind !== 'create' && kind !== 'remove' && kind !== 'claim') waiter.storeDone(error);
      else if (performParked(this, operation)) waiter.storeDone(null);
      this.owner.operationEnded();
    }
    this.recentlyUsed = false;
    if (this.isUnused) this.owner.unused(this);
  }
}

/**
 * Makes durable what completed writes have left of an object whose descriptor was evicted, or belonged to another owner. One that is gone needs
 * nothing. The kernel hands an error of an earlier write-back to whoever opens the file next and asks.
 */
export async function syncByName(parts: FileStoreParts, path: string): Promise<void> {
  const fd = await openToSync(path);
  if (fd === null) return;
  const descriptor = new Descriptor(fd, parts.log);
  descriptor.users++;
  descriptor.retire();
  try {
    await parts.durability.data(fd, path);
  } finally {
    descriptor.leave();
  }
}

/** Null when there is no such file. */
function openToSync(path: string): Promise<number | null> {
  return new Promise((resolve, reject) => {
    open(path, constants.O_RDONLY, (error, fd) => {
      if (error === null) resolve(fd);
      else if (error.code === 'ENOENT') resolve(null);
      else reject(error);
    });
  });
}
