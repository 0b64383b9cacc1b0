/** Owners that answer, cut or hand over before everything that belongs to it has reached the store. */
import { ArchipelagoError, type Generation } from '../../../../src/base/index.ts';
import type { WritableBlockObject } from '../../../../src/blocker/index.ts';
import { type Bug, insideMap, watchServed, wrap } from './bug.ts';

export const DRAIN_BUGS = {
  recordsAfterAnswer: {
    name: 'records-after-answer',
    mistake: 'a write is answered when its data is in the store, and its map entry is recorded afterwards',
    plant: (node) =>
      watchServed(node, ({ map }) => {
        const unheard = (error: unknown) => {
          // Who was told already hears of no refusal, as of the lease that is over or the store that failed.
          if (!(error instanceof ArchipelagoError)) throw error;
        };
        wrap(insideMap(map), 'recordChange', (record) => async (change) => void record(change).catch(unheard));
      }),
  },
  doesNotDrain: {
    name: 'does-not-drain',
    mistake: 'a snapshot or a handover does not wait for what is under way',
    plant: (node) =>
      watchServed(node, (served) => {
        wrap(served, 'stopAdmitting', (stop) => async () => void stop());
        served.forgetBlocks = () => undefined;
      }),
  },
  removesAtOnce: {
    name: 'removes-before-record',
    mistake: 'a trim removes the object before the record that drops it is durable',
    plant: (node) =>
      watchServed(node, ({ map, blockSizeBytes }) => {
        wrap(map.store, 'object', (object) => (generation, index) => {
          const made: WritableBlockObject = object(generation, index);
          wrap(made, 'zero', (zero) => (offset, length, waiter) => (length === blockSizeBytes ? made.remove(waiter) : zero(offset, length, waiter)));
          return made;
        });
      }),
  },
  removesLate: {
    name: 'reuses-name-before-removal',
    mistake: 'an object is removed in the background, and its name is used again meanwhile',
    plant: (node) =>
      watchServed(node, ({ map, pages }) => {
        wrap(insideMap(map), 'recordChange', (record) => async (change) => {
          const generation = change.kind === 'absent' ? pages.generationOf(change.index) : 0;
          await record(change);
          if (change.kind === 'absent' && generation > 0)
            map.store.object(generation as Generation, change.index).remove({ storeDone: () => undefined });
        });
      }),
  },
  mergesWithoutDrain: {
    name: 'merge-outlives-handover',
    mistake: 'a handover waits for what guests have under way, and not for the merge of layered blocks',
    plant: (node) =>
      watchServed(node, (served) => {
        const counted = served as unknown as { inFlight: number; readonly blocks: Map<number, unknown> };
        wrap(
          served,
          'withBlock',
          (withBlock) => (block, work) =>
            withBlock(block, async () => {
              counted.inFlight--;
              await work().finally(() => {
                counted.inFlight++;
              });
            }),
        );
        served.forgetBlocks = () => counted.blocks.clear();
      }),
  },
} satisfies Record<string, Bug>;
