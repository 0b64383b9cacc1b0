/**
 * Rules of the fences, each left out on purpose: the random histories of `world.ts`, with owners that are paused and go on after they were
 * taken over, have to find what comes of it. The shortest such history is told with each.
 */
import { describe, expect, test } from 'vitest';
import { Violation } from '../../chaos/sim/volume/twin.ts';
import { type Hooks, World } from '../../chaos/sim/volume/world.ts';
import type { Generation } from '../../src/base/index.ts';
import { type StoreWaiter, storeCall, type WritableBlockObject } from '../../src/blocker/index.ts';
import type { OpenMap } from '../../src/mapper/index.ts';
import type { Block } from '../../src/volume/block.ts';
import type { ServedVolume } from '../../src/volume/served-volume.ts';

const MAX_SEEDS = 60;

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

const CANARIES: { readonly name: string; readonly history: string; readonly hooks: Hooks; readonly handOvers?: number }[] = [
  {
    name: 'nothing is claimed',
    history: 'A submits v1; takeover; B writes v2, acknowledged; v1 lands',
    hooks: {
      map: (map) =>
        claimBy(map, (object) => {
          object.claim = () => true;
        }),
    },
  },
  {
    name: 'a read does not claim',
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
    name: 'a failover goes on naming by the generation before',
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
    name: 'a handover does not pass on what is unclean',
    history: "A's v1 under way; failover to B, block untouched; handover back to A; A writes v2 unclaimed; v1 lands",
    handOvers: 0.1,
    hooks: {
      map: (map) => {
        const { live, options } = insideMap(map);
        if (!('generation' in options.naming)) insideMap(map).live = { ...live, uncleanGenerations: [] };
      },
    },
  },
  {
    name: 'a snapshot does not wait for claims',
    history: "A's v1 under way; takeover; B snapshots an untouched block; v1 lands in the snapshot",
    hooks: {
      served: (served) => {
        served.claimAll = () => Promise.resolve();
        Object.defineProperty(served.map, 'hasUnclean', { get: () => false });
      },
    },
  },
  {
    name: 'a process remembers what it claimed when it is the owner again',
    history: "A's remembered claims are from before B; B's write under way lands over what A writes",
    hooks: rememberForLife(),
  },
  {
    name: 'I/O does not wait for the claim of its block',
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
    name: 'the list is emptied before everything is claimed',
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

describe('the random histories find that', () => {
  test.each(CANARIES)(
    '$name',
    async ({ hooks, handOvers = 0.03 }) => {
      let found: unknown = null;
      for (let seed = 1; seed <= MAX_SEEDS && found === null; seed++) {
        const world = new World({ seed, steps: 700, faults: false, failovers: 0.02, handOvers, hooks });
        await world.run().catch((error: unknown) => {
          found = error;
        });
      }
      expect(found).toBeInstanceOf(Violation);
    },
    300_000,
  );

  test('nothing is wrong with all rules in force', async () => {
    let failovers = 0;
    for (let seed = 1; seed <= 10; seed++) {
      const world = new World({ seed, steps: 700, faults: seed % 2 === 0, failovers: 0.02, handOvers: 0.03 });
      await world.run();
      failovers += world.failovers;
    }
    expect(failovers).toBeGreaterThan(50);
  });
});
