/** Owners that take what another node sends them again for something new. */
import type { AnsweredWindow } from '../../../../src/volume/sequences.ts';
import { type Bug, watchServed, wrap } from './bug.ts';

/** Private parts of the server of sessions. */
interface ServerInside {
  readonly ending: Set<unknown>;
  end(session: object): void;
}

export const FORWARDING_BUGS = {
  resendsWithoutSequence: {
    name: 'resend-without-sequence',
    mistake: 'a change that is sent again, because its answer was lost, is carried out again',
    plant: (node) =>
      watchServed(node, ({ answered }) => {
        wrap(answered, 'of', (of) => (name, origin) => {
          const window: AnsweredWindow = of(name, origin);
          window.isDone = () => false;
          window.begin = () => undefined;
          return window;
        });
      }),
  },
  handOverForgetsAnswers: {
    name: 'handover-forgets-answers',
    mistake: 'a handover does not pass on which forwarded changes were done',
    plant: (node) =>
      watchServed(node, ({ answered }) => {
        answered.toHandOver = () => [];
      }),
  },
  sessionDoesNotWait: {
    name: 'session-does-not-wait',
    mistake: 'a new session is opened beside what the one before has under way in the store',
    plant(node) {
      const inside = node.volumes.sessions as unknown as ServerInside;
      wrap(inside, 'end', (end) => (session) => {
        end(session);
        inside.ending.clear();
      });
      // Nobody remembers the first attempt either, or it would be noticed.
      watchServed(node, ({ answered }) => {
        wrap(answered, 'of', (of) => (name, origin) => {
          answered.forget(name);
          return of(name, origin);
        });
      });
    },
  },
} satisfies Record<string, Bug>;
