/** Collectors of a simulated world: processes of their own over its disk, which may be slow, paused, overlap and be followed by others. */
import type { Clock } from '../../../src/base/index.ts';
import { Collection } from '../../../src/mapper/collection/collector.ts';
import { decodeHeader, PageWalk } from '../../../src/mapper/index.ts';
import { checkNoneDead } from '../../checkers/all-dead-objects-freed.ts';
import { checkNoneMissing } from '../../checkers/no-live-object-freed.ts';
import { nextTurn } from '../turns.ts';
import type { SimDisk } from './disk.ts';
import type { WorldRegistry } from './registry.ts';
import { SimStore } from './store.ts';

/** Time stands still: a collector never gives up waiting. */
const PATIENT_CLOCK: Clock = {
  nowMs: () => 0,
  wallMs: () => 0,
  setTimer(_delayMs, callback) {
    let cancelled = false;
    void nextTurn().then(() => cancelled || callback());
    return {
      cancel: () => {
        cancelled = true;
      },
    };
  },
};

export class WorldCollector {
  readonly store: SimStore;
  /** Null while it runs. */
  outcome: { readonly error: unknown } | null = null;
  private readonly collection: Collection;

  constructor(disk: SimDisk, registry: WorldRegistry, seed: number, plant?: (collection: Collection) => void) {
    this.store = new SimStore(disk, seed);
    const { store } = this;
    const options = {
      store,
      // At some moment between the question and the answer.
      records: () => store.promise(() => registry.records()),
      takeOver: () => Promise.resolve(),
      clock: PATIENT_CLOCK,
      maxOperationsPerSecond: Number.POSITIVE_INFINITY,
      memoryBytes: 1 << 20,
    };
    this.collection = new Collection(registry.beginCollection(), options);
    plant?.(this.collection);
    const ended = (error: unknown) => {
      this.outcome = { error };
    };
    this.collection.run().then(() => ended(null), ended);
  }

  get freed(): number {
    return this.collection.progress.freedObjects;
  }
}

/** All that is on the disk has to be reachable, and the other way round. Only while nobody uses it, and all volumes are released. */
export async function expectNothingDead(disk: SimDisk, registry: WorldRegistry): Promise<void> {
  const store = new SimStore(disk, 1);
  store.atOnce = 1;
  const reached = { objects: new Set<string>(), pages: new Set<string>() };
  const walk = new PageWalk({
    page: ({ generation, sequence }) => reached.pages.add(`${generation}/${sequence}`),
    object: (generation, index) => reached.objects.add(`${generation}/${index}`),
  });
  for (const { id, kind, root } of registry.records()) {
    const header = kind === 'volume' ? await store.readHeader(id) : null;
    walk.add(header ? decodeHeader(header, id).header.root : root);
  }
  for (let page = walk.next(); page !== null; page = walk.next()) walk.supply(page, await store.readPage(page.generation, page.sequence));
  const records = registry.records();
  checkNoneDead('the log of volume', new Set(records.map(({ id }) => id)), disk.logs);
  for (const kind of ['objects', 'pages'] as const) {
    checkNoneDead(kind, reached[kind], disk[kind]);
    checkNoneMissing(reached[kind], disk[kind]);
  }
}
