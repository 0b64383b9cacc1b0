/** What is proved of a stored log before anyone relies on it. */
import { ArchipelagoError, hex16 } from '../../base/index.ts';
import type { Entry } from '../core/types.ts';
import { checkChain, corrupt, decodeRun, type Meta } from './records.ts';
import { type Mark, markOf } from './watermark.ts';

/** A view that later writes do not change. */
export interface DatabaseSnapshot {
  close(): Promise<void>;
}

/** Changes that become durable together or not at all. */
export interface DatabaseBatch {
  /** Copies the value at once. */
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

function indexOf(key: string): number {
  return Number.parseInt(key.slice(ENTRY_PREFIX.length), 16);
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

/** A record of the log: the index of its first entry, and the chain before it. */
export interface Run {
  readonly first: number;
  readonly chainBefore: number;
}

/** All entries behind the base, in records that are whole, in their places, and linked to the one before, up to the end that the meta record names. */
export async function readEntries(database: Database, meta: Meta, directory: string): Promise<{ entries: Entry[]; runs: Run[] }> {
  const { base } = meta;
  const entries: Entry[] = [];
  const runs: Run[] = [];
  let chain = meta.first.chain;
  for await (const [key, record] of database.iterator({ gt: ENTRY_PREFIX, lt: `${ENTRY_PREFIX}g` })) {
    const next = base.index + entries.length + 1;
    const first = indexOf(key);
    const isFirst = runs.length === 0;
    if (first > next || (isFirst && first !== meta.first.index)) {
      throw corrupt(`entry ${isFirst ? meta.first.index : next} is missing; the next record is ${key}`, directory);
    }
    const stored = decodeRun(record, first, directory);
    runs.push({ first, chainBefore: chain });
    chain = checkChain(record, first, chain, directory);
    // What the record before has from here on was replaced by this one.
    entries.length = Math.max(0, first - base.index - 1);
    for (const entry of stored) if (entry.index > base.index) entries.push(entry);
  }
  const lastIndex = base.index + entries.length;
  if (lastIndex !== meta.last.index) throw corrupt(`the log ends at entry ${lastIndex} and not at ${meta.last.index}`, directory);
  if (chain !== meta.last.chain) throw corrupt(`entry ${lastIndex} is not the one that was stored last`, directory);
  const lastTerm = entries.at(-1)?.term ?? base.term;
  if (lastTerm > meta.term) throw corrupt(`it has entries of term ${lastTerm}, but its stored term went back to ${meta.term}`, directory);
  return { entries, runs };
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
