/** What volumes, snapshots, sizes and labels may look like; the HTTP server and the CLI check the same rules. No imports, so that the CLI starts fast. */

export const MAX_NAME_BYTES = 255;
export const SECTOR_BYTES = 512;
export const MIN_BLOCK_SIZE = 64 * 1024;
export const MAX_BLOCK_SIZE = 64 * 1024 * 1024;

const CONTROL_CHARACTER = /\p{Cc}/u;

/** What is wrong with a name, as the end of a sentence that begins with what it names; null when it is good. */
export function nameProblem(name: string): string | null {
  if (name === '') return 'is empty';
  if (!name.isWellFormed()) return 'is not valid Unicode';
  const bytes = Buffer.byteLength(name);
  if (bytes > MAX_NAME_BYTES) return `has ${bytes} bytes; at most ${MAX_NAME_BYTES} are allowed`;
  if (name.includes('/')) return "holds a '/'";
  if (CONTROL_CHARACTER.test(name)) return 'holds a control character';
  return null;
}

export function sizeProblem(size: number): string | null {
  if (!Number.isSafeInteger(size)) return 'is not a whole number of bytes that can be counted exactly';
  if (size <= 0) return 'must be more than 0';
  if (size % SECTOR_BYTES !== 0) return `must be a multiple of ${SECTOR_BYTES}`;
  return null;
}

export function blockSizeProblem(size: number): string | null {
  const isPowerOfTwo = Number.isSafeInteger(size) && size > 0 && Number.isInteger(Math.log2(size));
  return isPowerOfTwo && size >= MIN_BLOCK_SIZE && size <= MAX_BLOCK_SIZE ? null : 'must be a power of two from 64K to 64M';
}

export function labelKeyProblem(key: string): string | null {
  if (key.includes('=')) return "holds a '='";
  return nameProblem(key.replaceAll('/', '-'));
}
