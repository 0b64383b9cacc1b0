/**
 * Verifies that each operation takes effect at one place in the log at most, however often it was proposed, and at none if its client was
 * told that nobody took it. Does not verify that an acknowledged one took effect; that is `linearizability`.
 */
import { type Checker, Violation } from './checker.ts';

export class AppliedOnce implements Checker {
  readonly name = 'applied-once';
  private readonly places = new Map<number, number>();
  private readonly refusals = new Set<number>();

  ran(id: string, index: number, { operation }: { operation: number }): void {
    const place = this.places.get(operation);
    if (place !== undefined && place !== index)
      throw new Violation(this.name, `${id} applies operation ${operation} at ${index}, and it was applied at ${place}`);
    this.places.set(operation, index);
    this.checkRefused(operation);
  }

  refused(operation: number): void {
    this.refusals.add(operation);
    this.checkRefused(operation);
  }

  private checkRefused(operation: number): void {
    if (this.refusals.has(operation) && this.places.has(operation)) {
      throw new Violation(this.name, `operation ${operation} was refused as certainly not applied, and is applied at ${this.places.get(operation)}`);
    }
  }
}
