/**
 * Taking a volume's log over. Nothing in a file system can be guarded against an owner that is paused and wakes up, so the log of each
 * epoch lies under names of its own: the new owner copies what it finds and never reads the old names again. What the old owner still
 * writes there is read by nobody. Nor can it put copies of objects in their place any more once this has returned (`claim.ts`).
 *
 * A guest waits for this, so nothing is synced in it. The copy is made durable in the background ('settled'), and whatever promises
 * durability waits for that. Until then the copy counts only under the boot in which it was made: after a power failure the next owner
 * goes back to the newest log that did settle, which is why the former ones are removed only then. No flush was answered in between.
 *
 * The calls are synchronous: about twenty short ones, which would each wait behind the flushes in libuv's pool. A log is small, because
 * its owner bounds what has to be replayed.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { open, rm, writeFile } from 'node:fs/promises';
import { ArchipelagoError, type Epoch, hex16, type VolumeId } from '../../base/index.ts';
import { superseded, volumeText } from '../answers.ts';
import type { JournalSegment, VolumeLog } from '../store.ts';
import { BOOT, CLAIMS, epochOf, HEADER, OWNER, SETTLED, segmentName, segmentOf, TEMPORARY, UNSYNCED, VOLUMES, volumePath } from './layout.ts';
import { isDead, type OwnerProcess, parseOwner } from './owner-process.ts';
import type { FileStoreParts } from './parts.ts';
import { forEachBounded } from './rounds.ts';

interface LogContent {
  readonly header: Uint8Array | null;
  readonly segments: readonly JournalSegment[];
  /** True when a dead owner may have left data in the page cache that nobody has synced since. */
  readonly unsynced: boolean;
}

interface TrustedLog {
  readonly path: string;
  readonly epoch: Epoch;
  readonly isOfThisBoot: boolean;
}

export interface TakenLog extends LogContent {
  readonly logDirectory: string;
  /** Whose log it was; null when there is none. The process is null when the log does not say. */
  readonly predecessor: { readonly epoch: Epoch; readonly process: OwnerProcess | null; readonly isDead: boolean } | null;
  /** Makes the copy durable, then removes what came before it. To be called once. */
  settle(): Promise<void>;
}

/** How often a log is read again because its owner, which should be dead, is replacing the header meanwhile. */
const READ_ATTEMPTS = 8;
/** How many files of a log are synced at a time: half of libuv's pool, by default. In the other half guests' first I/O opens its objects. */
const SETTLED_AT_ONCE = 2;
/** How often a directory of copies is emptied again because a former owner still makes some. */
const EMPTYING_ATTEMPTS = 64;

export function takeLogOver(parts: FileStoreParts, volume: VolumeId, epoch: Epoch, clean: boolean): TakenLog {
  const directory = volumePath(parts.directory, volume);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const names = readdirSync(directory);
    refuseStale(names, volume, epoch);
    const logDirectory = `${directory}/${hex16(epoch)}`;
    const source = trustedLog(parts, directory, names);
    let content: LogContent = source === null ? { header: null, segments: [], unsynced: false } : readLog(source.path);
    // What was left in the page cache under an earlier boot is durable or gone.
    content = { ...content, unsynced: source?.isOfThisBoot === true && (content.unsynced || !clean) };
    const found = source && predecessorOf(parts, source);
    // Under our own epoch we took it over before, and died before we could say so.
    if (source?.path !== logDirectory) placeLog(parts, logDirectory, content);
    else setUp(parts, logDirectory);
    const namesNow = readdirSync(directory);
    refuseStale(namesNow, volume, epoch);
    const between = ownerBetween(names, namesNow, source?.epoch ?? 0, epoch);
    const predecessor = between ?? found;
    // From here on the owners before find our log. One that is about to place its own finds it as well, and gives up.
    for (const name of namesNow) {
      if ((epochOf(name) ?? epoch) < epoch) endClaims(`${directory}/${name}/${CLAIMS}`, clean && between === null);
    }
    const leftovers = names.filter((name) => isLeftover(name, epoch)).map((name) => `${directory}/${name}`);
    return { ...content, logDirectory, predecessor, settle: () => settle(parts, directory, logDirectory, leftovers) };
  } catch (error) {
    // A later owner may have removed what we were reading.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') refuseStale(readdirSync(directory), volume, epoch);
    throw ArchipelagoError.from(error, `taking over ${volumeText(volume)} in ${directory}`);
  }
}

