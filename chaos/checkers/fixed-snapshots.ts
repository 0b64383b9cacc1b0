/** Verifies that a snapshot shows the same each time that a place of it is read. What it has to show at all, linearizability tells. */
import { Violation } from './checker.ts';

export class FixedSnapshots {
  readonly name = 'fixed-snapshots';
  private readonly seen = new Map<string, number>();

  /** `place` names snapshot and sector. */
  read(place: string, found: number): void {
    const before = this.seen.get(place);
    if (before !== undefined && before !== found)
      throw new Violation(this.name, `${place} of a snapshot showed write ${before}, and shows ${found} now`);
    this.seen.set(place, found);
  }
}
