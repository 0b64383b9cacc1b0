/** A store of pages and short ways to make map changes, for the tests of the map. */
import { expect } from 'vitest';
import { ArchipelagoError, type ErrorCode, type Generation } from '../../../src/base/index.ts';
import { type BlockMap, END, LAYERED, MISSING, type MissingPage } from '../../../src/mapper/core/block-map.ts';
import type { Fold } from '../../../src/mapper/core/fold.ts';
import type { EntryChange, LayeredEntry, PageRef } from '../../../src/mapper/core/types.ts';

export const generation = (value: number): Generation => value as Generation;
export const plain = (index: number, value: number): EntryChange => ({ kind: 'plain', index, generation: generation(value) });
export const absent = (index: number): EntryChange => ({ kind: 'absent', index });
export const truncate = (index: number): EntryChange => ({ kind: 'truncate', index });

export function layeredEntry(value: number, base: number, presenceLow = 1, presenceHigh = 0): LayeredEntry {
  return { generation: generation(value), base: generation(base), presenceLow, presenceHigh };
}

export function layered(index: number, value: number, base: number, presenceLow = 1, presenceHigh = 0): EntryChange {
  return { kind: 'layered', index, ...layeredEntry(value, base, presenceLow, presenceHigh) };
}

export class PageStore {
  readonly pages = new Map<string, Uint8Array>();
  reads = 0;
  nextSequence = 1;
  bytesWritten = 0;

  read(ref: PageRef): Uint8Array {
    const bytes = this.pages.get(`${ref.generation}.${ref.sequence}`);
    if (bytes === undefined) throw new Error(`no page ${ref.generation}.${ref.sequence}`);
    this.reads++;
    return bytes;
  }

  write(fold: Fold): void {
    for (const page of fold.pages) {
      const name = `${page.generation}.${page.sequence}`;
      expect(this.pages.has(name)).toBe(false);
      this.pages.set(name, page.bytes);
      this.bytesWritten += page.bytes.byteLength;
    }
    this.nextSequence = fold.nextSequence;
  }

  /** Folds, writes and reports it written. */
  fold(map: BlockMap, name = generation(1)): Fold {
    const fold = map.fold(name, this.nextSequence);
    this.write(fold);
    map.written(fold);
    return fold;
  }

  apply(map: BlockMap, ...changes: EntryChange[]): void {
    for (const change of changes) {
      for (let missing = map.apply(change); missing !== null; missing = map.apply(change)) this.load(map, missing);
    }
  }

  load(map: BlockMap, missing: MissingPage): void {
    map.install(missing, this.read(missing));
  }

  /** 0, a generation, or the layered entry. */
  get(map: BlockMap, index: number): number | LayeredEntry {
    for (;;) {
      const value = map.generationOf(index);
      if (value === LAYERED) return map.layered(index);
      if (value !== MISSING) return value;
      this.load(map, map.missing(index));
    }
  }

  next(map: BlockMap, index: number): number {
    for (;;) {
      const next = map.nextAllocated(index);
      if (next !== MISSING) return next;
      this.load(map, map.nextMissing(index));
    }
  }

  /** All entries, by what the map says. */
  entries(map: BlockMap): Map<number, number | LayeredEntry> {
    const entries = new Map<number, number | LayeredEntry>();
    for (let index = this.next(map, 0); index !== END; index = this.next(map, index + 1)) entries.set(index, this.get(map, index));
    return entries;
  }
}

/** What a map must hold, the simple way. */
export class NaiveMap {
  readonly entries = new Map<number, number | LayeredEntry>();

  apply(change: EntryChange): void {
    if (change.kind === 'absent') this.entries.delete(change.index);
    else if (change.kind === 'plain') this.entries.set(change.index, change.generation);
    else if (change.kind === 'layered') {
      const { generation, base, presenceLow, presenceHigh } = change;
      this.entries.set(change.index, { generation, base, presenceLow, presenceHigh });
    } else if (change.kind === 'truncate') {
      for (const index of this.entries.keys()) if (index >= change.index) this.entries.delete(index);
    }
  }

  sorted(): Map<number, number | LayeredEntry> {
    return new Map([...this.entries].sort((a, b) => a[0] - b[0]));
  }
}

/** The code of the error that `work` throws; fails when it throws none, or another one. */
export function codeOf(work: () => unknown): ErrorCode {
  try {
    work();
  } catch (error) {
    if (error instanceof ArchipelagoError) return error.code;
    throw error;
  }
  throw new Error('nothing was thrown');
}
