/** What a map answers when it has no generation to give. */
import type { PageRef } from './types.ts';

export { LAYERED } from './leaf.ts';
/** A block that has no object: it reads as zeros. */
export const ABSENT = 0;
/** A page on the way is not loaded. */
export const MISSING = -2;
/** There is no further entry. */
export const END = -3;

/** A page that has to be loaded, and where in the tree it must belong. */
export interface MissingPage extends PageRef {
  /** Null for a root: it says itself how high the tree is. */
  readonly level: number | null;
  readonly first: number;
}
