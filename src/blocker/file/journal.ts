/** The journal segments of one volume under one epoch: appended to in place, each a file. */
import { constants, ftruncateSync, openSync } from 'node:fs';
import { unlink } from 'node:fs/promises';
import { type ArchipelagoError, assert } from '../../base/index.ts';
import { refuse } from '../answers.ts';
import type { StoreWaiter } from '../store.ts';
import { Descriptor } from './descriptors.ts';
import { segmentName } from './layout.ts';
import type { FileStoreParts } from './parts.ts';
import { SharedRounds } from './rounds.ts';
import { writeWhole, writeWholeSync } from './transfer.ts';

const SMALL_BYTES = 65_536;

interface Segment {
  readonly number: number;
  descriptor: Descriptor | null;
  /** Up to here the appends went well. */
  length: number;
  /** More may be there than `length`: a failed append, or one under way. */
  tailUnknown: boolean;
  dirty: boolean;
}

/** What the journal needs of the volume store that it belongs to. */
export interface JournalOwner {
  readonly parts: FileStoreParts;
  readonly logDirectory: string;
  readonly failure: ArchipelagoError | null;
  operationStarted(): void;
  operationEnded(): void;
  /** What an error in the log's directory means. */
  logError(error: unknown, what: string): ArchipelagoError;
}

export class Journal {
  private readonly owner: JournalOwner;
  private readonly segments = new Map<number, Segment>();
  private current: Segment | null = null;
  private appending = false;
  /** True while a new segment's entry may not be durable. */
  private entriesAdded = false;
  private readonly rounds = new SharedRounds(() => this.syncRound());

  constructor(owner: JournalOwner, lengths: Iterable<readonly [segment: number, length: number]>) {
    this.owner = owner;
    for (const [number, length] of lengths) this.segments.set(number, { number, descriptor: null, length, tailUnknown: false, dirty: false });
  }

  append(number: number, position: number, bytes: Uint8Array, waiter: StoreWaiter): boolean {
    assert(!this.appending, 'appends to a journal are made one at a time');
    if (this.owner.failure !== null) return refuse(waiter, this.owner.failure);
    let segment: Segment;
    let descriptor: Descriptor;
    try {
      segment = this.segment(number);
      descriptor = this.opened(segment);
      if (segment.tailUnknown || position < segment.length) cut(segment, descriptor, position);
    } catch (error) {
      return refuse(waiter, this.owner.logError(error, `opening ${segmentName(number)}`));
    }
    assert(position === segment.length, 'a journal append leaves no gap');
    segment.tailUnknown = true;
    const beganMs = this.owner.parts.clock.nowMs();
    if (bytes.byteLength > SMALL_BYTES || this.owner.parts.pace.mayBlock(beganMs)) return this.appendLater(segment, descriptor, bytes, waiter);
    try {
      writeWholeSync(descriptor.fd, bytes, bytes.byteLength, position);
    } catch (error) {
      return refuse(waiter, this.owner.logError(error, `appending to ${segmentName(number)}`));
    }
    this.owner.parts.pace.took(beganMs, this.owner.parts.clock.nowMs());
    appended(segment, bytes.byteLength);
    return true;
  }

  /** Makes durable what was appended before the call. */
  sync(): Promise<void> {
    return this.rounds.run();
  }

  private async syncRound(): Promise<void> {
    const entriesAdded = this.entriesAdded;
    this.entriesAdded = false;
    for (const segment of [...this.segments.values()]) {
      const { descriptor } = segment;
      if (!segment.dirty || descriptor === null) continue;
      segment.dirty = false;
      descriptor.users++;
      try {
        await this.owner.parts.durability.data(descriptor.fd, this.path(segment.number));
      } finally {
        descriptor.leave();
      }
      if (segment !== this.current) retire(segment);
    }
    if (entriesAdded) await this.owner.parts.durability.directory(this.owner.logDirectory);
  }

  /** Removes the segments below `number`. That this survives a power failure does not matter: what is below the header's is ignored. */
  async drop(number: number): Promise<void> {
    for (const segment of [...this.segments.values()]) {
      if (segment.number >= number) continue;
      if (segment === this.current) this.current = null;
      retire(segment);
      try {
        await unlink(this.path(segment.number));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw this.owner.logError(error, `removing ${segmentName(segment.number)}`);
      }
      this.segments.delete(segment.number);
    }
  }

  close(): void {
    for (const segment of this.segments.values()) retire(segment);
    this.segments.clear();
    this.current = null;
  }

  private appendLater(segment: Segment, descriptor: Descriptor, bytes: Uint8Array, waiter: StoreWaiter): boolean {
    this.appending = true;
    descriptor.users++;
    this.owner.operationStarted();
    writeWhole(descriptor.fd, bytes, segment.length, (error) => {
      this.appending = false;
      descriptor.leave();
      if (error === null) appended(segment, bytes.byteLength);
      this.owner.operationEnded();
      waiter.storeDone(error === null ? null : this.owner.logError(error, `appending to ${segmentName(segment.number)}`));
    });
    return false;
  }

  private segment(number: number): Segment {
    if (this.current !== null && this.current.number === number) return this.current;
    let segment = this.segments.get(number);
    // Should a file be there that we do not know of, all in it is an unknown tail.
    if (segment === undefined) segment = { number, descriptor: null, length: 0, tailUnknown: true, dirty: false };
    return segment;
  }

  private opened(segment: Segment): Descriptor {
    if (segment.descriptor === null) {
      const fd = openSync(this.path(segment.number), constants.O_RDWR | constants.O_CREAT, 0o600);
      segment.descriptor = new Descriptor(fd, this.owner.parts.log);
      if (!this.segments.has(segment.number)) {
        this.segments.set(segment.number, segment);
        this.entriesAdded = true;
      }
    }
    this.current = segment;
    return segment.descriptor;
  }

  private path(number: number): string {
    return `${this.owner.logDirectory}/${segmentName(number)}`;
  }
}

function appended(segment: Segment, length: number): void {
  segment.length += length;
  segment.tailUnknown = false;
  segment.dirty = true;
}

function cut(segment: Segment, descriptor: Descriptor, position: number): void {
  ftruncateSync(descriptor.fd, position);
  segment.length = Math.min(segment.length, position);
  segment.tailUnknown = false;
  segment.dirty = true;
}

function retire(segment: Segment): void {
  segment.descriptor?.retire();
  segment.descriptor = null;
}
