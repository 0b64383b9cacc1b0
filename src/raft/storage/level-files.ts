/** What the storage stands on: a LevelDB and the file of the watermark, in one directory. A simulator brings others. */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Level } from 'level';
import { corrupt } from './records.ts';
import { type Database, openFailure } from './recovery.ts';
import { type Mark, type Marks, Watermark } from './watermark.ts';

export interface LevelFiles {
  readonly database: Database;
  /** Whether a watermark was there, as it is once the first batch is synced. */
  readonly hadMark: boolean;
  /** Opens the watermark, creating it if `create`; `found` is the newest valid mark or null. */
  openMark(create: boolean): { readonly watermark: Marks; readonly found: Mark | null };
  /** Makes the names of new files durable. */
  syncDirectories(): void;
}

export async function openLevelFiles(directory: string): Promise<LevelFiles> {
  mkdirSync(directory, { recursive: true });
  const path = join(directory, 'log');
  const markPath = join(directory, 'watermark');
  const hadMark = existsSync(markPath);
  if (hadMark && !existsSync(join(path, 'CURRENT'))) throw corrupt('the database is missing, though it was synced before', directory);
  const database = new Level<string, Uint8Array>(path, { keyEncoding: 'utf8', valueEncoding: 'view' });
  await database.open().catch((error: unknown) => {
    throw openFailure(error, directory);
  });
  return {
    database,
    hadMark,
    openMark: (create) => Watermark.open(markPath, create),
    syncDirectories: () => {
      for (const each of [directory, dirname(directory)]) syncDirectory(each);
    },
  };
}

function syncDirectory(path: string): void {
  const descriptor = openSync(path, 'r');
  fsyncSync(descriptor);
  closeSync(descriptor);
}
