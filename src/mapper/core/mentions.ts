/**
 * Which objects a journal speaks of, whether its records count or not. Replay shows one state, but which one it shows after a power failure
 * is not known before: a record that drops an entry, or sets another one, may be lost again. So collection takes every object that any
 * record names for reachable.
 */
import type { Generation, VolumeId } from '../../base/index.ts';
import { decodeRecords, parseSegment } from './segment.ts';
import type { MapChange } from './types.ts';

/**
 * Segments below `fromSegment`, the header's, are left over. Frames that do not follow on one another, as behind a torn one, are looked at
 * too. Throws `corrupt`, or `unsupported-version`.
 */
export function journalMentions(
  segments: readonly { readonly number: number; readonly bytes: Uint8Array }[],
  volume: VolumeId,
  fromSegment: number,
  visit: (generation: Generation, index: number) => void,
): void {
  for (const { number, bytes } of segments) {
    if (number < fromSegment) continue;
    const segment = parseSegment(bytes, volume, number);
    const changes: MapChange[] = [];
    for (const frame of [...segment.frames, ...segment.survivors]) decodeRecords(segment, frame, changes);
    for (const change of changes) {
      if (change.kind !== 'plain' && change.kind !== 'layered') continue;
      visit(change.generation, change.index);
      if (change.kind === 'layered' && change.base > 0) visit(change.base, change.index);
    }
  }
}
