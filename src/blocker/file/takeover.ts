/**
 * Taking a volume's log over. Nothing in a file system can be guarded against an owner that is paused and wakes up, so the log of each
 * epoch lies under names of its own: the new owner copies what it finds, makes the copy durable, and never reads the old names again.
 * What the old owner still writes there is read by nobody.
 */
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { ArchipelagoError, type Epoch, hex16, type VolumeId } from '../../base/index.ts';
import { superseded, volumeText } from '../answers.ts';
import type { JournalSegment } from '../store.ts';
import { writeDurably } from './durability.ts';
import { epochOf, HEADER, segmentName, segmentOf, TEMPORARY, UNSYNCED, VOLUMES, volumePath } from './layout.ts';
import type { FileStoreParts } from './parts.ts';
import { forEachBounded } from './rounds.ts';

export interface LogContent {
  readonly header: Uint8Array | null;
  readonly segments: readonly JournalSegment[];
  /** True when a dead owner may have left data in the page cache that nobody has synced since. */
  readonly unsynced: boolean;
}

export interface TakenLog extends LogContent {
  readonly logDirectory: string;
  /** Logs of earlier epochs and of takeovers that did not end, to be removed now that ours is durable. */
  readonly leftovers: readonly string[];
}

/** How often a log is read again because its owner, which should be dead, is replacing the header meanwhile. */
const READ_ATTEMPTS = 8;

export async function takeLogOver(parts: FileStoreParts, volume: VolumeId, epoch: Epoch, clean: boolean): Promise<TakenLog> {
  const directory = volumePath(parts.directory, volume);
  try {
    const made = await mkdir(directory, { recursive: true, mode: 0o700 });
    if (made !== undefined) await parts.durability.directory(`${parts.directory}/${VOLUMES}`);
    const names = await readdir(directory);
    const newest = newestEpoch(names);
    if (newest > epoch) throw superseded(volume, epoch, newest);
    const logDirectory = `${directory}/${hex16(epoch)}`;
    let content: LogContent;
    if (newest === epoch) {
      // We took it over before and died before we could say so; the entry may not be durable yet.
      content = await readLog(logDirectory);
      await parts.durability.directory(directory);
    } else {
      content = newest === 0 ? { header: null, segments: [], unsynced: false } : await readLog(`${directory}/${hex16(newest)}`);
      if (newest !== 0 && !clean) content = { ...content, unsynced: true };
      await placeLog(parts, directory, epoch, content);
    }
    const after = newestEpoch(await readdir(directory));
    if (after > epoch) throw superseded(volume, epoch, after);
    return { ...content, logDirectory, leftovers: leftoversOf(names, epoch).map((name) => `${directory}/${name}`) };
  } catch (error) {
    // A later owner that removes what we were reading.
    const newest = newestEpoch(await readdir(directory).catch(() => []));
    if (newest > epoch) throw superseded(volume, epoch, newest);
    throw ArchipelagoError.from(error, `taking over ${volumeText(volume)} in ${directory}`);
  }
}

/** Zero when there is none. */
function newestEpoch(names: readonly string[]): number {
  return names.reduce((newest, name) => Math.max(newest, epochOf(name) ?? 0), 0);
}

function leftoversOf(names: readonly string[], epoch: number): string[] {
  return names.filter((name) => {
    const owner = epochOf(name.endsWith(TEMPORARY) ? name.slice(0, -TEMPORARY.length) : name);
    return owner !== null && owner < epoch;
  });
}

/**
 * Reads a log that nobody should be writing; but an owner that is only slow may. Its header must not be older than the segments that are
 * there, or records would be missing, so the header has to be the same before and after.
 */
async function readLog(directory: string): Promise<LogContent> {
  let header = await readOrNull(`${directory}/${HEADER}`);
  for (let attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
    const content = await readSegments(directory);
    const again = await readOrNull(`${directory}/${HEADER}`);
    if (content !== null && equal(header, again)) return { header, ...content };
    header = again;
  }
  throw new ArchipelagoError('unavailable', `${directory} does not come to rest: its former owner still replaces the header`);
}

/** Null when one was removed meanwhile. */
async function readSegments(directory: string): Promise<Pick<LogContent, 'segments' | 'unsynced'> | null> {
  const names = await readdir(directory);
  const segments: JournalSegment[] = [];
  for (const name of names.sort()) {
    const number = segmentOf(name);
    if (number === null) continue;
    const bytes = await readOrNull(`${directory}/${name}`);
    if (bytes === null) return null;
    segments.push({ number, bytes });
  }
  return { segments, unsynced: names.includes(UNSYNCED) };
}

/** Writes a log under a temporary name, makes it durable, and gives it the name of its epoch. */
async function placeLog(parts: FileStoreParts, directory: string, epoch: number, content: LogContent): Promise<void> {
  const place = `${directory}/${hex16(epoch)}`;
  const temporary = `${place}${TEMPORARY}`;
  await rm(temporary, { recursive: true, force: true });
  await mkdir(temporary, { mode: 0o700 });
  const files = content.segments.map(({ number, bytes }) => ({ name: segmentName(number), bytes }));
  if (content.header !== null) files.push({ name: HEADER, bytes: content.header });
  if (content.unsynced) files.push({ name: UNSYNCED, bytes: new Uint8Array(0) });
  await forEachBounded(files, parts.syncParallelism, ({ name, bytes }) => writeDurably(parts.durability, `${temporary}/${name}`, bytes));
  await parts.durability.directory(temporary);
  await rename(temporary, place);
  await parts.durability.directory(directory);
}

async function readOrNull(path: string): Promise<Uint8Array | null> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

function equal(a: Uint8Array | null, b: Uint8Array | null): boolean {
  return a === null || b === null ? a === b : Buffer.compare(a, b) === 0;
}
