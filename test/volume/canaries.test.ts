/**
 * Planted bugs that the random histories of `world.ts` have to find. Each replaces a part of an open map, its store or a served volume by
 * one that does what an earlier or a careless version might do. What a history cannot show has its own test: the order of overlapping I/O
 * that is under way at a time (`served-volume.test.ts`), a mark that covers what was appended while the sync ran, which takes long to meet, and
 * a journal that is not cut after a failed append (`open-map.test.ts`).
 */
import { describe, expect, test } from 'vitest';
import { Violation } from '../../chaos/sim/volume/twin.ts';
import { type Hooks, World, type WorldOptions } from '../../chaos/sim/volume/world.ts';
import { ArchipelagoError, AssertionFailure, type Generation } from '../../src/base/index.ts';
import type { VolumeStore } from '../../src/blocker/index.ts';
import type { LayeredEntry, OpenMap } from '../../src/mapper/index.ts';
import type { Block } from '../../src/volume/block.ts';
import type { BlockMerge } from '../../src/volume/merge.ts';

const MAX_SEEDS = 60;

interface MapInside {
  recordChange: OpenMap['recordChange'];
  isLive: OpenMap['isLive'];
  appendMark(writer: unknown, covered: number): Promise<void>;
  flush: OpenMap['flush'];
  store: VolumeStore;
}

const inside = (map: OpenMap): MapInside => map as unknown as MapInside;

const CANARIES: (Partial<WorldOptions> & { name: string; hooks: Hooks })[] = [
  {
    name: 'a change is recorded after its write was acknowledged',
    hooks: {
      map(map) {
        const record = map.recordChange.bind(map);
        // Who was told already hears of no error.
        inside(map).recordChange = async (change) => void record(change).catch(() => undefined);
      },
    },
  },
  {
    name: 'a cut does not wait for what is under way',
    hooks: {
      served(served) {
        const stop = served.stopAdmitting.bind(served);
        served.stopAdmitting = async () => void stop();
        served.forgetBlocks = () => undefined;
      },
    },
  },
  {
    name: 'the live set is not closed at a cut',
    hooks: {
      map(map) {
        const isLive = map.isLive.bind(map);
        const ever = new Set<Generation>();
        inside(map).isLive = (generation) => {
          if (isLive(generation)) ever.add(generation);
          return ever.has(generation);
        };
      },
    },
  },
  {
    name: 'the header is written before its pages are durable',
    hooks: {
      map(map) {
        const { store } = map;
        const [sync, writePage] = [store.sync.bind(store), store.writePage.bind(store)];
        let pages = false;
        store.writePage = (...page) => {
          pages = true;
          return writePage(...page);
        };
        store.sync = () => {
          if (!pages) return sync();
          pages = false;
          return Promise.resolve();
        };
      },
    },
  },
  {
    name: 'a presence bitmap has a bit too many',
    hooks: {
      map(map) {
        const record = map.recordChange.bind(map);
        inside(map).recordChange = (change) => {
          if (change.kind !== 'layered') return record(change);
          const wrong: LayeredEntry = { ...change, presenceLow: (change.presenceLow | (change.presenceLow << 1)) >>> 0 };
          return record({ ...change, ...wrong });
        };
      },
    },
  },
  {
    name: 'a flush syncs the journal and not the data',
    hooks: {
      map(map) {
        const { store } = map;
        store.sync = () => store.syncJournal();
      },
    },
  },
  {
    name: 'a flush sets no mark',
    hooks: {
      map(map) {
        inside(map).appendMark = () => Promise.resolve();
      },
    },
  },
  {
    name: 'a flush succeeds after a failed sync',
    faults: true,
    hooks: {
      map(map) {
        const flush = map.flush.bind(map);
        // The planted bug itself.
        inside(map).flush = () => flush().catch(() => undefined);
      },
    },
  },
  {
    name: 'the next owner does not sync what the one before had written',
    deaths: 0.02,
    handOvers: 0.05,
    hooks: {
      map(map) {
        map.store.unsynced = () => [];
      },
    },
  },
  {
    name: 'a merge does not keep the guest from its block',
    hooks: {
      served(served) {
        served.withBlock = async (_block, work) => {
          // An assertion may notice it first. What counts here is what guests see.
          await work().catch(() => undefined);
          return true;
        };
      },
    },
  },
  {
    name: "a merge copies over what is not the base's any more",
    hooks: {
      served(served) {
        const merger = (served as unknown as { merger: { copyStep(block: Block, merge: BlockMerge): Promise<void> } }).merger;
        const copyStep = merger.copyStep.bind(merger);
        // Goes by the presence of when the merge began.
        const began = new WeakMap<BlockMerge, LayeredEntry>();
        merger.copyStep = async (block, merge) => {
          const { layered } = block;
          if (layered === null) return;
          if (!began.has(merge)) began.set(merge, layered);
          block.layered = began.get(merge) as LayeredEntry;
          await copyStep(block, merge).finally(() => {
            block.layered = layered;
          });
        };
      },
    },
  },
  {
    name: 'data is called a hole',
    hooks: {
      served(served) {
        const extents = served.extents.bind(served);
        // As one that takes the first byte of a sub-block for all of it.
        served.extents = async (...asked) =>
          (await extents(...asked)).map((extent) => ({ ...extent, allocated: extent.allocated && extent.lengthBytes > 1024 }));
      },
    },
  },
  {
    name: 'zeros are called data',
    hooks: {
      served(served) {
        const extents = served.extents.bind(served);
        served.extents = async (...asked) =>
          (await extents(...asked)).map((extent) => ({ ...extent, allocated: extent.allocated || extent.lengthBytes < 20_000 }));
      },
    },
  },
];

describe('the random histories find', () => {
  test.each(CANARIES)('$name', async ({ name: _name, ...options }) => {
    let found: unknown = null;
    for (let seed = 1; seed <= MAX_SEEDS && found === null; seed++) {
      await new World({ seed, steps: 700, faults: false, ...options }).run().catch((error: unknown) => {
        found = error;
      });
    }
    // Not a fault of the history itself.
    expect(found).toSatisfy((error: unknown) => error instanceof Violation || error instanceof ArchipelagoError || error instanceof AssertionFailure);
  });
});
