/** Lengths of the journal segments that are not folded, before the present one: there is one for each owner, and more after failed appends. */

import type { JournalSegment } from '../blocker/index.ts';

/** What is not worth a fold: some hundreds of changes. A cut folds them by itself, and the next owner may find them. */
const SMALL_BYTES = 16 << 10;
const SMALL_COUNT = 16;

export class OlderSegments {
  private readonly segments: { readonly number: number; readonly bytes: number }[] = [];

  /** `found` by a takeover, in ascending order; `first` is the first that counts. */
  constructor(found: readonly JournalSegment[], first: number) {
    for (const { number, bytes } of found) if (number >= first) this.add(number, bytes.byteLength);
  }

  /** In ascending order of numbers. */
  add(number: number, bytes: number): void {
    this.segments.push({ number, bytes });
  }

  /** A header that is in the store needs nothing below `first`. */
  forget(first: number): void {
    while ((this.segments[0]?.number ?? first) < first) this.segments.shift();
  }

  /** With so many bytes in the present one. */
  isSmallWith(bytes: number): boolean {
    return this.segments.length <= SMALL_COUNT && this.segments.reduce((sum, segment) => sum + segment.bytes, bytes) <= SMALL_BYTES;
  }
}
