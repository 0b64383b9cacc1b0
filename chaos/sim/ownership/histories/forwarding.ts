/** Histories of changes that are forwarded, and sent again when their answers are lost. A owns at first, and node b's guest is at B. */
import { FORWARDING_BUGS } from '../bugs/forwarding.ts';
import type { Story } from '../story.ts';
import type { History } from './history.ts';

/** A has carried out what B forwards from here on, and its answers do not arrive. */
async function answersAreLost(story: Story, submit: () => void): Promise<void> {
  story.cluster.link('a', 'b').slow = [];
  submit();
  await story.rest();
  story.cluster.cut('a', 'b');
  story.cluster.link('a', 'b').slow = null;
}

export const FORWARDING_HISTORIES: readonly History[] = [
  {
    rule: 'a change that was done is answered when it is sent again',
    bug: FORWARDING_BUGS.resendsWithoutSequence,
    async tell(story) {
      await answersAreLost(story, () => void story.submit('b', 1));
      await story.read('a');
      await story.write('a', 2);
      story.cluster.restore('a', 'b');
      await story.rest();
      await story.read('a');
    },
  },
  {
    rule: 'a handover tells which forwarded changes were done',
    bug: FORWARDING_BUGS.handOverForgetsAnswers,
    async tell(story) {
      await answersAreLost(story, () => void story.submit('b', 1));
      await story.read('a');
      // B hears of it late.
      story.node('b').behind = [];
      await story.settle(story.handOver('a', 'c'));
      await story.attach('c');
      await story.write('c', 2);
      story.resume('b');
      await story.rest();
      await story.read('c');
    },
  },
  {
    rule: 'who becomes the owner knows which of its own forwarded changes were done',
    bug: { ...FORWARDING_BUGS.handOverForgetsAnswers, name: 'new-owner-forgets-answers' },
    async tell(story) {
      // B, which is told of the handover, does not notice yet that the answer will never come.
      const toB = story.cluster.link('a', 'b');
      toB.slow = [];
      void story.submit('b', 1);
      await story.rest();
      await story.read('a');
      await story.write('a', 2);
      toB.slow = [];
      const moved = story.handOver('a', 'b');
      await story.rest();
      for (const frame of toB.slow?.splice(0) ?? []) frame();
      toB.slow = null;
      await story.settle(moved);
      story.cluster.cut('a', 'b');
      await story.rest();
      await story.read('b');
      story.cluster.restore('a', 'b');
    },
  },
  {
    rule: 'a new session waits for what the one before has under way',
    bug: FORWARDING_BUGS.sessionDoesNotWait,
    async tell(story) {
      story.hold('a', 1);
      void story.submit('b', 1);
      await story.rest();
      // Both wait for it, in this order; what is sent again comes last.
      void story.look('a');
      void story.submit('a', 2);
      story.cluster.cut('a', 'b');
      story.cluster.restore('a', 'b');
      await story.rest();
      await story.land('a');
      await story.read('a');
    },
  },
];