/**
 * An owner whose log came into its place after we had looked and before ours was there. It goes on for a moment, so something of it may be
 * under way; but nothing of it was ever answered, since its ownership had ended before ours began, and so there is nothing in its log for us.
 */
function ownerBetween(before: readonly string[], now: readonly string[], after: number, epoch: Epoch): TakenLog['predecessor'] {
  const newest = Math.max(
    after,
    ...now
      .filter((name) => !before.includes(name))
      .map((name) => epochOf(name) ?? 0)
      .filter((owner) => owner < epoch),
  );
  return newest === after ? null : { epoch: newest as Epoch, process: null, isDead: false };
}

function predecessorOf(parts: FileStoreParts, source: TrustedLog): TakenLog['predecessor'] {
  const owner = parseOwner(readOrNull(`${source.path}/${OWNER}`)?.toString() ?? null);
  return { epoch: source.epoch, process: owner, isDead: !source.isOfThisBoot || (owner !== null && isDead(owner, parts.process)) };
}

/**
 * Removes the copies that a former owner was about to put in the place of objects, and their directory, so that there can be no more. Each
 * step is one of the file system's own, so a rename by that owner comes before or fails. One that is `drained` claims nothing any more, and
 * has ended the claims of those before it: its directory goes with its log. Removing one takes milliseconds while a disk is syncing.
 */
function endClaims(directory: string, drained: boolean): void {
  for (let attempt = 0; attempt < EMPTYING_ATTEMPTS; attempt++) {
    try {
      const names = readdirSync(directory);
      if (drained && names.length === 0) return;
      for (const name of names) rmSync(`${directory}/${name}`, { force: true });
      rmdirSync(directory);
      return;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'ENOENT') return;
      if (code !== 'ENOTEMPTY') throw error;
    }
  }
  throw new ArchipelagoError('unavailable', `${directory} does not become empty: a former owner still claims objects`);
}

/** The header of the newest log that counts; null when there is none. */
export function readNewestHeader(parts: FileStoreParts, volume: VolumeId): Uint8Array | null {
  const directory = volumePath(parts.directory, volume);
  try {
    const source = trustedLog(parts, directory, readdirSync(directory));
    return source && readOrNull(`${source.path}/${HEADER}`);
  } catch (error) {
    // Never owned, just removed, or replaced by a new owner's log in between: nothing that could be told.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw ArchipelagoError.from(error, `reading the header of ${volumeText(volume)} in ${directory}`);
  }
}

/**
 * The log that the next owner would go on from, at one moment and for good: its header is durable, and so is the word that no log before it
 * counts any more. Else a power failure could bring back an older header, whose map names objects that this one has dropped.
 */
export async function readLogDurably(parts: FileStoreParts, volume: VolumeId): Promise<VolumeLog | null> {
  const directory = volumePath(parts.directory, volume);
  for (let attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
    try {
      const source = trustedLog(parts, directory, readdirSync(directory));
      if (source === null) return null;
      const { header, segments } = readLog(source.path);
      // Its owner may have died before it could, and nobody may have come since.
      await settle(parts, directory, source.path, []);
      await parts.durability.directory(source.path);
      // A new owner may have copied the log before we read it: then its own is the one that counts.
      if (trustedLog(parts, directory, readdirSync(directory))?.path === source.path) return { epoch: source.epoch, header, segments };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw ArchipelagoError.from(error, `reading the log of ${volumeText(volume)}`);
      if (!existsSync(directory)) return null;
    }
  }
  throw new ArchipelagoError('unavailable', `${directory} does not come to rest: its owners change too fast`);
}

function refuseStale(names: readonly string[], volume: VolumeId, epoch: Epoch): void {
  const refusal = successor(names, volume, epoch);
  if (refusal !== null) throw refusal;
}

/** The newest log that is settled, or was written under this boot; null when there is none. */
function trustedLog(parts: FileStoreParts, directory: string, names: readonly string[]): TrustedLog | null {
  const logs = names.filter((name) => epochOf(name) !== null).sort();
  for (const name of logs.reverse()) {
    const path = `${directory}/${name}`;
    const isOfThisBoot = readOrNull(`${path}/${BOOT}`)?.toString() === parts.bootId;
    if (isOfThisBoot || readdirSync(path).includes(SETTLED)) return { path, epoch: epochOf(name) as Epoch, isOfThisBoot };
  }
  return null;
}

function isLeftover(name: string, epoch: number): boolean {
  const owner = epochOf(name.endsWith(TEMPORARY) ? name.slice(0, -TEMPORARY.length) : name);
  return owner !== null && owner < epoch;
}

