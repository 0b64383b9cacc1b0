/**
 * What a store of objects must do for the layers above. There are three kinds of data in it:
 *
 * - **block objects**, named (generation, block index): the data of one block of one volume. While its generation is in the
 *   owner's live set the owner may write it in place; afterwards nobody changes it.
 * - **map pages**, named (generation, sequence): immutable once written.
 * - a **volume log** for each volume: a small header that is replaced as a whole, and a journal of numbered segments.
 *
 * Whatever changes something belongs to a `VolumeStore`, which a node gets for one (volume, epoch) when it becomes the owner; that is
 * where each driver keeps its fence. Reading what is immutable needs none.
 *
 * Data-path calls take no promise and no closure: they return true when the work was done at once, else they answer later through the
 * caller's own `StoreWaiter`. A call that was not done at once never answers before it has returned.
 */
import type { ArchipelagoError, Epoch, Generation, VolumeId } from '../base/index.ts';

/** How a store operation that was not done at once ends. Called exactly once, never from within the call that started it. */
export interface StoreWaiter {
  storeDone(error: ArchipelagoError | null): void;
}

export interface ObjectName {
  readonly generation: Generation;
  /** Index of the block that the object was made for. */
  readonly index: number;
}

/**
 * A handle to a block object that may or may not exist yet. Making one does no I/O. Its holder calls `release` once, when none of its
 * operations is under way; a driver keeps a file descriptor or the like behind it and may close that in between.
 */
export interface BlockObject extends ObjectName {
  release(): void;
  /**
   * Fills `into` from `offset` on. Bytes never written, and all beyond the object's end, are zeros; an object that does not exist is
   * the error `not-found`, never zeros. `into` belongs to the store until the operation ended.
   */
  read(offset: number, into: Uint8Array, waiter: StoreWaiter): boolean;
}

/** A block object that its volume's owner may change. `data` belongs to the store until the operation ended, and is not changed by it. */
export interface WritableBlockObject extends BlockObject {
  /**
   * Makes the object with its first data; what is not written reads as zeros. An object that exists already is the error `exists`.
   * After an error the object may exist or not: `remove` it before the name is tried again.
   */
  create(offset: number, data: Uint8Array, waiter: StoreWaiter): boolean;
  /** Writes in place; an object that does not exist is `not-found`. After an error each 512-byte sector is old or new. */
  write(offset: number, data: Uint8Array, waiter: StoreWaiter): boolean;
  /** Makes a range read as zeros, and gives its space back where the store can; it never takes more. A mutation like a write, not a removal. */
  zero(offset: number, length: number, waiter: StoreWaiter): boolean;
  /** Removes the object; one that does not exist is no error. The caller has made the record that drops it durable before. */
  remove(waiter: StoreWaiter): boolean;
  /**
   * Fences the object off from the owners before. Once this was answered without error, no change submitted under a lower epoch, not even
   * one under way, alters what is read through this owner's handles. Of such a change that was not answered before, each sector is in or
   * not, for good, and the next `sync` covers it. An object that does not exist is `not-found`; after a claim under a higher epoch it is
   * `stale-epoch`. It may cost as much as copying the object. Repeating it is harmless.
   */
  claim(waiter: StoreWaiter): boolean;
}

/** One journal segment as found: whatever bytes are there, a torn tail included. */
export interface JournalSegment {
  readonly number: number;
  readonly bytes: Uint8Array;
}

/**
 * What the owner of a volume may do under one epoch. Every error of `sync` or `writeHeader` that leaves durability unknown is fatal for
 * the `VolumeStore`: all later calls fail with `io-error`, and the volume must be taken over under a new epoch.
 */
export interface VolumeStore {
  readonly volume: VolumeId;
  readonly epoch: Epoch;
  object(generation: Generation, index: number): WritableBlockObject;
  /**
   * Writes `bytes` at `position` of a journal segment, which is made when it is missing. Whatever a failed or short append has left from
   * `position` on is cut first. Appends of one volume are made one at a time. `bytes` belongs to the store until the operation ended.
   */
  appendJournal(segment: number, position: number, bytes: Uint8Array, waiter: StoreWaiter): boolean;
  /** Removes the segments below `segment`; called after a header that no longer needs them is durable. */
  dropSegments(segment: number): Promise<void>;
  /**
   * Replaces the header atomically and durably; not before `after` has resolved, and not at all when that rejects, but what can be done
   * of it meanwhile is. The caller hears of the rejection of `after` here too.
   */
  writeHeader(bytes: Uint8Array, after?: Promise<void>): Promise<void>;
  /** Writes a page; durable after the next `sync`. A name is written once, but a retry after an error may repeat it with the same bytes. */
  writePage(generation: Generation, sequence: number, bytes: Uint8Array): Promise<void>;
  /**
   * Makes durable all that was completed before the call: objects, the directories that name them, pages, journal; and what a dead
   * predecessor had left unsynced. Two calls at a time share work but keep that promise each.
   */
  sync(): Promise<void>;
  /** As `sync`, but for the journal segments alone: what is cheap to do after a mark was appended. */
  syncJournal(): Promise<void>;
  /** The objects that completed writes have left unsynced. */
  unsynced(): ObjectName[];
  /** The same bit by bit, for a next owner who is told of most while this one goes on. One at a time. */
  watchUnsynced(): UnsyncedWatch;
  /** Adds the unsynced objects of the owner before, so that `sync` covers them. `ObjectNames` are taken as they are: nobody else changes them any more. */
  adoptUnsynced(names: Iterable<ObjectName>): void;
  /** Ends use. Waits for operations under way; syncs nothing. */
  close(): Promise<void>;
}

