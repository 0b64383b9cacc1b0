/** A set of object names, without a string for each: there may be as many as a volume has blocks. */
import type { Generation } from '../base/index.ts';
import type { ObjectName } from './store.ts';

export class ObjectNames implements Iterable<ObjectName> {
  private readonly names = new Map<Generation, Map<number, ObjectName>>();

  add(name: ObjectName): void {
    let ofGeneration = this.names.get(name.generation);
    if (ofGeneration === undefined) {
      ofGeneration = new Map();
      this.names.set(name.generation, ofGeneration);
    }
    ofGeneration.set(name.index, name);
  }

  delete({ generation, index }: ObjectName): void {
    const ofGeneration = this.names.get(generation);
    if (ofGeneration?.delete(index) && ofGeneration.size === 0) this.names.delete(generation);
  }

  get isEmpty(): boolean {
    return this.names.size === 0;
  }

  generations(): Iterable<Generation> {
    return this.names.keys();
  }

  *[Symbol.iterator](): Iterator<ObjectName> {
    for (const ofGeneration of this.names.values()) yield* ofGeneration.values();
  }
}
