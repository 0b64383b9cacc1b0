/**
 * Verifies that what a read finds in each sector was written by something that may still be seen there: nothing older than what had been
 * acknowledged, or read, before the read began. Does not verify what is left after a death or a power failure.
 */
import { Violation } from './checker.ts';

/** The twin allows `id` no place in the sector; `history` tells of the writes to the sector. */
export function staleRead(sector: number, id: number, history: string): Violation {
  return new Violation('reads-are-current', `sector ${sector} shows write ${id} ${history}`);
}