export interface UnsyncedWatch {
  /**
   * At first all that is unsynced, then what has become so since the call before; perhaps more, and the same again. What is unsynced at a call
   * was in its answer or an earlier one.
   */
  take(): readonly ObjectName[];
  /** Ends it. Called once. */
  close(): void;
}

/** A volume log as its new owner finds it. */
export interface Takeover {
  readonly store: VolumeStore;
  /** Null for a volume that never had an owner. */
  readonly header: Uint8Array | null;
  /** All segments that exist, by number. Those below the header's are left over and ignored. */
  readonly segments: readonly JournalSegment[];
  /** Under which epoch the log was written before: the newest that had taken it over, perhaps this one. Null when there was none. */
  readonly from: Epoch | null;
  /**
   * True when nothing of the owner that this log is from can still be under way in the store: the takeover is clean, or that owner's process
   * is proved to be dead, or it has closed its `VolumeStore`. It says nothing of the owners before that one.
   */
  readonly quiet: boolean;
}

/** A volume log as somebody reads it who is not its owner. */
export interface VolumeLog {
  /** Of the owner whose log it is. */
  readonly epoch: Epoch;
  readonly header: Uint8Array | null;
  /** All that the header needs, perhaps more. */
  readonly segments: readonly JournalSegment[];
}

/** What collection lists and removes. A page is named as an object is, its sequence number in place of the index. */
export type CollectedKind = 'object' | 'page';

/** What a removal gave back. */
export interface Removed {
  /** How many there were. */
  readonly count: number;
  /** The room that they took up in the store. */
  readonly bytes: number;
}

export interface StoreStatus {
  readonly kind: StoreKind;
  /** Where it is, for people: a directory, a pool. */
  readonly location: string;
  readonly usedBytes: number;
  /** Null where the store has no limit that it knows of. */
  readonly availableBytes: number | null;
}

export type StoreKind = 'memory' | 'file' | 'rados';

export interface BlockStore {
  readonly kind: StoreKind;
  /**
   * Makes this node the one that may change a volume's log, and returns what is in it. It never touches what a lower epoch may still
   * write: a log changed under a lower epoch after this call has returned is not read by anyone. An epoch lower than one that has taken
   * over is `stale-epoch`.
   * @param clean the owner before has drained and told this node its unsynced objects; else `sync` has to cover all it may have left.
   */
  takeOver(volume: VolumeId, epoch: Epoch, clean: boolean): Promise<Takeover>;
  /** A block object of a generation that is closed to writing. */
  immutableObject(generation: Generation, index: number): BlockObject;
  /** Fails with `not-found` when it is missing; the caller verifies its checksum. The result belongs to the caller. */
  readPage(generation: Generation, sequence: number): Promise<Uint8Array>;
  /**
   * The header of a volume that nobody has open, without becoming its owner: what it says may be out of date the moment it is read. Null for a
   * volume without one. For information only.
   */
  readHeader(volume: VolumeId): Promise<Uint8Array | null>;
  /**
   * The log of a volume at one moment, without becoming its owner; null when there is none. What it says is durable: after a power failure
   * the next owner finds this log, or what its owner has made of it since. Fails with `unavailable` while owners change it too fast.
   */
  readLog(volume: VolumeId): Promise<VolumeLog | null>;
  /**
   * Names in no order, a bounded number at a time, of the generations for which `wanted` is true. What exists all the while is listed; what
   * comes or goes meanwhile may be.
   */
  list(kind: CollectedKind, wanted: (generation: Generation) => boolean): AsyncIterable<readonly ObjectName[]>;
  /** The volumes that have a log, in the same way. */
  listLogs(): AsyncIterable<readonly VolumeId[]>;
  /** Removes what nothing refers to and nobody makes any more; what is not there is no error. For collection, not for owners. */
  remove(kind: CollectedKind, names: readonly ObjectName[]): Promise<Removed>;
  /** Gives up what is kept only in case it is used again: as long as a removed object is open somewhere, it takes up its room. */
  closeIdle(): void;
  /** Removes the log of a volume that the registry has removed. */
  removeLog(volume: VolumeId): Promise<void>;
  /** True when the block object exists. For verification, not for the data path. */
  objectExists(name: ObjectName): Promise<boolean>;
  status(): Promise<StoreStatus>;
  close(): Promise<void>;
}
