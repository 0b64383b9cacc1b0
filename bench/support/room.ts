/** What a directory takes on the disk. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** Of all files in it, in bytes of blocks that the file system has given them. */
export function roomOf(directory: string): number {
  let bytes = 0;
  for (const entry of readdirSync(directory, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) bytes += statSync(join(entry.parentPath, entry.name)).blocks * 512;
  }
  return bytes;
}
