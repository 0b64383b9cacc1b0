/** Taking over what the store has of a volume, in the way in which this process has become its owner, and ending that. */
import { assert, type Epoch, type Log } from '../base/index.ts';
import { type CommandValues, OpenMap, type VolumeRecord } from '../mapper/index.ts';
import type { HandOverState, VolumeContext } from './context.ts';
import type { ServedVolume } from './served-volume.ts';

/** How long what was served may stay open while guests wait for the next owner. */
export const CLOSE_WITHIN_MS = 1000;

export async function openMap(
  context: VolumeContext,
  record: VolumeRecord,
  epoch: Epoch,
  clean: boolean,
  beginning: HandOverState | CommandValues['acquire'],
  log: Log,
): Promise<OpenMap> {
  const handedOver = 'prepared' in beginning ? beginning.prepared : null;
  const beganMs = context.clock.nowMs();
  const takeover = await context.blockStore.takeOver(record.id, epoch, clean);
  if (handedOver) takeover.store.adoptUnsynced(handedOver.names);
  try {
    const map = await OpenMap.open({
      blockStore: context.blockStore,
      takeover,
      volume: record.id,
      epoch,
      initialRoot: record.root,
      warm: handedOver?.takeTree() ?? null,
      naming: 'prepared' in beginning ? { nextPageSequence: beginning.nextPageSequence } : { generation: beginning.generation },
      bootId: context.bootId,
      cache: context.pageCache,
      log,
    });
    const openMs = Math.round((context.clock.nowMs() - beganMs) * 10) / 10;
    log.info({ epoch, clean, blocks: map.pages.blocks, openMs }, 'serving');
    return map;
  } catch (error) {
    await takeover.store.close();
    throw error;
  }
}

/**
 * Closes what was served under an ownership that has ended; everything that was admitted was given back before. A map with many objects open
 * takes long to close, so guests look for the next owner first. What the map still does meanwhile, it does under its own epoch.
 */
export class Closing {
  private readonly log: Log;
  private served: ServedVolume | null = null;
  private closed: Promise<void> = Promise.resolve();

  constructor(log: Log) {
    this.log = log;
  }

  /** Closes it later: after `mayBegin`, which never rejects, or when somebody waits for the end. */
  begin(served: ServedVolume, mayBegin: Promise<unknown>): void {
    assert(this.served === null, 'nothing is served before what was served is closed');
    this.served = served;
    void mayBegin.then(() => this.end());
  }

  /** Resolves when nothing is open any more. */
  end(): Promise<void> {
    if (this.served !== null) this.closed = this.close(this.served);
    this.served = null;
    return this.closed;
  }

  private async close(served: ServedVolume): Promise<void> {
    served.forgetBlocks();
    try {
      await served.owned?.map.close();
      this.log.info({ epoch: served.epoch }, 'no longer serving');
    } catch (error) {
      // It is never used again, and the store has ended it as far as it could.
      this.log.warn({ epoch: served.epoch, error: String(error) }, 'closing a map failed');
    }
  }
}
