/**
 * What we believe to be in the page cache of one object, by pages of 4 KiB: whatever we have read or written. The kernel may have evicted
 * it since; synchronous reads that take long show that, and then all belief in that object is dropped.
 */
const PAGE_SHIFT = 12;
const NOTHING = new Uint32Array(0);

export const PAGE_MASK = (1 << PAGE_SHIFT) - 1;

export class Residency {
  /** One bit for each page; grows with the object. */
  private words: Uint32Array = NOTHING;

  covers(offset: number, length: number): boolean {
    const last = (offset + length - 1) >>> PAGE_SHIFT;
    if (last >>> 5 >= this.words.length) return false;
    for (let page = offset >>> PAGE_SHIFT; page <= last; page++) {
      if (((this.words[page >>> 5] as number) & (1 << (page & 31))) === 0) return false;
    }
    return true;
  }

  mark(offset: number, length: number): void {
    if (length === 0) return;
    const last = (offset + length - 1) >>> PAGE_SHIFT;
    if (last >>> 5 >= this.words.length) this.grow((last >>> 5) + 1);
    for (let page = offset >>> PAGE_SHIFT; page <= last; page++) {
      this.words[page >>> 5] = (this.words[page >>> 5] as number) | (1 << (page & 31));
    }
  }

  /** A write beyond the end of the file leaves a hole before it; reading that needs no disk either. */
  markHole(from: number, to: number): void {
    const start = Math.ceil(from / (PAGE_MASK + 1)) * (PAGE_MASK + 1);
    if (to > start) this.mark(start, to - start);
  }

  clear(): void {
    this.words = NOTHING;
  }

  private grow(words: number): void {
    const larger = new Uint32Array(Math.max(words, 2 * this.words.length));
    larger.set(this.words);
    this.words = larger;
  }
}
