/** Whole transfers over calls that may do only a part: positional, looping, on a file descriptor. */
import { read, write, writeSync } from 'node:fs';

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

/** Node has no fallocate, so a hole is made of zeros. */
export function writeZeros(fd: number, position: number, end: number, done: TransferDone): void {
  const step = (at: number) => {
    if (at === end) return done(null);
    write(fd, ZEROS, 0, Math.min(ZEROS.byteLength, end - at), at, (error, count) => {
      if (error !== null) return done(error);
      step(at + count);
    });
  };
  step(position);
}
