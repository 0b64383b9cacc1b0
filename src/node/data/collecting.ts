/** Runs cycles of collection in the data process, one at a time, when the control process says so. */
import { ArchipelagoError, type Clock, type Log, type VolumeId } from '../../base/index.ts';
import type { BlockStore } from '../../blocker/index.ts';
import { type BegunCycle, Collection, type CollectionProgress } from '../../mapper/index.ts';
import type { Volumes } from '../../volume/index.ts';
import type { NodeConfig } from '../config.ts';
import type { Collected } from '../protocol.ts';

export interface CollectingOptions {
  readonly store: BlockStore;
  readonly volumes: Volumes;
  readonly config: NodeConfig['gc'];
  /** Resolves when this process has been told of all that the registry held at the call. */
  readonly barrier: () => Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
}

export class Collecting {
  private readonly options: CollectingOptions;
  private current: Collection | null = null;

  constructor(options: CollectingOptions) {
    this.options = options;
  }

  /** Resolves when the cycle has ended, however. */
  async collect(begun: BegunCycle): Promise<Collected> {
    if (this.current) throw new ArchipelagoError('in-use', 'a cycle of collection runs here already');
    const { store, volumes, barrier, clock, log } = this.options;
    const { maxOperationsPerSecond, memoryBytes } = this.options.config;
    const records = async () => {
      await barrier();
      return volumes.allRecords();
    };
    const takeOver = (id: VolumeId) => this.takeOver(id);
    const collection = new Collection(begun, { store, records, takeOver, clock, maxOperationsPerSecond, memoryBytes });
    this.current = collection;
    let error: ArchipelagoError | null = null;
    try {
      await collection.run();
    } catch (thrown) {
      error = ArchipelagoError.from(thrown, 'collection');
    }
    this.current = null;
    const { freedObjects, freedBytes } = collection.progress;
    if (error === null) log.info({ ...collection.progress }, 'collected');
    else log.warn({ ...collection.progress, code: error.code, error: error.message }, 'a collection was cut short');
    return { freedObjects, freedBytes, seen: collection.seen, error: error?.toBody() ?? null };
  }

  private async takeOver(id: VolumeId): Promise<void> {
    try {
      await this.options.volumes.own(id);
    } catch (error) {
      // Somebody else was faster, or has removed it.
      const { code } = ArchipelagoError.from(error, 'take over');
      if (code !== 'stale-epoch' && code !== 'not-found') throw error;
    }
  }

  stop(): void {
    this.current?.stop();
  }

  get progress(): CollectionProgress | null {
    return this.current?.progress ?? null;
  }
}
