/** What is proved of a stored log before anyone relies on it. */
import { ArchipelagoError, hex16 } from '../../base/index.ts';
import type { Entry } from '../core/types.ts';
import { corrupt, decodeEntry, type Meta } from './records.ts';
import { type Mark, markOf } from './watermark.ts';

/** A view that later writes do not change. */
export interface DatabaseSnapshot {
  close(): Promise<void>;
}

/** Changes that become durable together or not at all. */
export interface DatabaseBatch {
  put(key: string, value: Uint8Array): unknown;
  del(key: string): unknown;
  write(options: { readonly sync: true }): Promise<void>;
}

/** What is used of LevelDB. Keys sort by their UTF-8; a range begins behind `gt`, or at `gte`, and ends before `lt`. */
export interface Database {
  get(key: string, options?: { readonly snapshot: DatabaseSnapshot }): Promise<Uint8Array | undefined>;
  batch(): DatabaseBatch;
  iterator(range: { readonly gt: string; readonly lt: string; readonly snapshot?: DatabaseSnapshot }): AsyncIterable<[string, Uint8Array]>;
  /** Not synced. */
  clear(range: { readonly gt?: string; readonly gte?: string; readonly lt: string }): Promise<void>;
  snapshot(): DatabaseSnapshot;
  close(): Promise<void>;
}

export const META_KEY = 'm';
const ENTRY_PREFIX = 'e/';
export const STATE_PREFIX = 's/';

export function entryKey(index: number): string {
  return ENTRY_PREFIX + hex16(index);
}

export function statePrefix(generation: number): string {
  return `${STATE_PREFIX}${hex16(generation)}/`;
}

/**
 * The database is at least as new as the mark says it was synced. A torn last batch is cut by LevelDB itself: the database is then what
 * the batch before left, and the mark is no newer than that.
 */
export function checkAgainstMark(meta: Meta, mark: Mark, directory: string): void {
  if (meta.term < mark.term)
    throw corrupt(`its term went back from ${mark.term} to ${meta.term}: a vote or entries that were synced are gone`, directory);
  if (meta.batch < mark.batch) {
    throw corrupt(
      `records that were synced are gone: batch ${mark.batch} was, the newest here is ${meta.batch} (log up to ${meta.last.index}, was ${mark.lastIndex})`,
      directory,
    );
  }
  if (meta.batch > mark.batch) return;
  const now = markOf(meta);
  if (now.term !== mark.term || now.vote !== mark.vote || now.lastIndex !== mark.lastIndex || now.chain !== mark.chain) {
    throw corrupt(`batch ${meta.batch} is not the one that was synced`, directory);
  }
}

/** All entries, each whole, in its place, and linked to the one before, from the base to the end that the meta record names. */
export async function readEntries(database: Database, meta: Meta, directory: string): Promise<{ entries: Entry[]; chains: number[] }> {
  const entries: Entry[] = [];
  const chains = [meta.base.chain];
  let index = meta.base.index;
  let chain = meta.base.chain;
  for await (const [key, record] of database.iterator({ gt: ENTRY_PREFIX, lt: `${ENTRY_PREFIX}g` })) {
    index++;
    if (key !== entryKey(index)) throw corrupt(`entry ${index} is missing; the next record is ${key}`, directory);
    const decoded = decodeEntry(record, index, chain, directory);
    chain = decoded.chain;
    chains.push(chain);
    entries.push(decoded.entry);
  }
  if (index !== meta.last.index) throw corrupt(`the log ends at entry ${index} and not at ${meta.last.index}`, directory);
  if (chain !== meta.last.chain) throw corrupt(`entry ${index} is not the one that was stored last`, directory);
  const lastTerm = entries.at(-1)?.term ?? meta.base.term;
  if (lastTerm > meta.term) throw corrupt(`it has entries of term ${lastTerm}, but its stored term went back to ${meta.term}`, directory);
  return { entries, chains };
}

/** LevelDB's reasons for not opening, in words that say what to do. */
export function openFailure(error: unknown, directory: string): ArchipelagoError {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const code = (cause as { code?: string }).code;
  const text = cause instanceof Error ? cause.message : String(cause);
  if (code === 'LEVEL_LOCKED') {
    return new ArchipelagoError('in-use', `Raft log in ${directory} is open in another process`, {
      cause: error,
      hint: 'stop the other process first',
    });
  }
  if (code === 'LEVEL_CORRUPTION' || /no such file/i.test(text)) return corrupt(text, directory, error);
  return new ArchipelagoError('io-error', `Raft log in ${directory} cannot be opened: ${text}`, {
    cause: error,
    hint: 'check the disk and the directory’s permissions',
  });
}
