import type { Term } from '../../../../src/raft/index.ts';
import { type Bug, onStep, wrap } from './bug.ts';

export const ELECTION_BUGS: readonly Bug[] = [
  {
    name: 'vote-not-persisted',
    mistake: 'the term is written to the disk and the vote is not, so a restarted member votes again',
    plant({ disk }) {
      disk.bug = { alter: (batch) => (batch.hardState === null ? batch : { ...batch, hardState: { ...batch.hardState, votedFor: null } }) };
    },
  },
  {
    name: 'term-not-persisted',
    mistake: 'term and vote are kept in memory only',
    plant({ disk }) {
      disk.bug = { alter: (batch) => ({ ...batch, hardState: null }) };
    },
  },
  {
    name: 'vote-ignores-log',
    mistake: 'votes go to candidates whose log lacks entries',
    plant({ inside: { state } }) {
      state.log.isUpToDate = () => true;
    },
  },
  {
    name: 'pre-vote-ignores-log',
    mistake: 'a member tells candidates to campaign whose log lacks entries',
    plant({ inside: { core, state } }) {
      const { log } = state;
      const isUpToDate = log.isUpToDate.bind(log);
      wrap(core, 'step', (step) => (message) => {
        log.isUpToDate = message.type === 'preVote' ? () => true : isUpToDate;
        step(message);
      });
    },
  },
  {
    name: 'votes-twice',
    mistake: 'a member does not remember within a term whom it voted for',
    plant(patient) {
      onStep(patient, (message) => {
        const { state } = patient.inside;
        if (message.type === 'vote' && state.role === 'follower') state.votedFor = null;
        return message;
      });
    },
  },
  {
    name: 'counts-old-votes',
    mistake: 'a candidate counts votes that were given in an earlier term',
    plant(patient) {
      onStep(patient, (message) =>
        message.type === 'voteReply' ? { ...message, term: Math.max(message.term, patient.inside.state.term) as Term } : message,
      );
    },
  },
  {
    name: 'accepts-old-leader',
    mistake: 'a follower takes entries from a leader of an older term',
    plant(patient) {
      onStep(patient, (message) => {
        const { state } = patient.inside;
        const old = message.type === 'append' && message.term < state.term && state.role === 'follower' && state.leader === null;
        return old ? { ...message, term: state.term } : message;
      });
    },
  },
];
