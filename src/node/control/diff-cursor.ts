/** Where a comparison goes on, as its client keeps it: opaque text, so that no node has to remember anything. */
import { z } from 'zod';
import { ArchipelagoError, type Generation, type VolumeId } from '../../base/index.ts';
import type { PageRef } from '../../mapper/index.ts';

const counter = z.int().min(0);
const cursorSchema = z.strictObject({
  from: counter,
  to: counter,
  /** Where the map of the newer side begins, and its size, at the moment when the comparison was begun. */
  root: z.strictObject({ generation: counter, sequence: counter, checksum: counter, blocks: counter }).nullable(),
  sizeBytes: counter,
  start: counter,
});

export interface DiffCursor {
  readonly from: VolumeId;
  readonly to: VolumeId;
  readonly root: PageRef | null;
  readonly sizeBytes: number;
  readonly start: number;
}

export function encodeCursor(cursor: DiffCursor): string {
  return Buffer.from(JSON.stringify(cursor)).toString('base64url');
}

/** Throws `invalid-argument` for what is none, or one of another comparison. */
export function decodeCursor(text: string, from: VolumeId, to: VolumeId): DiffCursor {
  let value: unknown = null;
  try {
    value = JSON.parse(Buffer.from(text, 'base64url').toString());
  } catch {
    // Refused below.
  }
  const checked = cursorSchema.safeParse(value);
  if (!checked.success || checked.data.from !== from || checked.data.to !== to) {
    throw new ArchipelagoError('invalid-argument', 'the cursor is not of this comparison', { hint: 'begin without one' });
  }
  const { root, sizeBytes, start } = checked.data;
  return { from, to, root: root && { ...root, generation: root.generation as Generation }, sizeBytes, start };
}
