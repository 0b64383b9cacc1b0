/** The object files of one owner by name. One stays as long as it has a handle, an open descriptor, or something to sync. */
import type { Generation } from '../../base/index.ts';
import { ObjectFile, type ObjectOwner } from './object-file.ts';
import { nextTurn } from './turns.ts';

/** Well below a millisecond: guests of other volumes wait meanwhile. */
const CLOSED_A_TURN = 256;

export class ObjectTable {
  private readonly owner: ObjectOwner;
  /** Two levels of numbers: no string is built to look one up. */
  private readonly generations = new Map<number, Map<number, ObjectFile>>();

  constructor(owner: ObjectOwner) {
    this.owner = owner;
  }

  /** One more handle to an object. */
  handle(generation: Generation, index: number): ObjectFile {
    const file = this.get(generation, index);
    file.handles++;
    return file;
  }

  get(generation: Generation, index: number): ObjectFile {
    let files = this.generations.get(generation);
    if (files === undefined) {
      files = new Map();
      this.generations.set(generation, files);
    }
    let file = files.get(index);
    if (file === undefined) {
      file = new ObjectFile(this.owner, generation, index);
      files.set(index, file);
    }
    return file;
  }

  find(generation: Generation, index: number): ObjectFile | undefined {
    return this.generations.get(generation)?.get(index);
  }

  delete(file: ObjectFile): void {
    const files = this.generations.get(file.generation);
    if (files?.get(file.index) !== file) return;
    files.delete(file.index);
    if (files.size === 0) this.generations.delete(file.generation);
  }

  /** Closes all descriptors, some in each turn. The owner has failed or ended, so none is opened any more, and handles that are left answer with that. */
  async close(): Promise<void> {
    let looked = 0;
    for (const files of this.generations.values()) {
      for (const file of files.values()) {
        file.detach();
        if (++looked % CLOSED_A_TURN === 0) await nextTurn();
      }
    }
  }
}
