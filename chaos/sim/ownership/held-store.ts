/** A store whose operations can be kept under way for as long as a story likes: those of a paused process, or of a slow disk. */
import type { Operation } from '../volume/operation.ts';
import { SimStore } from '../volume/store.ts';

export class HeldStore extends SimStore {
  /** How many of the operations that come next are kept; they do not run with the others. */
  holding = 0;
  private readonly held: Operation[] = [];

  override start(operation: Operation): void {
    if (this.holding === 0 || this.dead) {
      super.start(operation);
      return;
    }
    this.holding--;
    this.held.push(operation);
  }

  override die(): void {
    super.die();
    this.held.length = 0;
  }

  get heldOperations(): number {
    return this.held.length;
  }

  /** What was kept reaches the disk, in order, and is answered. What it sets off is not kept. */
  land(): void {
    this.holding = 0;
    for (const operation of this.held.splice(0)) operation.run();
  }
}
