/** A small vocabulary for stories about collection: real maps over a store in memory, and a real registry, moved one step at a time. */
import { ArchipelagoError, type Clock, type Generation, silentLog, type VolumeId } from '../../../src/base/index.ts';
import { type BlockStore, openMemoryStore } from '../../../src/blocker/index.ts';
import { Collection, type CollectionOptions } from '../../../src/mapper/collection/collector.ts';
import { type MapChange, OpenMap, PageCache, type VolumeRecord } from '../../../src/mapper/index.ts';
import { Story as RegistryStory } from '../registry/story.ts';

const NOON = '2026-01-31T12:00:00.000Z';
const BLOCK_BYTES = 64 * 1024;

/** A clock whose timers run at the next turn, and move it. */
class HastyClock implements Clock {
  private now = 0;
  nowMs = () => this.now;
  wallMs = () => 0;
  setTimer(delayMs: number, callback: () => void) {
    const timer = setImmediate(() => {
      this.now += delayMs;
      callback();
    });
    return { cancel: () => clearImmediate(timer) };
  }
}

export class CollectionStory {
  readonly store: BlockStore = openMemoryStore();
  readonly registry = new RegistryStory();
  readonly maps = new Map<VolumeId, OpenMap>();
  /** Called before each look at the registry, with its number in the cycle. */
  onLook: (look: number) => Promise<void> = async () => undefined;
  /** Called before the sweep lists anything. */
  onSweep: () => Promise<void> = async () => undefined;
  /** What a look shows, for planted bugs and strange histories. */
  shown: (record: VolumeRecord) => VolumeRecord = (record) => record;
  readonly clock = new HastyClock();

  constructor() {
    this.registry.startNode('a');
    this.registry.startNode('b');
  }

  create(name: string): VolumeId {
    return this.registry.create(name, { sizeBytes: 2 ** 30, blockSizeBytes: BLOCK_BYTES }).id;
  }

  clone(snapshot: VolumeId, name: string): VolumeId {
    return this.registry.do({ type: 'clone', snapshotId: snapshot, name, sizeBytes: null, createdAt: NOON }).id;
  }

  /** Node a becomes the owner. */
  async open(id: VolumeId): Promise<OpenMap> {
    const { record, generation, clean } = this.registry.acquire(id, 'a');
    const takeover = await this.store.takeOver(id, record.epoch, clean);
    const map = await OpenMap.open({
      blockStore: this.store,
      takeover,
      volume: id,
      epoch: record.epoch,
      initialRoot: record.root,
      naming: { generation },
      bootId: 'boot',
      cache: new PageCache(),
      log: silentLog,
    });
    this.maps.set(id, map);
    return map;
  }

  /** A first write: an object under the naming generation, and its record. */
  async write(id: VolumeId, ...indexes: number[]): Promise<void> {
    const map = this.map(id);
    for (const index of indexes) {
      await this.createObject(id, index);
      await map.recordChange({ kind: 'plain', index, generation: map.naming });
    }
  }

  async createObject(id: VolumeId, index: number): Promise<void> {
    const map = this.map(id);
    await new Promise<void>((resolve, reject) => {
      const object = map.store.object(map.naming, index);
      if (object.create(0, new Uint8Array(512).fill(1), { storeDone: (error) => (error ? reject(error) : resolve()) })) resolve();
    });
  }

  record(id: VolumeId, change: MapChange): Promise<void> {
    return this.map(id).recordChange(change);
  }

  map(id: VolumeId): OpenMap {
    return this.maps.get(id) as OpenMap;
  }

  /** Returns the snapshot's id. */
  async snapshot(id: VolumeId, name: string): Promise<VolumeId> {
    const commit = await this.cut(id, name);
    return commit();
  }

  /** Up to the command that makes the snapshot known. */
  async cut(id: VolumeId, name: string): Promise<() => VolumeId> {
    const generation = this.registry.reserve(id);
    const { epoch } = this.registry.volume(id);
    const { root, durable } = await this.map(id).cut(generation);
    await durable;
    return () => this.registry.do({ type: 'snapshot', id, epoch, generation, name, root, createdAt: NOON }).id;
  }

  async release(id: VolumeId): Promise<void> {
    await this.map(id).fold();
    await this.map(id).close();
    this.registry.release(id);
  }

  remove(id: VolumeId): void {
    this.registry.do({ type: 'remove', id, epoch: this.registry.volume(id).epoch });
  }

  begin() {
    return this.registry.do({ type: 'beginCollection', node: 'a', livenessEpoch: this.registry.lifeOf('a'), startedAt: NOON });
  }

  collection(options: Partial<CollectionOptions> = {}): Collection {
    let looks = 0;
    const store = Object.create(this.store) as BlockStore;
    let swept = false;
    store.list = (kind, wanted) => {
      const names = this.store.list(kind, wanted);
      const { onSweep } = this;
      return (async function* () {
        if (!swept) await onSweep();
        swept = true;
        yield* names;
      })();
    };
    return new Collection(this.begin(), {
      store,
      records: async () => {
        await this.onLook(++looks);
        return [...this.registry.registry.volumes()].map(this.shown);
      },
      takeOver: () => Promise.reject(new ArchipelagoError('internal', 'nothing has to be taken over')),
      clock: this.clock,
      maxOperationsPerSecond: 1_000_000,
      memoryBytes: 64 << 20,
      ...options,
    });
  }

  /** Runs a cycle; how many objects and pages it removed. */
  async collect(options: Partial<CollectionOptions> = {}): Promise<number> {
    const collection = this.collection(options);
    await collection.run();
    return collection.progress.freedObjects;
  }

  async stored(kind: 'object' | 'page' = 'object'): Promise<string[]> {
    const names: string[] = [];
    for await (const batch of this.store.list(kind, () => true)) names.push(...batch.map(({ generation, index }) => `${generation}/${index}`));
    return names.sort();
  }

  generation(value: number): Generation {
    return value as Generation;
  }
}
