/**
 * Branded identifiers. On disk and on the wire each of them is 64 bits wide; in memory they are numbers, because they come
 * from counters that start at one and 2^53 steps are never used up. `assertCounter` guards each place where one is read.
 */
import { broken } from './assert.ts';

declare const brand: unique symbol;
type Branded<Name extends string> = number & { readonly [brand]: Name };

/** A volume or snapshot. Never used again after its removal. */
export type VolumeId = Branded<'VolumeId'>;
/** Ownership epoch of a volume; grows by one with each change of owner. */
export type Epoch = Branded<'Epoch'>;
/** Cluster-unique number under which new objects are named. Zero is never allocated. */
export type Generation = Branded<'Generation'>;
/** Counts the starts of a node's processes that may own volumes. */
export type LivenessEpoch = Branded<'LivenessEpoch'>;
/** Index of a block within a volume: offset divided by the block size. */
export type BlockIndex = Branded<'BlockIndex'>;

/** Asserts that a value read from disk or wire is a counter that memory holds exactly. */
export function assertCounter(value: number, what: string): void {
  if (!(Number.isSafeInteger(value) && value >= 0)) broken(`${what} is not a counter: ${value}`);
}
