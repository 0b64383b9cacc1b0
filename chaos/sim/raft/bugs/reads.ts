import { type Bug, onStep, wrap } from './bug.ts';

export const READ_BUGS: readonly Bug[] = [
  {
    name: 'read-index-before-noop',
    mistake: 'a new leader answers reads before it has committed anything in its term',
    plant({ inside: { core, state } }) {
      const { log } = state;
      const termAt = log.termAt.bind(log);
      const asIfCommitted = (run: () => void) => {
        log.termAt = (index) => (index === log.committed ? state.term : termAt(index));
        run();
        log.termAt = termAt;
      };
      wrap(core, 'readIndex', (readIndex) => (context) => asIfCommitted(() => readIndex(context)));
      wrap(core, 'step', (step) => (message) => (message.type === 'readIndex' ? asIfCommitted(() => step(message)) : step(message)));
    },
  },
  {
    name: 'read-without-quorum',
    mistake: 'a leader answers reads because it believes to lead',
    plant({ inside: { core, state } }) {
      wrap(core, 'readIndex', (readIndex) => (context) => {
        if (state.leadership === null) readIndex(context);
        else state.reads.push({ context, index: state.log.committed, refused: false });
      });
    },
  },
  {
    name: 'late-heartbeat-confirms-newer-read',
    mistake: 'any answer to a heartbeat confirms every read that waits, however long ago the heartbeat was sent',
    plant(patient) {
      const { state } = patient.inside;
      onStep(patient, (message) => (message.type === 'heartbeatReply' ? { ...message, round: state.leadership?.round ?? message.round } : message));
    },
  },
  {
    name: 'read-before-applied',
    mistake: 'a confirmed read does not wait until the state machine has got there',
    plant({ inside: { barriers } }) {
      wrap(barriers, 'answer', (answer) => (read, applied) => answer({ ...read, index: 0 as typeof read.index }, applied));
    },
  },
  {
    name: 'read-joins-running-question',
    mistake: 'a read shares the answer to a question that was asked before it came',
    plant({ inside: { barriers } }) {
      const fields = barriers as unknown as { queued: unknown[]; asked: { waiting: unknown[] } | null };
      wrap(barriers, 'add', (add) => (timeoutMs) => {
        const barrier = add(timeoutMs);
        if (fields.asked !== null) fields.asked.waiting.push(...fields.queued.splice(0));
        return barrier;
      });
    },
  },
];
