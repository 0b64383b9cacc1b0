/**
 * Verifies that after a power failure each sector shows what was flushed last, or something that was written since. Does not verify the order of
 * what was not flushed: any of it may be lost.
 */
import { Violation } from './checker.ts';

/** The twin allows `id` no place in the sector; `history` tells of the writes to the sector. */
export function lostWithPower(sector: number, id: number, history: string): Violation {
  return new Violation('flushed-survives-power-loss', `after a power failure sector ${sector} shows write ${id} ${history}`);
}
