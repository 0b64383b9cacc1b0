import { configurationOf, encodeConfiguration, isVoter, membersOf } from '../../../../src/raft/core/configuration.ts';
import { Progress } from '../../../../src/raft/core/progress.ts';
import type { Configuration, Entry, LogIndex, Members } from '../../../../src/raft/index.ts';
import { type Bug, type Patient, wrap } from './bug.ts';

/** Appends a configuration as a leader does, without asking whether it may. */
function append({ inside: { state } }: Patient, configuration: Configuration): LogIndex {
  const { log, leadership } = state;
  if (leadership === null) return log.lastIndex;
  const data = encodeConfiguration(configuration);
  const entry: Entry = {
    index: (log.lastIndex + 1) as LogIndex,
    term: state.term,
    kind: 'configuration',
    data,
    clientId: '',
    session: 0,
    sequence: 0,
    acknowledged: 0,
  };
  leadership.uncommittedBytes += data.byteLength + 48;
  log.append([entry]);
  for (const id of membersOf(configuration)) {
    if (id !== state.id && !leadership.progress.has(id)) leadership.progress.set(id, new Progress(entry.index, state.options));
  }
  state.flushNeeded = true;
  return log.lastIndex;
}

const direct = ({ voters, learners }: Members) => configurationOf(voters, learners);

export const MEMBERSHIP_BUGS: readonly Bug[] = [
  {
    name: 'membership-without-joint',
    mistake: 'several voters are exchanged in one step',
    plant(patient) {
      const { core, state } = patient.inside;
      wrap(core, 'proposeConfiguration', (propose) => (wanted) => {
        const { log } = state;
        const quiet = log.configurationIndex <= log.committed && log.termAt(log.committed) === state.term && log.configuration.outgoing.length === 0;
        return quiet && isVoter(direct(wanted), state.id) ? append(patient, direct(wanted)) : propose(wanted);
      });
    },
  },
  {
    name: 'membership-before-noop',
    mistake: 'a new leader changes the membership before it has committed anything in its term',
    plant(patient) {
      const { core, state } = patient.inside;
      wrap(core, 'proposeConfiguration', (propose) => (wanted) => {
        if (state.leadership === null || state.log.configurationIndex > state.log.committed) return propose(wanted);
        if (state.log.termAt(state.log.committed) === state.term) return propose(wanted);
        const { voters, learners } = state.log.configuration;
        const other = wanted.voters.find((id) => !voters.includes(id));
        return append(
          patient,
          configurationOf(
            other === undefined ? voters : [...voters, other],
            learners.filter((id) => id !== other),
          ),
        );
      });
    },
  },
  {
    name: 'overlapping-membership-changes',
    mistake: 'a membership change begins while another is not committed',
    plant(patient) {
      const { core, state } = patient.inside;
      wrap(core, 'proposeConfiguration', (propose) => (wanted) => {
        const index = propose(wanted);
        const { configuration } = state.log;
        if (configuration.outgoing.length > 0) return index;
        const other = wanted.voters.find((id) => id !== state.id);
        return append(
          patient,
          configurationOf(
            configuration.voters.filter((id) => id !== other),
            configuration.learners,
          ),
        );
      });
    },
  },
  {
    name: 'compaction-forgets-membership',
    mistake: 'the base of a compacted log keeps the membership that the directory began with',
    plant({ disk }) {
      const { configuration } = disk.durable.base;
      disk.bug = {
        alter: (batch) => (batch.compactTo === null ? batch : { ...batch, compactTo: { ...batch.compactTo, configuration } }),
      };
    },
  },
];
