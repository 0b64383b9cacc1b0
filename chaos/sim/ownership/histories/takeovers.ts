/** Histories of an owner that is taken over while it has something under way. */
import { DRAIN_BUGS } from '../bugs/drains.ts';
import { FENCE_BUGS } from '../bugs/fences.ts';
import type { Story } from '../story.ts';
import type { History } from './history.ts';

const LAST = { block: 7 } as const;

/** Objects in all blocks, so that the walk that claims in the background does not come to the last one while time stands still. */
async function fill(story: Story): Promise<void> {
  for (let block = 0; block < 8; block++) await story.write('a', 1 + block, { block });
}

export const TAKEOVER_HISTORIES: readonly History[] = [
  {
    rule: 'an object is claimed before it is read',
    bug: FENCE_BUGS.readsDoNotClaim,
    async tell(story) {
      await fill(story);
      await story.submitHeld('a', 20, LAST);
      await story.takeover('a', 'b');
      await story.read('b', LAST);
      await story.land('a');
      await story.read('b', LAST);
    },
  },
  {
    rule: 'the log is sealed',
    bug: FENCE_BUGS.logIsNotSealed,
    async tell(story) {
      await story.write('a', 1);
      await story.settle(story.node('a').volumes.root(story.volume.id));
      // The data lands, and the record does not: it would be the first of a segment.
      await story.submitHeld('a', 2, LAST);
      story.node('a').store.land();
      story.hold('a', 1);
      await story.rest();
      await story.takeover('a', 'b');
      await story.write('b', 3, LAST);
      await story.flush('b');
      await story.read('b', LAST);
      story.pause('b');
      story.expire('b');
      await story.land('a');
      await story.own('c');
      await story.attach('c');
      await story.read('c', LAST);
    },
  },
  {
    rule: 'the log is sealed before it is read',
    bug: FENCE_BUGS.readsBeforeSealing,
    async tell(story) {
      await story.write('a', 1);
      // Its lease is over, and its process goes on.
      story.pause('a');
      story.expire('a');
      story.hold('b', 1);
      const owned = story.node('b').volumes.own(story.volume.id);
      await story.rest();
      // B has read with the bug, and not sealed: A's log goes on, and its header with it.
      for (const block of [5, 6]) {
        void story.submit('a', 2 + block, { block });
        await story.rest();
        await story.settle(story.node('a').volumes.root(story.volume.id));
      }
      await story.land('b');
      await story.settle(owned);
      await story.write('b', 20, LAST);
      story.pause('b');
      story.expire('b');
      await story.own('c');
      await story.attach('c');
      await story.read('c', LAST);
    },
  },
  {
    rule: 'a copy takes the place of what is claimed before anything is answered from it',
    bug: FENCE_BUGS.claimIsNotKept,
    fence: 'copy',
    async tell(story) {
      await fill(story);
      await story.submitHeld('a', 20, LAST);
      await story.takeover('a', 'b');
      await story.read('b', LAST);
      await story.land('a');
      story.pause('b');
      story.expire('b');
      await story.own('c');
      await story.attach('c');
      await story.read('c', LAST);
    },
  },
  {
    rule: 'a failover starts a new naming generation',
    bug: FENCE_BUGS.keepsNamingGeneration,
    async tell(story) {
      await story.write('a', 1, LAST);
      await story.settle(story.trim('a', 7));
      // The name exists: the second change of its object is the write.
      story.holdWrites('a');
      void story.submit('a', 2, LAST);
      await story.rest();
      await story.takeover('a', 'b');
      await story.write('b', 3, LAST);
      await story.read('b', LAST);
      await story.land('a');
      await story.read('b', LAST);
    },
  },
  {
    rule: 'a handover inherits what is unclean',
    bug: FENCE_BUGS.handOverIsClean,
    async tell(story) {
      await fill(story);
      await story.submitHeld('a', 20, LAST);
      await story.takeover('a', 'b');
      await story.settle(story.handOver('b', 'c'));
      await story.attach('c');
      await story.write('c', 21, LAST);
      await story.read('c', LAST);
      await story.land('a');
      await story.read('c', LAST);
    },
  },
  {
    rule: 'a snapshot waits until everything is claimed',
    bug: FENCE_BUGS.snapshotDoesNotClaim,
    async tell(story) {
      await fill(story);
      await story.submitHeld('a', 20, LAST);
      await story.takeover('a', 'b');
      await story.settle(story.snapshot('b', 's'));
      await story.readSnapshot('s', LAST);
      await story.land('a');
      await story.readSnapshot('s', LAST);
    },
  },
  {
    rule: 'everything mutable is dropped at every change of owner',
    bug: FENCE_BUGS.remembersClaims,
    async tell(story) {
      await fill(story);
      await story.takeover('a', 'b');
      // Claimed by B, which loses the volume and will be its owner once more.
      await story.read('b', LAST);
      story.resume('a');
      story.revive('a');
      await story.takeover('b', 'a');
      await story.write('a', 20, LAST);
      await story.submitHeld('a', 21, LAST);
      story.resume('b');
      story.revive('b');
      await story.takeover('a', 'b');
      await story.write('b', 22, LAST);
      await story.read('b', LAST);
      await story.land('a');
      await story.read('b', LAST);
    },
  },
  {
    rule: 'I/O waits for the claim of its block',
    bug: FENCE_BUGS.claimDoesNotBlock,
    async tell(story) {
      await fill(story);
      await story.submitHeld('a', 20, LAST);
      await story.takeover('a', 'b');
      await story.submitHeld('b', 21, LAST);
      void story.look('b', LAST);
      await story.rest();
      await story.land('a');
      await story.land('b');
      await story.read('b', LAST);
    },
  },
  {
    rule: 'a changed entry is recorded before its write is answered',
    bug: DRAIN_BUGS.recordsAfterAnswer,
    async tell(story) {
      // The data lands, and the record does not before A is dead.
      story.hold('a', 1);
      void story.submit('b', 1);
      await story.rest();
      story.node('a').store.land();
      story.hold('a');
      await story.rest();
      story.kill('a');
      await story.own('b');
      await story.flush('b');
      await story.read('b');
    },
  },
  {
    rule: 'an object is removed only after a durable record',
    bug: DRAIN_BUGS.removesAtOnce,
    async tell(story) {
      await story.write('a', 1);
      story.hold('a', 1);
      void story.trim('a', 0);
      await story.rest();
      story.node('a').store.land();
      story.hold('a');
      await story.rest();
      story.kill('a');
      await story.own('b');
      await story.read('b');
    },
  },
  {
    rule: 'a name is used again only when its removal has ended',
    bug: DRAIN_BUGS.removesLate,
    async tell(story) {
      await story.write('a', 1);
      await story.settle(story.trim('a', 0));
      await story.write('a', 2);
      await story.rest();
      await story.read('a');
    },
  },
];
