/** Taking over what the store has of a volume, in the way in which this process has become its owner. */
import type { Epoch, Log } from '../base/index.ts';
import { type CommandValues, OpenMap, type VolumeRecord } from '../mapper/index.ts';
import type { HandOverState, VolumeContext } from './context.ts';

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
