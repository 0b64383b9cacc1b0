/** What the owner of a volume may do in RADOS. Whatever has been answered is durable, on every OSD that keeps it. */
import { type ArchipelagoError, assert, type Epoch, type Generation, type VolumeId } from '../../base/index.ts';
import { refuse, storeClosed, volumeText } from '../answers.ts';
import type { ObjectName, StoreWaiter, UnsyncedWatch, VolumeStore, WritableBlockObject } from '../store.ts';
import { CREATE_EXCLUSIVE, CUT, GUARD, HEADER, JOURNAL, PAGE, REMOVE, SET_SEGMENTS, STAMP, WRITE, WRITE_FULL } from './binding.ts';
import type { Operation, OperationTarget, RadosClient } from './client.ts';
import { EXISTS, MISSING, radosError, STALE, staleEpoch } from './errors.ts';
import { RadosObject } from './objects.ts';
import { encodeList, type StoredLog } from './volume-log.ts';

export class RadosVolumeStore implements VolumeStore, OperationTarget {
  readonly volume: VolumeId;
  readonly epoch: Epoch;
  /** Set once this owner may not go on; every later call is answered with it. */
  failure: ArchipelagoError | null = null;
  private readonly client: RadosClient;
  /** Segments on the list, ascending. */
  private listed: readonly number[];
  /** The change of the list that was begun last. */
  private listing: Promise<void> = Promise.resolve();
  /** Those whose objects are known to exist. */
  private readonly made: Set<number>;
  private underWay = 0;
  private whenIdle: (() => void) | null = null;
  private closing: Promise<void> | null = null;
  private readonly ended: (store: RadosVolumeStore) => void;

  constructor(client: RadosClient, volume: VolumeId, epoch: Epoch, log: StoredLog, ended: (store: RadosVolumeStore) => void) {
    this.client = client;
    this.volume = volume;
    this.epoch = epoch;
    this.listed = [...log.listed];
    this.made = new Set(log.listed);
    this.ended = ended;
  }

  object(generation: Generation, index: number): WritableBlockObject {
    return new RadosObject(this.client, this, generation, index);
  }

  appendJournal(segment: number, position: number, bytes: Uint8Array, waiter: StoreWaiter): boolean {
    if (this.failure !== null) return refuse(waiter, this.failure);
    if (!this.made.has(segment)) {
      this.makeSegment(segment).then(
        () => this.append(segment, position, bytes, waiter),
        (error: unknown) => waiter.storeDone(error as ArchipelagoError),
      );
      return false;
    }
    this.append(segment, position, bytes, waiter);
    return false;
  }

  private append(segment: number, position: number, bytes: Uint8Array, waiter: StoreWaiter): void {
    this.operationStarted();
    const operation = this.client.take(this);
    operation.waiter = waiter;
    operation.kind = JOURNAL;
    operation.first = this.volume;
    operation.second = segment;
    operation.steps = GUARD | CUT | WRITE;
    operation.epoch = this.epoch;
    operation.offset = position;
    operation.bytes = bytes;
    this.client.submit(operation);
  }

  /** An append has ended. */
  completed(operation: Operation, result: number): void {
    const waiter = operation.waiter as StoreWaiter;
    this.operationEnded();
    waiter.storeDone(result < 0 ? this.errorOf(result, 'appending to the journal') : null);
  }

  /** First the list, then the object. */
  private makeSegment(segment: number): Promise<void> {
    return this.during(async () => {
      await this.changeList((listed) => (listed.includes(segment) ? listed : [...listed, segment].sort((a, b) => a - b)));
      await this.mutate(JOURNAL, segment, CREATE_EXCLUSIVE | STAMP, null, 'making a journal segment', EXISTS);
      this.made.add(segment);
    });
  }

  /**
   * One after the other: a segment is made while others are dropped, and a list that was thought of before the new one was on it would take
   * it off again. The next owner would not read that segment, and what is in it was answered.
   */
  private changeList(change: (listed: readonly number[]) => readonly number[]): Promise<void> {
    const next = async (): Promise<void> => {
      const segments = change(this.listed);
      if (segments === this.listed) return;
      await this.mutate(HEADER, 0, GUARD | SET_SEGMENTS, encodeList(segments), 'listing the journal segments');
      this.listed = segments;
    };
    this.listing = this.listing.then(next, next);
    return this.listing;
  }

  dropSegments(segment: number): Promise<void> {
    return this.during(async () => {
      const gone = this.listed.filter((number) => number < segment);
      if (gone.length === 0) return;
      await Promise.all(gone.map((number) => this.mutate(JOURNAL, number, GUARD | REMOVE, null, 'removing a journal segment', MISSING)));
      await this.changeList((listed) => listed.filter((number) => !gone.includes(number)));
      for (const number of gone) this.made.delete(number);
    });
  }

  async writeHeader(bytes: Uint8Array, after?: Promise<void>): Promise<void> {
    await after;
    return this.during(() => this.mutate(HEADER, 0, GUARD | WRITE_FULL, bytes, 'writing the header'));
  }

  writePage(generation: Generation, sequence: number, bytes: Uint8Array): Promise<void> {
    return this.during(async () => {
      const result = await this.client.run((operation) => {
        operation.kind = PAGE;
        operation.first = generation;
        operation.second = sequence;
        operation.steps = WRITE_FULL;
        operation.bytes = bytes;
      });
      if (result < 0) throw radosError(result, `writing page ${generation}/${sequence}`);
    });
  }

  /** What was answered is durable. */
  async sync(): Promise<void> {
    if (this.failure !== null) throw this.failure;
  }

  syncJournal(): Promise<void> {
    return this.sync();
  }

  unsynced(): ObjectName[] {
    return [];
  }

  watchUnsynced(): UnsyncedWatch {
    return { take: () => [], close: () => undefined };
  }

  adoptUnsynced(): void {
    // Nothing is ever left unsynced.
  }

  close(): Promise<void> {
    this.closing ??= this.closeOnce();
    return this.closing;
  }

  private async closeOnce(): Promise<void> {
    this.failure ??= storeClosed(`the store of ${volumeText(this.volume)}`);
    if (this.underWay > 0) await new Promise<void>((resolve) => (this.whenIdle = resolve));
    this.ended(this);
  }

  operationStarted(): void {
    this.underWay++;
  }

  operationEnded(): void {
    this.underWay--;
    assert(this.underWay >= 0, 'an operation that ends had begun');
    if (this.underWay === 0) this.whenIdle?.();
  }

  private async during(work: () => Promise<void>): Promise<void> {
    if (this.failure !== null) throw this.failure;
    this.operationStarted();
    try {
      await work();
    } finally {
      this.operationEnded();
    }
  }

  /** `tolerated` is an error that leaves things as they should be. */
  private async mutate(kind: number, segment: number, steps: number, bytes: Uint8Array | null, what: string, tolerated = 0): Promise<void> {
    const result = await this.client.run((operation) => {
      operation.kind = kind;
      operation.first = this.volume;
      operation.second = segment;
      operation.steps = steps;
      operation.epoch = this.epoch;
      operation.bytes = bytes;
    });
    if (result < 0 && result !== tolerated) throw this.errorOf(result, what);
  }

  private errorOf(result: number, what: string): ArchipelagoError {
    // A log that is gone was removed with its volume.
    if (result === STALE || result === MISSING) return staleEpoch(this.volume, this.epoch);
    return radosError(result, `${volumeText(this.volume)}: ${what}`);
  }
}
