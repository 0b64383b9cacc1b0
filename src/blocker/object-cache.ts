/**
 * Parts of immutable block objects in memory, least recently used first to go. All volumes of a process share it, so the clones of one image
 * read it once; a part that several ask for while it is on its way is read once, too. It is for drivers whose store is behind a network: a
 * local one has the system's page cache.
 */
import type { ArchipelagoError, Generation } from '../base/index.ts';
import type { BlockObject, StoreWaiter } from './store.ts';

/** A sub-block of a block of the default size: what a layered block reads of its base begins and ends there. */
const PART_BYTES = 64 * 1024;
/** Neighbours that are missing are read together, up to this many. */
const MAX_RUN = 16;

/** Where a part is kept, in the order of its last use. Without bytes it is on its way, and nobody finds it to drop. */
interface Part {
  readonly object: CachedObject;
  readonly number: number;
  bytes: Uint8Array | null;
  readonly waiting: PendingRead[];
  older: Part | null;
  newer: Part | null;
}

export class ObjectCache {
  private readonly open: (generation: Generation, index: number) => BlockObject;
  private readonly limitBytes: number;
  private readonly objects = new Map<string, CachedObject>();
  private oldest: Part | null = null;
  private newest: Part | null = null;
  private usedBytes = 0;

  /** @param limitBytes of the parts that are kept; what is on its way comes on top. */
  constructor(limitBytes: number, open: (generation: Generation, index: number) => BlockObject) {
    this.limitBytes = limitBytes;
    this.open = open;
  }

  get bytes(): number {
    return this.usedBytes;
  }

  /** A handle as `BlockStore.immutableObject` promises it. */
  object(generation: Generation, index: number): BlockObject {
    const key = `${generation}/${index}`;
    let object = this.objects.get(key);
    if (object === undefined) {
      object = new CachedObject(this, this.open(generation, index), () => this.objects.delete(key));
      this.objects.set(key, object);
    }
    object.holders++;
    return object;
  }

  /** Drops what is kept of an object that was removed. */
  forget(generation: Generation, index: number): void {
    for (const part of this.objects.get(`${generation}/${index}`)?.kept() ?? []) this.drop(part);
  }

  /** Notes a use. */
  touch(part: Part): void {
    if (part === this.newest) return;
    this.unlink(part);
    this.append(part);
  }

  keep(part: Part): void {
    this.append(part);
    this.usedBytes += PART_BYTES;
    while (this.usedBytes > this.limitBytes && this.oldest !== null) this.drop(this.oldest);
  }

  private drop(part: Part): void {
    this.unlink(part);
    this.usedBytes -= PART_BYTES;
    part.object.forget(part);
  }

  private append(part: Part): void {
    part.older = this.newest;
    if (this.newest === null) this.oldest = part;
    else this.newest.newer = part;
    this.newest = part;
  }

  private unlink(part: Part): void {
    if (part.older === null) this.oldest = part.newer;
    else part.older.newer = part.newer;
    if (part.newer === null) this.newest = part.older;
    else part.newer.older = part.older;
    part.older = null;
    part.newer = null;
  }
}

/** One object, for all who have a handle to it. It lives as long as it has holders or parts. */
class CachedObject implements BlockObject {
  readonly generation: Generation;
  readonly index: number;
  holders = 0;
  private readonly cache: ObjectCache;
  private readonly stored: BlockObject;
  private readonly gone: () => void;
  private readonly parts = new Map<number, Part>();

  constructor(cache: ObjectCache, stored: BlockObject, gone: () => void) {
    this.cache = cache;
    this.stored = stored;
    this.generation = stored.generation;
    this.index = stored.index;
    this.gone = gone;
  }

  release(): void {
    this.holders--;
    this.endWhenUnused();
  }

  kept(): Part[] {
    return [...this.parts.values()].filter(({ bytes }) => bytes !== null);
  }

