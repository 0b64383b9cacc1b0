/** Owners that do not fence their predecessors off, or not all, or too late. */
import { ArchipelagoError, type Generation, type VolumeId } from '../../../../src/base/index.ts';
import { type StoreWaiter, storeCall, type WritableBlockObject } from '../../../../src/blocker/index.ts';
import type { OpenMap } from '../../../../src/mapper/index.ts';
import type { Block } from '../../../../src/volume/block.ts';
import type { ServedVolume } from '../../../../src/volume/served-volume.ts';
import type { SimLog } from '../../volume/disk.ts';
import { type Bug, insideMap, watchServed, wrap } from './bug.ts';

interface ServedInside {
  claim(block: Block, writable: WritableBlockObject): void;
  claims: { has(index: number): boolean; add(index: number): void } | null;
}

const insideServed = (served: ServedVolume) => served as unknown as ServedInside;

/** Changes the objects that a map's owner writes. */
function objectsBy(map: OpenMap, by: (object: WritableBlockObject) => void): void {
  wrap(map.store, 'object', (object) => (generation, index) => {
    const made = object(generation, index);
    by(made);
    return made;
  });
}

/** Private parts of the simulated stores. */
interface StoreInside {
  epoch: number;
  log: object;
  readonly logs: Map<number, { epoch?: number }>;
}

export const FENCE_BUGS = {
  readsDoNotClaim: {
    name: 'reads-do-not-claim',
    mistake: 'an object is claimed before it is written, and not before it is read',
    plant: (node) =>
      watchServed(node, ({ map }) =>
        objectsBy(map, (object) => {
          const claim = object.claim.bind(object);
          object.claim = () => true;
          let claimed: Promise<void> | null = null;
          wrap(object, 'write', (write) => (offset, data, waiter: StoreWaiter) => {
            claimed ??= storeCall(claim);
            claimed
              .then(() => storeCall((each) => write(offset, data, each)))
              .then(
                () => waiter.storeDone(null),
                (error) => waiter.storeDone(error),
              );
            return false;
          });
        }),
      ),
  },
  logIsNotSealed: {
    name: 'log-is-not-sealed',
    mistake: 'a new owner goes on with the log that the one before may still be writing',
    plant(node) {
      wrap(node.store, 'takeOver', (takeOver) => async (volume, epoch, clean) => {
        const former = [...(node.store.disk.logs.get(volume)?.values() ?? [])].map((log) => log.owner) as unknown as (StoreInside | null)[];
        const takeover = await takeOver(volume, epoch, clean);
        for (const store of former) if (store !== null) store.log = (takeover.store as unknown as StoreInside).log;
        return takeover;
      });
    },
  },
  readsBeforeSealing: {
    name: 'reads-before-sealing',
    mistake: 'a new owner reads the log first, and keeps the one before from writing it afterwards',
    plant(node) {
      const { trusted } = node.store as unknown as { trusted(volume: VolumeId): [number, SimLog] | undefined };
      wrap(node.store, 'takeOver', (takeOver) => async (volume, epoch, clean) => {
        const log = trusted.call(node.store, volume)?.[1];
        const header = log?.header?.slice() ?? null;
        const segments = Array.from(log?.segments ?? [], ([number, file]) => ({ number, bytes: file.bytes() }));
        return { ...(await takeOver(volume, epoch, clean)), header, segments };
      });
    },
  },
  claimIsNotKept: {
    name: 'claim-is-not-kept',
    mistake: 'an owner answers from its copy of a claimed object before the copy has taken its place',
    plant: (node) =>
      watchServed(node, ({ map }) =>
        objectsBy(map, (object) => {
          wrap(object, 'claim', (claim) => (waiter) => {
            const name = `${object.generation}/${object.index}`;
            const file = node.store.disk.objects.get(name);
            if (file === undefined || node.store.disk.fence === 'guard') return claim(waiter);
            (map.store as unknown as { descriptors: Map<string, typeof file> }).descriptors.set(name, file.copy());
            return true;
          });
        }),
      ),
  },
  keepsNamingGeneration: {
    name: 'keeps-naming-generation',
    mistake: 'after a failover new objects are named as the owner before names its own',
    plant: (node) =>
      watchServed(node, ({ map }) => {
        const before = insideMap(map).live.uncleanGenerations.at(-1);
        if (before !== undefined) Object.defineProperty(map, 'naming', { get: () => before as Generation });
      }),
  },
  guardIsEqual: {
    name: 'guard-is-equal',
    mistake: "an owner may change an object only if the object bears that owner's very epoch",
    plant(node) {
      watchServed(node, ({ map, epoch }) =>
        objectsBy(map, (object) => {
          wrap(object, 'write', (write) => (offset, data, waiter) => {
            const file = node.store.disk.objects.get(`${object.generation}/${object.index}`);
            return write(offset, data, {
              storeDone: (error) => waiter.storeDone(error ?? (file !== undefined && file.epoch !== epoch ? staleError() : null)),
            });
          });
        }),
      );
    },
  },
  handOverIsClean: {
    name: 'handover-forgets-unclean',
    mistake: 'a handover does not pass on what an owner before may still be writing',
    plant: (node) =>
      watchServed(node, (served) => {
        const inside = insideMap(served.map);
        if ('generation' in inside.options.naming) return;
        inside.live = { ...inside.live, uncleanGenerations: [] };
      }),
  },
  snapshotDoesNotClaim: {
    name: 'snapshot-does-not-claim',
    mistake: 'a snapshot does not wait until everything of owners before is claimed',
    plant: (node) =>
      watchServed(node, (served) => {
        served.claimAll = () => Promise.resolve();
        Object.defineProperty(served.map, 'hasUnclean', { get: () => false });
      }),
  },
  remembersClaims: {
    name: 'remembers-claims',
    mistake: 'a process still knows what it had claimed when it is the owner again',
    plant(node) {
      const known = new Set<string>();
      watchServed(node, (served) => {
        const { claims } = insideServed(served);
        if (claims === null) return;
        const name = (index: number) => `${served.map.store.volume}/${index}`;
        wrap(claims, 'has', (has) => (index) => known.has(name(index)) || has(index));
        wrap(claims, 'add', (add) => (index) => {
          known.add(name(index));
          add(index);
        });
      });
    },
  },
  claimDoesNotBlock: {
    name: 'io-beside-claim',
    mistake: 'I/O of a block does not wait for the claim of its object',
    plant: (node) =>
      watchServed(node, (served) => {
        wrap(insideServed(served), 'claim', (claim) => (block, writable) => {
          claim(block, writable);
          block.exclusive = false;
        });
      }),
  },
} satisfies Record<string, Bug>;

function staleError() {
  return new ArchipelagoError('stale-epoch', 'the object bears another epoch');
}
