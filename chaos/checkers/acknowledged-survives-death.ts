/**
 * Verifies that after the death of a process, or its failover, each sector shows what was acknowledged last, or what had no answer yet. Does not
 * verify what a power failure leaves; that is `flushed-survives-power-loss`.
 */
import { Violation } from './checker.ts';

/** The twin allows `id` no place in the sector; `history` tells of the writes to the sector. */
export function lostAtDeath(sector: number, id: number, history: string): Violation {
  return new Violation('acknowledged-survives-death', `after the death of a process sector ${sector} shows write ${id} ${history}`);
}
