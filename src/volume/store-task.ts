/** One object operation of a served volume that the store may answer later. Pooled: a volume has as many as it ever had under way at once. */
import type { ArchipelagoError } from '../base/index.ts';
import type { StoreWaiter } from '../blocker/index.ts';
import type { Block, BlockTask } from './block.ts';
import type { VolumeIo } from './device.ts';
import type { ServedVolume } from './served-volume.ts';

export class StoreTask implements StoreWaiter, BlockTask {
  block: Block | null = null;
  io: VolumeIo | null = null;
  startBytes = 0;
  endBytes = 0;
  changes = false;
  private readonly volume: ServedVolume;

  constructor(volume: ServedVolume) {
    this.volume = volume;
  }

  storeDone(error: ArchipelagoError | null): void {
    this.volume.endTask(this, error);
  }
}