/**
 * Reads a log that nobody should be writing; but an owner that is only slow may. Its header must not be older than the segments that are
 * there, or records would be missing, so the header has to be the same before and after.
 */
function readLog(directory: string): LogContent {
  let header = readOrNull(`${directory}/${HEADER}`);
  for (let attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
    const content = readSegments(directory);
    const again = readOrNull(`${directory}/${HEADER}`);
    if (content !== null && equal(header, again)) return { header, ...content };
    header = again;
  }
  throw new ArchipelagoError('unavailable', `${directory} does not come to rest: its former owner still replaces the header`);
}

/** Null when one was removed meanwhile. */
function readSegments(directory: string): Pick<LogContent, 'segments' | 'unsynced'> | null {
  const names = readdirSync(directory);
  const segments: JournalSegment[] = [];
  for (const name of names.sort()) {
    const number = segmentOf(name);
    if (number === null) continue;
    const bytes = readOrNull(`${directory}/${name}`);
    if (bytes === null) return null;
    segments.push({ number, bytes });
  }
  return { segments, unsynced: names.includes(UNSYNCED) };
}

/** Writes a log under a temporary name and gives it the name of its epoch; what lay there was not trusted. */
function placeLog(parts: FileStoreParts, place: string, content: LogContent): void {
  const temporary = `${place}${TEMPORARY}`;
  for (const path of [temporary, place]) rmSync(path, { recursive: true, force: true });
  mkdirSync(temporary, { mode: 0o700 });
  writeFileSync(`${temporary}/${BOOT}`, parts.bootId, { mode: 0o600 });
  if (content.header !== null) writeFileSync(`${temporary}/${HEADER}`, content.header, { mode: 0o600 });
  for (const { number, bytes } of content.segments) writeFileSync(`${temporary}/${segmentName(number)}`, bytes, { mode: 0o600 });
  if (content.unsynced) writeFileSync(`${temporary}/${UNSYNCED}`, '', { mode: 0o600 });
  setUp(parts, temporary);
  renameSync(temporary, place);
}

/** What belongs to this owner alone. */
function setUp(parts: FileStoreParts, logDirectory: string): void {
  writeFileSync(`${logDirectory}/${OWNER}`, JSON.stringify(parts.process), { mode: 0o600 });
  mkdirSync(`${logDirectory}/${CLAIMS}`, { recursive: true, mode: 0o700 });
}

/** Says whether an owner with a later epoch than ours has taken over; null when none has. A volume that was removed has no owner at all. */
export function successor(names: readonly string[], volume: VolumeId, epoch: Epoch): ArchipelagoError | null {
  const newest = names.reduce((highest, name) => Math.max(highest, epochOf(name) ?? 0), 0);
  return newest > epoch ? superseded(volume, epoch, newest) : null;
}

/** First the content, then the word that it is complete, then the way to it, and only then the removal of what it replaces. */
async function settle(parts: FileStoreParts, directory: string, logDirectory: string, leftovers: readonly string[]): Promise<void> {
  const { durability } = parts;
  // While a file system syncs, the calls of a takeover wait for it, and guests with them: of many volumes, all are taken over first.
  await parts.takeovers.whenNobodyWaits();
  if (!readdirSync(logDirectory).includes(SETTLED)) {
    const names = readdirSync(logDirectory).filter((name) => name === HEADER || segmentOf(name) !== null);
    await forEachBounded(names, Math.min(parts.syncParallelism, SETTLED_AT_ONCE), (name) => syncFile(parts, `${logDirectory}/${name}`));
    await durability.directory(logDirectory);
    await writeFile(`${logDirectory}/${SETTLED}`, '', { mode: 0o600 });
    await durability.directory(logDirectory);
  }
  await durability.directory(directory);
  await durability.directory(`${parts.directory}/${VOLUMES}`);
  for (const path of leftovers) {
    await rm(path, { recursive: true, force: true }).catch((error: unknown) => {
      parts.log.warn({ error, path }, 'removing a former log failed; the next takeover tries again');
    });
  }
}

/** Our own journal may have been dropped meanwhile. */
async function syncFile(parts: FileStoreParts, path: string): Promise<void> {
  const file = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (file === null) return;
  try {
    await parts.durability.data(file.fd, path);
  } finally {
    await file.close();
  }
}

function readOrNull(path: string): Buffer | null {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

function equal(a: Uint8Array | null, b: Uint8Array | null): boolean {
  return a === null || b === null ? a === b : Buffer.compare(a, b) === 0;
}
