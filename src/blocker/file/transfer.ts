/** Whole transfers over calls that may do only a part: positional, looping, on a file descriptor. */
import { read, write, writeSync } from 'node:fs';
import { isZero } from '../../base/index.ts';
import { PAGE_MASK } from './residency.ts';

export type TransferDone = (error: NodeJS.ErrnoException | null) => void;

/** Fills the first `length` bytes of `into`; what lies beyond the end of the file becomes zeros. */
export function readWhole(fd: number, into: Uint8Array, length: number, position: number, done: TransferDone): void {
  let at = 0;
  const step = () => {
    read(fd, into, at, length - at, position + at, (error, count) => {
      if (error !== null) return done(error);
      at += count;
      if (count === 0) into.fill(0, at, length);
      if (count === 0 || at === length) return done(null);
      step();
    });
  };
  step();
}

export function writeWhole(fd: number, data: Uint8Array, position: number, done: TransferDone): void {
  let at = 0;
  const step = () => {
    write(fd, data, at, data.byteLength - at, position + at, (error, count) => {
      if (error !== null) return done(error);
      at += count;
      if (at === data.byteLength) return done(null);
      step();
    });
  };
  step();
}

/** Throws what the system says. */
export function writeWholeSync(fd: number, data: Uint8Array, length: number, position: number): void {
  let at = writeSync(fd, data, 0, length, position);
  while (at < length) at += writeSync(fd, data, at, length - at, position + at);
}

/** A shared buffer of zeros; nobody writes to it. */
export const ZEROS = new Uint8Array(262_144);

/**
 * Overwrites with zeros what is not zeros in a range, by pages. Node has no fallocate, so pages that hold data keep their room; but a hole is
 * not filled, as zeros written over it all would do.
 */
export function zeroData(fd: number, position: number, end: number, done: TransferDone): void {
  const piece = new Uint8Array(Math.min(ZEROS.byteLength, end - position + (position & PAGE_MASK)));
  const step = (at: number) => {
    if (at === end) return done(null);
    const length = Math.min(piece.byteLength - (at & PAGE_MASK), end - at);
    read(fd, piece, 0, length, at, (error, count) => {
      if (error !== null) return done(error);
      // Nothing lies beyond the end of the file.
      if (count === 0) return done(null);
      overwrite(at, 0, count);
    });
  };
  const overwrite = (start: number, from: number, count: number) => {
    const run = nextRun(start, piece, from, count);
    if (run === null) return step(start + count);
    writeWhole(fd, ZEROS.subarray(0, run.to - run.from), start + run.from, (error) => {
      if (error !== null) return done(error);
      overwrite(start, run.to, count);
    });
  };
  step(position);
}

/** The first pages at or after `from` that are not all zeros. `start` is where the bytes are in the file. */
function nextRun(start: number, bytes: Uint8Array, from: number, count: number): { from: number; to: number } | null {
  let first = -1;
  for (let at = from; at < count; ) {
    const to = Math.min(count, at + PAGE_MASK + 1 - ((start + at) & PAGE_MASK));
    const zero = isZero(bytes.subarray(at, to));
    if (!zero && first < 0) first = at;
    if (zero && first >= 0) return { from: first, to: at };
    at = to;
  }
  return first < 0 ? null : { from: first, to: count };
}
