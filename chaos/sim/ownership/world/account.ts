/**
 * What guests asked and were told, for the checkers: each sector is a register, a request over several sectors one operation on each. A
 * failure of the power begins a new era, in which a sector begins with what is found of the era before.
 */
import { sectorId } from '../../../checkers/never-torn-nor-foreign.ts';
import { type PendingChange, type PendingRead, Twin } from '../../volume/twin.ts';
import { Ledger, placeOf } from '../ledger.ts';

type Operation = ReturnType<Ledger['begin']>;

export interface Change {
  readonly first: number;
  readonly write: number;
  readonly operations: readonly Operation[];
  readonly change: PendingChange;
  /** What it may have done once more. */
  readonly repeated: { readonly operations: readonly Operation[]; readonly change: PendingChange }[];
}

export interface Look {
  readonly first: number;
  readonly read: PendingRead;
  readonly operations: readonly Operation[];
}

export class Account {
  readonly ledger = new Ledger();
  readonly twin = new Twin();
  private writes = 0;
  /** Changes that were not answered; also those that never will be. */
  private readonly open = new Set<Change>();
  private readonly volume: number;

  constructor(volume: number) {
    this.volume = volume;
  }

  nextWrite(): number {
    return ++this.writes;
  }

  beginChange(first: number, count: number, write: number): Change {
    const operations = this.operations('write', first, count, write);
    const begun = { first, write, operations, change: this.twin.beginChange(first, count, write), repeated: [] };
    this.open.add(begun);
    return begun;
  }

  endChange(ended: Change, durable: boolean): void {
    this.open.delete(ended);
    for (const { operations, change } of ended.repeated) {
      for (const operation of operations) this.ledger.endAgain(operation);
      this.twin.endChange(change, false, false);
    }
    for (const operation of ended.operations) this.ledger.end(operation);
    this.twin.endChange(ended.change, true, durable);
  }

  /** Whoever would send it again is gone: it was done or not, or will be. */
  abandon(change: Change): void {
    this.open.delete(change);
  }

  /** A new owner does not know what the one before had done of what has no answer, and is sent it again. */
  takenOver(): void {
    for (const { first, write, operations, repeated } of this.open) {
      const again = operations.map((operation) => this.ledger.again(operation));
      repeated.push({ operations: again, change: this.twin.beginChange(first, again.length, write) });
    }
  }

  beginRead(first: number, count: number): Look {
    return { first, read: this.twin.beginRead(), operations: this.operations('read', first, count) };
  }

  endRead({ first, read, operations }: Look, bytes: Uint8Array): void {
    const words = new Uint32Array(bytes.buffer);
    operations.forEach((operation, at) => void this.ledger.end(operation, sectorId(words, at, first + at)));
    // What is plainly wrong need not wait for the end.
    this.twin.checkRead(first, words, read.start);
    this.twin.endRead(read);
  }

  /** It failed, or whoever asked is gone. */
  abandonRead({ read }: Look): void {
    this.twin.endRead(read);
  }

  /** What was found later is what there was by the moment `returned`. */
  endReadAt({ operations }: Look, write: number, returned: number): void {
    for (const operation of operations) this.ledger.endReadAt(operation, write, returned);
  }

  powerFailed(): void {
    this.open.clear();
    this.ledger.powerFailed();
    this.twin.processDied();
  }

  /** What a sector shows before anyone uses it again after the power has failed. */
  settle(sector: number, words: Uint32Array, write: number): void {
    this.twin.settle(sector, words, true);
    this.ledger.holds(placeOf(this.volume, sector), write);
  }

  private operations(kind: 'read' | 'write', first: number, count: number, write?: number): Operation[] {
    return Array.from({ length: count }, (_, at) => this.ledger.begin(kind, placeOf(this.volume, first + at), write));
  }
}
