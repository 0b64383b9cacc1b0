/** Rules of the fences, each left out: owners that were paused go on after they were taken over. */
import type { Generation } from '../../../../src/base/index.ts';
import { type StoreWaiter, storeCall, type WritableBlockObject } from '../../../../src/blocker/index.ts';
import type { OpenMap } from '../../../../src/mapper/index.ts';
import type { Block } from '../../../../src/volume/block.ts';
import type { ServedVolume } from '../../../../src/volume/served-volume.ts';
import type { Hooks } from '../setting.ts';
import type { Bug } from './bug.ts';

interface ServedInside {
  claim(block: Block, writable: WritableBlockObject): void;
  readonly claims: { has(index: number): boolean; add(index: number): void } | null;
}

interface MapInside {
  live: { uncleanGenerations: readonly Generation[]; liveGenerations: readonly Generation[] };
  readonly options: { readonly naming: object };
}

const insideServed = (served: ServedVolume) => served as unknown as ServedInside;
const insideMap = (map: OpenMap) => map as unknown as MapInside;

/** Replaces the claims of a map's objects. */
function claimBy(map: OpenMap, by: (object: WritableBlockObject, claim: WritableBlockObject['claim']) => void): void {
  const object = map.store.object.bind(map.store);
  map.store.object = (...name) => {
    const made = object(...name);
    by(made, made.claim.bind(made));
    return made;
  };
}

export const FENCE_BUGS: readonly Bug[] = [
  {
    name: 'nothing-claimed',
    mistake: 'nothing is claimed',
    history: 'A submits v1; takeover; B writes v2, acknowledged; v1 lands',
    hooks: {
      map: (map) =>
        claimBy(map, (object) => {
          object.claim = () => true;
        }),
    },
  },
  {
    name: 'read-does-not-claim',
    mistake: 'a read does not claim',
    history: 'A submits v1; takeover; B reads 0 unclaimed; v1 lands; B reads v1',
    hooks: {
      map: (map) =>
        claimBy(map, (object, claim) => {
          object.claim = () => true;
          let claimed: Promise<void> | null = null;
          const first = (change: (waiter: StoreWaiter) => boolean, waiter: StoreWaiter): boolean => {
            claimed ??= storeCall(claim);
            claimed
              .then(() => storeCall(change))
              .then(
                () => waiter.storeDone(null),
                (error) => waiter.storeDone(error),
              );
            return false;
          };
          const [write, zero] = [object.write.bind(object), object.zero.bind(object)];
          object.write = (offset, data, waiter) => first((each) => write(offset, data, each), waiter);
          object.zero = (offset, length, waiter) => first((each) => zero(offset, length, each), waiter);
        }),
    },
  },
  {
    name: 'failover-goes-on-naming',
    mistake: 'a failover goes on naming by the generation before',
    history: 'A submits v1 to a new name; takeover; B writes v2 to the same name, acknowledged; v1 lands',
    hooks: {
      map: (map) => {
        const { uncleanGenerations } = insideMap(map).live;
        const before = uncleanGenerations.at(-1);
        if (before !== undefined) Object.defineProperty(map, 'naming', { get: () => before });
      },
    },
  },
  {
    name: 'claims-remembered-too-long',
    mistake: 'a process remembers what it claimed when it is the owner again',
    history: "A's remembered claims are from before B; B's write under way lands over what A writes",
    hooks: rememberForLife(),
  },
  {
    name: 'io-does-not-wait-for-claim',
    mistake: 'I/O does not wait for the claim of its block',
    history: "B's claim and B's write under way; the write is acknowledged; the claim puts a copy without it in its place",
    hooks: {
      served: (served) => {
        const claim = insideServed(served).claim.bind(served);
        insideServed(served).claim = (block, writable) => {
          claim(block, writable);
          block.exclusive = false;
        };
      },
    },
  },
  {
    name: 'claimed-recorded-too-early',
    mistake: 'the list is emptied before everything is claimed',
    history: "A's v1 under way; takeover; B says that nothing is unclean; handover to C; C writes v2 unclaimed; v1 lands",
    hooks: {
      served: (served) => {
        if (insideServed(served).claims !== null) void served.map.recordClaimed();
      },
    },
  },
];

function rememberForLife(): Hooks {
  const claimed = new WeakMap<object, Set<string>>();
  return {
    served: (served) => {
      const { claims } = insideServed(served);
      const { store } = served.map.store as unknown as { store: object };
      if (claims === null) return;
      const known = claimed.get(store) ?? new Set();
      claimed.set(store, known);
      const [has, add] = [claims.has.bind(claims), claims.add.bind(claims)];
      const name = (index: number) => `${served.map.store.volume}/${index}`;
      claims.has = (index) => known.has(name(index)) || has(index);
      claims.add = (index) => {
        known.add(name(index));
        add(index);
      };
    },
  };
}
