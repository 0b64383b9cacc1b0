/** Histories of clients that begin to write, and of what that does and does not move. A owns at first, and guests are at A and B. */
import { FIRST_WRITE_BUGS } from '../bugs/first-writes.ts';
import type { History } from './history.ts';

/** Longer than anything stays because it has just moved. */
const LONG_MS = 3000;

export const FIRST_WRITE_HISTORIES: readonly History[] = [
  {
    rule: 'reads move nothing',
    bug: FIRST_WRITE_BUGS.readsMove,
    async tell(story) {
      await story.pass(LONG_MS);
      await story.read('b');
      await story.pass(LONG_MS);
    },
  },
  {
    rule: "a client's later writes move nothing",
    bug: FIRST_WRITE_BUGS.everyWriteMoves,
    async tell(story) {
      await story.pass(LONG_MS);
      await story.write('a', 1);
      await story.write('b', 2);
      await story.leave('a');
      await story.write('b', 3);
      await story.pass(LONG_MS);
    },
  },
  {
    rule: 'a volume stays where a client writes at the owner',
    bug: FIRST_WRITE_BUGS.leavesWriter,
    async tell(story) {
      await story.write('a', 1);
      await story.write('b', 2);
      await story.pass(LONG_MS);
      await story.attach('c');
      await story.write('c', 3);
      await story.pass(LONG_MS);
      await story.read('b');
    },
  },
  {
    rule: 'a volume moves by itself once a second at most',
    bug: FIRST_WRITE_BUGS.movesAtOnce,
    async tell(story) {
      await story.pass(LONG_MS);
      for (let write = 1; write <= 8; write++) {
        const node = write % 2 === 1 ? 'b' : 'c';
        await story.attach(node);
        await story.write(node, write);
        await story.pass(300);
        // A move that has begun ends: whoever called it is there.
        await story.rest();
        await story.leave(node);
      }
    },
  },
  {
    rule: 'where an administrator has put it, it stays until a client attaches anew',
    bug: FIRST_WRITE_BUGS.undoesMigration,
    async tell(story) {
      await story.attach('c');
      await story.write('b', 1);
      await story.pass(LONG_MS);
      await story.settle(story.handOver('b', 'a'));
      await story.pass(LONG_MS);
      await story.write('b', 2);
      await story.write('c', 3);
      await story.pass(LONG_MS);
    },
  },
];
