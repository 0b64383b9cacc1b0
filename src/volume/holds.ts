/** Whose clients may change a volume, as its record says. Anybody's may read it. */
import { ArchipelagoError } from '../base/index.ts';
import type { VolumeRecord } from '../mapper/index.ts';

/** True when there is a node whose clients may not. Cheap, for every I/O; then `changeRefusal` tells. */
export function isRestricted({ hold, fenced }: VolumeRecord): boolean {
  return fenced.length > 0 || (hold !== null && hold.mode !== 'shared');
}

/** Why clients of `node` may not change the volume, or null. */
export function changeRefusal({ name, hold, fenced }: VolumeRecord, node: string): ArchipelagoError | null {
  if (fenced.includes(node)) {
    const hint = 'open it at that node to write to it again';
    return new ArchipelagoError('read-only', `node ${node} lost volume '${name}' when its lock was broken`, { hint });
  }
  const holder = hold === null || hold.mode === 'shared' ? undefined : hold.holders[0]?.node;
  if (holder === undefined || holder === node) return null;
  const how = hold?.mode === 'locked' ? 'locked by' : 'open exclusively at';
  return new ArchipelagoError('read-only', `volume '${name}' is ${how} node ${holder}; others only read it`, { hint: 'close it there first' });
}
