/** The second half of a shrink: what lay beyond the new end is dropped. */
import { assert } from '../base/index.ts';
import type { VolumeRecord } from '../mapper/index.ts';
import type { VolumeContext } from './context.ts';
import type { ServedVolume } from './served-volume.ts';

/** A shrink whose blocks were not dropped yet is finished before anything else is done. */
export async function dropShrunkSpace({ registry }: VolumeContext, { id, zeroFromBytes }: VolumeRecord, served: ServedVolume): Promise<void> {
  if (zeroFromBytes === null) return;
  assert(served.owned !== null, 'shrunk space is dropped by the owner');
  await served.truncate(zeroFromBytes);
  await served.owned.map.flush();
  await registry.propose<'clearZeroFrom'>({ type: 'clearZeroFrom', id, epoch: served.epoch, zeroFromBytes });
}
