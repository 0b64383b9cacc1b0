/** Rules of collection, each left out. */
import type { Generation } from '../../../../src/base/index.ts';
import type { Collection } from '../../../../src/mapper/collection/collector.ts';
import type { BegunCycle, VolumeRecord } from '../../../../src/mapper/index.ts';
import type { Bug } from './bug.ts';

interface Inside {
  begun: BegunCycle;
  sweep(kind: string, reached: unknown, open: ReadonlySet<Generation>, superseded: ReadonlyMap<Generation, number>): Promise<void>;
  sweepLogs(records: readonly VolumeRecord[]): Promise<void>;
}

const inside = (collection: Collection): Inside => collection as unknown as Inside;

export const COLLECTION_BUGS: readonly Bug[] = [
  {
    name: 'collect-open-generations',
    mistake: 'objects of generations that are still written to are candidates',
    hooks: {
      collection(collection) {
        const sweep = inside(collection).sweep.bind(collection);
        inside(collection).sweep = (kind, reached, _open, superseded) => sweep(kind, reached, new Set(), superseded);
      },
    },
  },
  {
    name: 'collect-unborn-generations',
    mistake: 'generations that were given out after the cycle began are candidates too',
    hooks: {
      collection(collection) {
        const { begun } = inside(collection);
        inside(collection).begun = { ...begun, nextGeneration: Number.MAX_SAFE_INTEGER as Generation };
      },
    },
  },
  {
    name: 'collect-unfinished-folds',
    mistake: 'all pages by the name that a volume uses now are taken for superseded, those of a fold under way too',
    history: 'a fold writes its pages; a collector reads the log, which has the header before; the header is written; the pages are removed',
    hooks: {
      collection(collection) {
        const sweep = inside(collection).sweep.bind(collection);
        inside(collection).sweep = (kind, reached, open, superseded) =>
          sweep(kind, reached, open, new Map([...superseded.keys()].map((generation) => [generation, Number.POSITIVE_INFINITY])));
      },
    },
  },
  {
    name: 'collect-no-pages',
    mistake: 'dead pages of maps are left behind',
    hooks: {
      collection(collection) {
        const sweep = inside(collection).sweep.bind(collection);
        inside(collection).sweep = async (kind, ...rest) => {
          if (kind !== 'page') await sweep(kind, ...rest);
        };
      },
    },
  },
  {
    name: 'removed-volume-leaves-its-log',
    mistake: 'the log of a volume that was removed while its owner died stays',
    hooks: {
      collection(collection) {
        inside(collection).sweepLogs = () => Promise.resolve();
      },
    },
  },
];
