/**
 * How an owner makes an object its own where nothing can be guarded: by a private copy that takes the object's name. Whoever has the former
 * file open goes on changing that one, which nobody reads any more. B claims; A is an owner before it, paused anywhere:
 *
 * - A opened the file before B's rename: it has the former file. What lands there before the copy has read that place is in the copy, as
 *   a change that was never answered may be; what lands later is nowhere.
 * - A opens by name after the rename, and gets the copy. B's log, under its epoch, was there before B claimed anything; A looks for such a
 *   log after each opening, finds it, and closes the file unused (`ObjectOwner.supersededNow`).
 * - A makes an object, by exclusive creation: the name was free, so it is none that B's map mentions. It names by a generation that B no
 *   longer names by: an orphan.
 * - A removes an object: the record that drops its entry was in A's journal, and A's lease was checked after that. If B's takeover read
 *   the record, B's map does not name the object. If it did not, the takeover came before the record, hence after the lease's end, and
 *   A does not get as far as the removal. It looks for a later log all the same.
 * - A is itself claiming, and would rename its own older copy over B's. Copies lie in a directory within the claimant's log that it made
 *   before it had taken over, and never makes again. B's takeover empties and removes that directory before it claims anything: a rename
 *   comes either before that, so that B copies its result, or fails, because its source is gone. No new copy can be made there. An owner that drained
 *   and handed over claims nothing any more, so an empty directory of such a one stays until its log goes.
 *
 * The copy is durable before it gets the name; that the name leads to it is durable with the next sync. Until then a power failure may
 * bring the former file back, to which nothing was added that anyone was promised, and by then every process that had it open is dead.
 */
import { close, constants, copyFile, fstat, open, read, rename, unlink } from 'node:fs';
import { promisify } from 'node:util';
import type { FileStoreParts } from './parts.ts';
import { writeWhole, ZEROS } from './transfer.ts';

const openFile = promisify(open);
const closeFile = promisify(close);
const readFile = promisify(read);
const renameFile = promisify(rename);
const unlinkFile = promisify(unlink);
const clone = promisify(copyFile);
const fileStatus = promisify(fstat);

/** What is read at a time, and the grain in which zeros are left out. */
const PIECE_BYTES = 1 << 20;
const GRAIN_BYTES = 65_536;

export interface Copy {
  /** Open for reading and writing. */
  readonly fd: number;
  readonly sizeBytes: number;
}

/** Puts a durable copy of `path`, made as `temporary`, in its place. After an error, `path` is what it was. */
export async function replaceByCopy(parts: FileStoreParts, path: string, temporary: string): Promise<Copy> {
  let fd: number | null = null;
  try {
    fd = await openCopy(parts, path, temporary);
    await parts.durability.data(fd, temporary);
    const { size } = await fileStatus(fd);
    await renameFile(temporary, path);
    return { fd, sizeBytes: size };
  } catch (error) {
    if (fd !== null) await closeFile(fd);
    await unlinkFile(temporary).catch(() => {
      // Not made, or gone with the log that it lay in. Otherwise the next attempt writes it anew.
    });
    throw error;
  }
}

async function openCopy(parts: FileStoreParts, path: string, temporary: string): Promise<number> {
  if (parts.features.sharesExtents) {
    try {
      await clone(path, temporary, constants.COPYFILE_FICLONE_FORCE);
      return await openFile(temporary, constants.O_RDWR);
    } catch (error) {
      if (['ENOENT', 'ENOSPC', 'EDQUOT', 'EIO', 'EMFILE', 'ENFILE'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
      parts.features.sharesExtents = false;
    }
  }
  const from = await openFile(path, constants.O_RDONLY);
  try {
    const to = await openFile(temporary, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC, 0o600);
    try {
      await copyData(from, to);
    } catch (error) {
      await closeFile(to);
      throw error;
    }
    return to;
  } finally {
    await closeFile(from);
  }
}

/** Where the source has zeros, written or not, the copy has nothing: beyond its end a file reads as zeros. */
async function copyData(from: number, to: number): Promise<void> {
  const bytes = Buffer.allocUnsafeSlow(PIECE_BYTES);
  for (let position = 0; ; ) {
    const { bytesRead } = await readFile(from, bytes, 0, PIECE_BYTES, position);
    if (bytesRead === 0) return;
    for (let at = 0; at < bytesRead; ) {
      const [start, end] = nextData(bytes, at, bytesRead);
      if (start < end) await writeAll(to, bytes.subarray(start, end), position + start);
      at = end;
    }
    position += bytesRead;
  }
}

/** The next run of grains that are not all zeros; an empty one at the end when there is none. */
function nextData(bytes: Buffer, at: number, limit: number): [start: number, end: number] {
  const isZero = (place: number): boolean => {
    const grain = bytes.subarray(place, Math.min(place + GRAIN_BYTES, limit));
    return Buffer.compare(grain, ZEROS.subarray(0, grain.byteLength)) === 0;
  };
  let start = at;
  while (start < limit && isZero(start)) start += GRAIN_BYTES;
  let end = start;
  while (end < limit && !isZero(end)) end += GRAIN_BYTES;
  return [Math.min(start, limit), Math.min(end, limit)];
}

function writeAll(fd: number, data: Uint8Array, position: number): Promise<void> {
  return new Promise((resolve, reject) => writeWhole(fd, data, position, (error) => (error === null ? resolve() : reject(error))));
}
