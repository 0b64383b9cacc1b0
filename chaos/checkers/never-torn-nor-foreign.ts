/**
 * Verifies that each sector of 512 bytes shows one write wholly, and one that was made to this sector. Does not verify that it is the right
 * one; that is for `reads-are-current`, `acknowledged-survives-death` and `flushed-survives-power-loss`.
 */
import { Violation } from './checker.ts';

export const SECTOR_BYTES = 512;
const SECTOR_WORDS = SECTOR_BYTES / 4;

/** Fills a sector's bytes with what only this write to this sector has. */
export function fillSector(words: Uint32Array, at: number, id: number, sector: number): void {
  const from = at * SECTOR_WORDS;
  for (let word = 0; word < SECTOR_WORDS; word += 2) {
    words[from + word] = id;
    words[from + word + 1] = id === 0 ? 0 : sector;
  }
}

/** The write that a sector shows. */
export function sectorId(words: Uint32Array, at: number, sector: number): number {
  const from = at * SECTOR_WORDS;
  const id = words[from] as number;
  for (let word = 0; word < SECTOR_WORDS; word += 2) {
    const [found, place] = [words[from + word], words[from + word + 1]];
    if (found !== id) fail(`sector ${sector} is torn: it shows writes ${id} and ${found}`);
    if (place !== (id === 0 ? 0 : sector)) fail(`sector ${sector} shows what write ${id} put into sector ${place}`);
  }
  return id;
}

function fail(message: string): never {
  throw new Violation('never-torn-nor-foreign', message);
}