  forget(part: Part): void {
    this.parts.delete(part.number);
    this.endWhenUnused();
  }

  private endWhenUnused(): void {
    if (this.holders > 0 || this.parts.size > 0) return;
    this.gone();
    this.stored.release();
  }

  read(offset: number, into: Uint8Array, waiter: StoreWaiter): boolean {
    // Asks whether the object is there, which only the store knows.
    if (into.byteLength === 0) return this.stored.read(offset, into, waiter);
    const first = Math.floor(offset / PART_BYTES);
    const last = Math.floor((offset + into.byteLength - 1) / PART_BYTES);
    for (let number = first; number <= last; number++) {
      const part = this.parts.get(number);
      if (part === undefined || part.bytes === null) {
        this.readMissing(first, last, new PendingRead(offset, into, waiter));
        return false;
      }
    }
    for (let number = first; number <= last; number++) {
      const part = this.parts.get(number) as Part;
      this.cache.touch(part);
      copyPart(part.bytes as Uint8Array, number, offset, into);
    }
    return true;
  }

  private readMissing(first: number, last: number, read: PendingRead): void {
    let run: Part[] = [];
    for (let number = first; number <= last; number++) {
      let part = this.parts.get(number);
      const missing = part === undefined;
      if (part === undefined) {
        part = { object: this, number, bytes: null, waiting: [], older: null, newer: null };
        this.parts.set(number, part);
        run.push(part);
      }
      if (run.length > 0 && (!missing || run.length === MAX_RUN)) {
        this.fetch(run);
        run = [];
      }
      if (part.bytes === null) read.waitFor(part);
      else copyPart(part.bytes, number, read.offset, read.into);
    }
    if (run.length > 0) this.fetch(run);
  }

  private fetch(run: readonly Part[]): void {
    const bytes = Buffer.allocUnsafeSlow(run.length * PART_BYTES);
    const ended = (error: ArchipelagoError | null) => this.fetched(run, bytes, error);
    // Whoever waits is told after its call has returned, as the store's own answers are.
    if (this.stored.read((run[0] as Part).number * PART_BYTES, bytes, { storeDone: ended })) process.nextTick(ended, null);
  }

  private fetched(run: readonly Part[], bytes: Uint8Array, error: ArchipelagoError | null): void {
    for (const [at, part] of run.entries()) {
      if (error !== null) {
        this.parts.delete(part.number);
      } else {
        const piece = bytes.subarray(at * PART_BYTES, (at + 1) * PART_BYTES);
        // A copy, since a piece that stays would keep its whole run.
        part.bytes = run.length === 1 ? piece : Uint8Array.from(piece);
        this.cache.keep(part);
      }
      for (const read of part.waiting.splice(0)) read.partDone(part, error);
    }
    if (error !== null) this.endWhenUnused();
  }
}

/** A read some of whose parts are on their way. */
class PendingRead {
  readonly offset: number;
  readonly into: Uint8Array;
  private readonly waiter: StoreWaiter;
  private pending = 0;
  private error: ArchipelagoError | null = null;

  constructor(offset: number, into: Uint8Array, waiter: StoreWaiter) {
    this.offset = offset;
    this.into = into;
    this.waiter = waiter;
  }

  waitFor(part: Part): void {
    this.pending++;
    part.waiting.push(this);
  }

  partDone({ bytes, number }: Part, error: ArchipelagoError | null): void {
    this.error ??= error;
    if (bytes !== null) copyPart(bytes, number, this.offset, this.into);
    if (--this.pending === 0) this.waiter.storeDone(this.error);
  }
}

/** Copies what a part has of the object's bytes from `offset` on. */
function copyPart(bytes: Uint8Array, number: number, offset: number, into: Uint8Array): void {
  const start = number * PART_BYTES;
  const from = Math.max(offset, start);
  const to = Math.min(offset + into.byteLength, start + PART_BYTES);
  into.set(bytes.subarray(from - start, to - start), from - offset);
}
