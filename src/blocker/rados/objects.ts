/** Block objects in RADOS. A handle is no more than the object's name; librados keeps nothing open. */
import { type ArchipelagoError, assert, type Generation } from '../../base/index.ts';
import { objectExists, objectMissing, refuse } from '../answers.ts';
import type { BlockObject, StoreWaiter, WritableBlockObject } from '../store.ts';
import { BLOCK, CREATE_EXCLUSIVE, GUARD, HINT, REMOVE, STAMP, WRITE, ZERO } from './binding.ts';
import type { Operation, OperationTarget, RadosClient } from './client.ts';
import { EXISTS, MISSING, radosError, STALE, staleEpoch } from './errors.ts';
import type { RadosVolumeStore } from './volume-store.ts';

/** A hint for the OSD's allocator: blocks are this long by default, and objects do not grow beyond them. */
const EXPECTED_OBJECT_BYTES = 4 << 20;

const NO_DATA = new Uint8Array(0);

/** What an operation has to do when it is answered. */
const READING = 0;
const CHANGING = 1;
const REMOVING = 2;

export class RadosObject implements WritableBlockObject, OperationTarget {
  readonly generation: Generation;
  readonly index: number;
  private readonly client: RadosClient;
  /** Null for an object that this node only reads. */
  private readonly volume: RadosVolumeStore | null;

  constructor(client: RadosClient, volume: RadosVolumeStore | null, generation: Generation, index: number) {
    this.client = client;
    this.volume = volume;
    this.generation = generation;
    this.index = index;
  }

  release(): void {
    // Nothing is held for it.
  }

  read(offset: number, into: Uint8Array, waiter: StoreWaiter): boolean {
    if (this.volume?.failure != null) return refuse(waiter, this.volume.failure);
    const operation = this.begin(READING, waiter);
    operation.offset = offset;
    // To RADOS a read of nothing is one of the whole object; what is asked here is whether it exists.
    operation.bytes = into.byteLength === 0 ? new Uint8Array(1) : into;
    this.client.submit(operation);
    return false;
  }

  create(offset: number, data: Uint8Array, waiter: StoreWaiter): boolean {
    return this.change(CHANGING, CREATE_EXCLUSIVE | STAMP | HINT | WRITE, offset, data.byteLength, data, waiter);
  }

  write(offset: number, data: Uint8Array, waiter: StoreWaiter): boolean {
    return this.change(CHANGING, GUARD | WRITE, offset, data.byteLength, data, waiter);
  }

  zero(offset: number, length: number, waiter: StoreWaiter): boolean {
    // An OSD that is asked to zero nothing stops answering anyone (Ceph 16). Writing nothing asks the same questions of the object.
    if (length === 0) return this.write(offset, NO_DATA, waiter);
    return this.change(CHANGING, GUARD | ZERO, offset, length, null, waiter);
  }

  remove(waiter: StoreWaiter): boolean {
    return this.change(REMOVING, GUARD | REMOVE, 0, 0, null, waiter);
  }

  claim(waiter: StoreWaiter): boolean {
    return this.change(CHANGING, GUARD | STAMP, 0, 0, null, waiter);
  }

  private change(tag: number, steps: number, offset: number, length: number, data: Uint8Array | null, waiter: StoreWaiter): false {
    const { volume } = this;
    assert(volume !== null, 'an object is changed through its owner');
    if (volume.failure !== null) return refuse(waiter, volume.failure);
    const operation = this.begin(tag, waiter);
    operation.steps = steps;
    operation.epoch = volume.epoch;
    operation.offset = offset;
    operation.length = length;
    operation.bytes = data;
    operation.expectedBytes = EXPECTED_OBJECT_BYTES;
    this.client.submit(operation);
    return false;
  }

  private begin(tag: number, waiter: StoreWaiter): Operation {
    this.volume?.operationStarted();
    const operation = this.client.take(this);
    operation.tag = tag;
    operation.waiter = waiter;
    operation.kind = BLOCK;
    operation.first = this.generation;
    operation.second = this.index;
    return operation;
  }

  completed(operation: Operation, result: number): void {
    const waiter = operation.waiter as StoreWaiter;
    let error: ArchipelagoError | null = null;
    if (result < 0) error = this.errorOf(operation.tag, result);
    else if (operation.tag === READING && operation.bytes !== null && result < operation.bytes.byteLength) operation.bytes.fill(0, result);
    this.volume?.operationEnded();
    waiter.storeDone(error);
  }

  private errorOf(tag: number, result: number): ArchipelagoError | null {
    const { generation, index, volume } = this;
    if (result === MISSING) return tag === REMOVING ? null : objectMissing(generation, index);
    if (result === EXISTS) return objectExists(generation, index);
    if (result === STALE && volume !== null) return staleEpoch(volume.volume, volume.epoch);
    return radosError(result, `object ${generation}/${index}`);
  }
}

export function immutableObject(client: RadosClient, generation: Generation, index: number): BlockObject {
  return new RadosObject(client, null, generation, index);
}
