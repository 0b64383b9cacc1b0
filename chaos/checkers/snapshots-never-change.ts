/**
 * Verifies that a snapshot shows in each sector something that the volume may have shown at the cut, and the same at every later look, after
 * deaths, merges and collections. Does not verify that two sectors are of one moment; what is acknowledged before the cut is in it.
 */
import { Violation } from './checker.ts';

/** `possible` is what the volume may have shown at the cut; `before` what the snapshot showed at an earlier look. */
export function checkSnapshotSector(sector: number, id: number, possible: readonly number[] | undefined, before: number | null | undefined): void {
  if (before === null && !possible?.includes(id)) fail(`a snapshot shows write ${id} in sector ${sector}, not one of ${possible}`);
  if (before !== null && before !== undefined && before !== id) fail(`sector ${sector} of a snapshot changes from ${before} to ${id}`);
}

function fail(message: string): never {
  throw new Violation('snapshots-never-change', message);
}
