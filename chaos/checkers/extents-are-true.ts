/**
 * Verifies what a volume says of where it has data: what is called a hole reads as zeros, and while nothing changes, what is called data has some
 * in each of its sub-blocks. Does not verify how long an extent is.
 */
import { Violation } from './checker.ts';
import { SECTOR_BYTES } from './never-torn-nor-foreign.ts';

export interface ToldExtent {
  readonly lengthBytes: number;
  readonly allocated: boolean;
}

export interface ToldVolume {
  readonly subBlockSectors: number;
  /** Throws where a range cannot be zeros. */
  expectZeros(first: number, count: number): void;
  /** Whether nothing else than zeros can be there. */
  isZero(first: number, count: number): boolean;
}

export function checkExtents(volume: ToldVolume, extents: readonly ToldExtent[], first: number, still: boolean): void {
  const { subBlockSectors } = volume;
  let at = first;
  for (const { lengthBytes, allocated } of extents) {
    const count = lengthBytes / SECTOR_BYTES;
    if (!Number.isInteger(count) || count === 0) fail(`an extent is ${lengthBytes} bytes long`);
    if (!allocated) volume.expectZeros(at, count);
    for (let sector = at; allocated && still && sector < at + count; ) {
      const next = Math.min(at + count, (Math.floor(sector / subBlockSectors) + 1) * subBlockSectors);
      if (volume.isZero(sector, next - sector)) fail(`sectors ${sector} to ${next} are zeros, and called data`);
      sector = next;
    }
    at += count;
  }
}

function fail(message: string): never {
  throw new Violation('extents-are-true', message);
}
