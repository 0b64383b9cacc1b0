/** Words for tests of stores. */
import { afterEach, beforeEach, expect } from 'vitest';
import type { ArchipelagoError, Epoch, ErrorCode, Generation, VolumeId } from '../../src/base/index.ts';
import type { BlockObject, BlockStore, StoreWaiter, VolumeStore } from '../../src/blocker/index.ts';

/** A store as two nodes see it; the same object twice where there is only one node. */
export interface StoreUnderTest {
  readonly first: BlockStore;
  readonly second: BlockStore;
  end(): Promise<void>;
}

/** Opens the store anew for each test. */
export function eachTest(open: () => Promise<StoreUnderTest>): { readonly store: BlockStore; readonly other: BlockStore } {
  let current: StoreUnderTest;
  beforeEach(async () => {
    current = await open();
  });
  afterEach(() => current.end());
  return {
    get store() {
      return current.first;
    },
    get other() {
      return current.second;
    },
  };
}

export const volumeId = (value: number): VolumeId => value as VolumeId;
export const epochOf = (value: number): Epoch => value as Epoch;
export const generationOf = (value: number): Generation => value as Generation;

/** Runs a data-path call to its end; checks that its waiter is called exactly once, and never from within the call. */
export function done(start: (waiter: StoreWaiter) => boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    let returned = false;
    let atOnce = false;
    const waiter: StoreWaiter = {
      storeDone(error: ArchipelagoError | null) {
        if (!returned) reject(new Error('the waiter was called from within the call'));
        else if (atOnce) reject(new Error('the waiter was called although the call was done at once'));
        else if (error === null) resolve();
        else reject(error);
      },
    };
    atOnce = start(waiter);
    returned = true;
    // Given a turn, so that an answer too many is seen.
    if (atOnce) setImmediate(resolve);
  });
}

/** `length` bytes that differ from place to place and from seed to seed, none of them zero. */
export function pattern(seed: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = 1 + ((i * 7 + seed * 31 + (i >>> 8)) % 255);
  return bytes;
}

/** Reads a range; the buffer is dirty before, so that zeros have been put there. */
export async function readOf(object: BlockObject, offset: number, length: number): Promise<Uint8Array> {
  const into = new Uint8Array(length).fill(0xee);
  await done((waiter) => object.read(offset, into, waiter));
  return into;
}

/** Compares bytes without printing megabytes. */
export function expectBytes(actual: Uint8Array, expected: Uint8Array): void {
  expect(actual.byteLength).toBe(expected.byteLength);
  let at = 0;
  while (at < expected.byteLength && actual[at] === expected[at]) at++;
  expect(at < expected.byteLength ? `differs at ${at}: ${actual[at]} for ${expected[at]}` : 'equal').toBe('equal');
}

export async function expectCode(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  await expect(promise).rejects.toMatchObject({ name: 'ArchipelagoError', code });
}

export async function owner(store: BlockStore, volume = 1, epoch = 1, clean = true): Promise<VolumeStore> {
  return (await store.takeOver(volumeId(volume), epochOf(epoch), clean)).store;
}

export function joined(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

export const zeros = (length: number): Uint8Array => new Uint8Array(length);
