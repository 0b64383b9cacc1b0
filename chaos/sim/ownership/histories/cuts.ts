/** Histories of handovers and snapshots while something is under way. */
import { DRAIN_BUGS } from '../bugs/drains.ts';
import { FENCE_BUGS } from '../bugs/fences.ts';
import type { History } from './history.ts';

/** Sectors of a sub-block. */
const SUB_BLOCK = 2;

export const CUT_HISTORIES: readonly History[] = [
  {
    rule: 'a handover waits for what is under way',
    bug: DRAIN_BUGS.doesNotDrain,
    async tell(story) {
      await story.submitHeld('a', 1);
      const moved = story.handOver('a', 'b');
      // Its outcome is waited for at the end.
      moved.catch(() => undefined);
      // The entry commits, and A hears of it late.
      const a = story.node('a');
      a.behind = [];
      await story.rest();
      await story.land('a');
      await story.rest();
      await story.read('b');
      story.resume('a');
      await story.settle(moved);
    },
  },
  {
    rule: 'a snapshot waits for what is under way',
    bug: { ...DRAIN_BUGS.doesNotDrain, name: 'snapshot-does-not-drain' },
    async tell(story) {
      await story.write('a', 1);
      await story.submitHeld('a', 2);
      const taken = story.snapshot('a', 's');
      await story.rest();
      if (story.cluster.registry.byName('s') !== null) await story.readSnapshot('s');
      await story.land('a');
      await story.settle(taken);
      await story.readSnapshot('s');
    },
  },
  {
    rule: "the guard means 'at least'",
    bug: FENCE_BUGS.guardIsEqual,
    async tell(story) {
      await story.write('a', 1);
      await story.settle(story.handOver('a', 'b'));
      await story.write('b', 2);
    },
  },
  {
    rule: 'a drain includes merges',
    bug: DRAIN_BUGS.mergesWithoutDrain,
    merges: true,
    async tell(story) {
      for (let sub = 0; sub < 4; sub++) await story.write('a', 1 + sub, { sector: sub * SUB_BLOCK });
      await story.settle(story.snapshot('a', 's'));
      await story.write('a', 20);
      story.holdWrites('a');
      for (let walk = 0; walk < 3; walk++) await story.walkMerges();
      const moved = story.handOver('a', 'b');
      // Its outcome is waited for at the end.
      moved.catch(() => undefined);
      // A hears of the entry late.
      story.node('a').behind = [];
      await story.rest();
      if (story.volume.owner?.node === 'b') {
        await story.write('b', 21, { sector: SUB_BLOCK });
        await story.read('b', { sector: SUB_BLOCK });
      }
      await story.land('a');
      story.resume('a');
      await story.settle(moved);
      await story.read('b', { sector: SUB_BLOCK });
    },
  },
];
