/**
 * Verifies that what an owner had under way when it lost the volume is settled by the first read under a later epoch: a write that was
 * submitted under earlier epochs alone, and that a read under a later one did not show, is never seen afterwards. A linearizable history may
 * still have it, because the write was not answered. Does not look at writes that are submitted again, and starts anew when the power fails.
 */
import { Violation } from './checker.ts';

/** A read while it is under way. */
export interface EpochRead {
  readonly epoch: number;
  readonly startedAt: number;
}

interface Seen {
  /** The latest epoch that each write was submitted under. */
  readonly submitted: Map<number, number>;
  /** Since when, and by a read of which epoch, a write is out of the question. */
  readonly excluded: Map<number, { readonly at: number; readonly epoch: number }>;
}

export class StaleWrites {
  readonly name = 'stale-writes';
  private time = 0;
  private readonly places = new Map<string, Seen>();

  /** A write is submitted to the volume's owner. */
  submitted(place: string, write: number, epoch: number): void {
    const { submitted, excluded } = this.at(place);
    submitted.set(write, Math.max(epoch, submitted.get(write) ?? 0));
    if ((excluded.get(write)?.epoch ?? 0) <= epoch) excluded.delete(write);
  }

  readBegins(epoch: number): EpochRead {
    return { epoch, startedAt: ++this.time };
  }

  readEnds(place: string, { epoch, startedAt }: EpochRead, found: number): void {
    const { submitted, excluded } = this.at(place);
    const settled = excluded.get(found);
    if (settled !== undefined && settled.at < startedAt) {
      throw new Violation(
        this.name,
        `${place} shows write ${found} under epoch ${epoch}: it was submitted under epoch ${submitted.get(found)}, and a read under epoch ${settled.epoch} did not show it`,
      );
    }
    const at = ++this.time;
    for (const [write, of] of submitted) if (write !== found && of < epoch && !excluded.has(write)) excluded.set(write, { at, epoch });
  }

  powerFailed(): void {
    this.places.clear();
  }

  private at(place: string): Seen {
    let seen = this.places.get(place);
    if (seen === undefined) {
      seen = { submitted: new Map(), excluded: new Map() };
      this.places.set(place, seen);
    }
    return seen;
  }
}
