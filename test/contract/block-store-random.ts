/** Random operations on a store and on a naive twin: arrays in memory. They must agree after each step. */
import fc from 'fast-check';
import { describe, it } from 'vitest';
import type { BlockStore, VolumeStore, WritableBlockObject } from '../../src/blocker/index.ts';
import type { StorePromises } from './block-store.ts';
import { done, expectBytes, expectCode, generationOf, owner, pattern, readOf, type StoreUnderTest } from './store-support.ts';

const OBJECTS = 4;
const OBJECT_BYTES = 400_000;

type Kind = 'read' | 'write' | 'create' | 'zero' | 'remove' | 'release' | 'claim';

interface Operation {
  readonly kind: Kind;
  readonly object: number;
  readonly offset: number;
  readonly length: number;
  readonly seed: number;
}

/** Operations of one step are under way together; each touches an object of its own. */
type Step = { readonly together: readonly Operation[] } | { readonly next: 'sync' | 'take over' | 'fail over' };

// The sizes at which drivers change their way: sectors, pages, the bound of what is small.
const length = fc.oneof(fc.constantFrom(0, 1, 512, 4096, 65_536, 65_537), fc.integer({ min: 0, max: 150_000 }));
const offset = fc.oneof(fc.constantFrom(0, 512, 4096, 65_536), fc.integer({ min: 0, max: OBJECT_BYTES - 150_000 }));

const operation: fc.Arbitrary<Operation> = fc.record({
  kind: fc.constantFrom<Kind>('read', 'read', 'write', 'write', 'write', 'create', 'create', 'zero', 'zero', 'remove', 'release', 'claim'),
  object: fc.nat(OBJECTS - 1),
  offset,
  length,
  seed: fc.nat(255),
});

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 9,
    arbitrary: fc.record({ together: fc.uniqueArray(operation, { minLength: 1, maxLength: OBJECTS, selector: ({ object }) => object }) }),
  },
  { weight: 1, arbitrary: fc.record({ next: fc.constantFrom('sync' as const, 'take over' as const, 'fail over' as const) }) },
);

export function blockStoreRandomContract(name: string, open: () => Promise<StoreUnderTest>, { randomRuns = 40 }: StorePromises): void {
  describe(`${name}: random operations`, () => {
    it('agree with a naive twin', async () => {
      const steps = fc.array(step, { minLength: 1, maxLength: 40 });
      await fc.assert(
        fc.asyncProperty(steps, async (list) => {
          const under = await open();
          try {
            await play(under.first, list);
          } finally {
            await under.end();
          }
        }),
        { numRuns: randomRuns, interruptAfterTimeLimit: 20_000 },
      );
    });
  });
}

async function play(store: BlockStore, steps: readonly Step[]): Promise<void> {
  const twin = new Map<number, Uint8Array>();
  let epoch = 1;
  let volume = await owner(store, 1, epoch);
  let handles = handlesOf(volume);
  for (const each of steps) {
    if ('together' in each) {
      await Promise.all(each.together.map((one) => perform(volume, handles, twin, one)));
    } else if (each.next === 'sync') {
      await volume.sync();
    } else {
      const left = volume.unsynced();
      await volume.close();
      epoch++;
      volume = await owner(store, 1, epoch, each.next === 'take over');
      volume.adoptUnsynced(left);
      handles = handlesOf(volume);
    }
  }
  await volume.sync();
  for (const [index, bytes] of twin) expectBytes(await readOf(store.immutableObject(generationOf(1), index), 0, OBJECT_BYTES), bytes);
  for (let index = 0; index < OBJECTS; index++) {
    const exists = await store.objectExists({ generation: generationOf(1), index });
    if (exists !== twin.has(index)) throw new Error(`object ${index} ${exists ? 'exists' : 'is missing'}`);
  }
}

function handlesOf(volume: VolumeStore): WritableBlockObject[] {
  return Array.from({ length: OBJECTS }, (_, index) => volume.object(generationOf(1), index));
}

async function perform(volume: VolumeStore, handles: WritableBlockObject[], twin: Map<number, Uint8Array>, one: Operation): Promise<void> {
  const object = handles[one.object] as WritableBlockObject;
  const bytes = twin.get(one.object);
  const data = pattern(one.seed, one.length);
  switch (one.kind) {
    case 'read':
      if (bytes === undefined) await expectCode(readOf(object, one.offset, one.length), 'not-found');
      else expectBytes(await readOf(object, one.offset, one.length), bytes.slice(one.offset, one.offset + one.length));
      return;
    case 'create': {
      const creating = done((waiter) => object.create(one.offset, data, waiter));
      if (bytes !== undefined) return expectCode(creating, 'exists');
      await creating;
      const made = new Uint8Array(OBJECT_BYTES);
      made.set(data, one.offset);
      twin.set(one.object, made);
      return;
    }
    case 'write': {
      const writing = done((waiter) => object.write(one.offset, data, waiter));
      if (bytes === undefined) return expectCode(writing, 'not-found');
      await writing;
      bytes.set(data, one.offset);
      return;
    }
    case 'zero': {
      const zeroing = done((waiter) => object.zero(one.offset, one.length, waiter));
      if (bytes === undefined) return expectCode(zeroing, 'not-found');
      await zeroing;
      bytes.fill(0, one.offset, one.offset + one.length);
      return;
    }
    case 'remove':
      await done((waiter) => object.remove(waiter));
      twin.delete(one.object);
      return;
    case 'claim': {
      const claiming = done((waiter) => object.claim(waiter));
      return bytes === undefined ? expectCode(claiming, 'not-found') : claiming;
    }
    case 'release':
      object.release();
      handles[one.object] = volume.object(generationOf(1), one.object);
  }
}
