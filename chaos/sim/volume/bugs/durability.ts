/** Bugs in what makes writes and their records durable. */
import type { LayeredEntry, OpenMap } from '../../../../src/mapper/index.ts';
import type { Bug } from './bug.ts';

interface MapInside {
  recordChange: OpenMap['recordChange'];
  appendMark(writer: unknown, covered: number): Promise<void>;
  flush: OpenMap['flush'];
}

const inside = (map: OpenMap): MapInside => map as unknown as MapInside;

export const DURABILITY_BUGS: readonly Bug[] = [
  {
    name: 'write-answered-before-its-record',
    mistake: 'a change is recorded after its write was acknowledged',
    hooks: {
      map(map) {
        const record = map.recordChange.bind(map);
        // Who was told already hears of no error.
        inside(map).recordChange = async (change) => void record(change).catch(() => undefined);
      },
    },
  },
  {
    name: 'header-before-its-pages',
    mistake: 'the header is written before its pages are durable',
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
    name: 'presence-bit-too-many',
    mistake: 'a presence bitmap has a bit too many',
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
    name: 'flush-syncs-journal-only',
    mistake: 'a flush syncs the journal and not the data',
    hooks: {
      map(map) {
        const { store } = map;
        store.sync = () => store.syncJournal();
      },
    },
  },
  {
    name: 'flush-sets-no-mark',
    mistake: 'a flush sets no mark',
    hooks: {
      map(map) {
        inside(map).appendMark = () => Promise.resolve();
      },
    },
  },
  {
    name: 'flush-forgives-failed-sync',
    mistake: 'a flush succeeds after a failed sync',
    hooks: {
      map(map) {
        const flush = map.flush.bind(map);
        // The planted bug itself.
        inside(map).flush = () => flush().catch(() => undefined);
      },
    },
  },
  {
    name: 'handover-forgets-unsynced',
    mistake: 'the next owner does not sync what the one before had written',
    hooks: {
      map(map) {
        map.store.unsynced = () => [];
      },
    },
  },
];
