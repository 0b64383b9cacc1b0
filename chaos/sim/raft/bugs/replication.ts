import { quorumValue } from '../../../../src/raft/core/quorum.ts';
import type { Entry, LogIndex, Message } from '../../../../src/raft/index.ts';
import type { PendingBatch } from '../../../../src/raft/pending-writes.ts';
import { afterEvents, type Bug, onStep, type Patient, wrap } from './bug.ts';

/** What a leader believes that a voter has on its disk. */
function matchOf({ inside: { state } }: Patient, id: string): number {
  return id === state.id ? state.log.persisted : (state.leadership?.progress.get(id)?.match ?? 0);
}

/** Commits up to an index of a leader's log, as its own rule would if it were this lax. */
function commit({ inside: { state } }: Patient, index: number): void {
  const { log, leadership } = state;
  if (leadership === null || index <= log.committed) return;
  for (const entry of log.slice(log.committed, index as LogIndex, Number.POSITIVE_INFINITY))
    leadership.uncommittedBytes -= entry.data.byteLength + 48;
  log.commitTo(index as LogIndex);
  state.flushNeeded = true;
}

export const REPLICATION_BUGS: readonly Bug[] = [
  {
    name: 'commits-by-half',
    mistake: 'one voter less than a majority is enough to commit',
    plant(patient) {
      const { state } = patient.inside;
      afterEvents(patient, () => {
        const matches = state.log.configuration.voters.map((id) => matchOf(patient, id)).sort((a, b) => b - a);
        const index = matches[Math.max(0, Math.floor(matches.length / 2) - 1)] ?? 0;
        if (state.log.termAt(index as LogIndex) === state.term) commit(patient, index);
      });
    },
  },
  {
    name: 'commits-older-term-by-counting',
    mistake: 'a leader commits an entry of an older term as soon as a majority has it',
    plant(patient) {
      const { state } = patient.inside;
      afterEvents(patient, () =>
        commit(
          patient,
          quorumValue(state.log.configuration, (id) => matchOf(patient, id)),
        ),
      );
    },
  },
  {
    name: 'stale-fsync-credited',
    mistake: 'when a write is through, whatever came or was overwritten since it began counts as durable, too',
    plant({ node, inside: { writes } }) {
      const driver = node as unknown as { finishWrite(batch: PendingBatch): void };
      const waiting = writes as unknown as { entries: Entry[]; messages: Message[] };
      const finish = driver.finishWrite.bind(node);
      driver.finishWrite = (batch) =>
        finish({ ...batch, last: waiting.entries.at(-1) ?? batch.last, messages: [...batch.messages, ...waiting.messages.splice(0)] });
    },
  },
  {
    name: 'leader-counts-unwritten',
    mistake: 'a leader counts itself for entries that are still on their way to its disk',
    plant({ inside: { state } }) {
      Object.defineProperty(state.log, 'persisted', { get: () => state.log.lastIndex, set: () => {} });
    },
  },
  {
    name: 'acknowledges-before-fsync',
    mistake: 'a write is reported as durable when it has only begun',
    plant({ disk }) {
      disk.bug = { early: true };
    },
  },
  {
    name: 'late-append-truncates',
    mistake: 'an append replaces everything behind its start, even what it agrees with',
    plant({ inside: { state } }) {
      wrap(state.log, 'merge', (merge) => (entries) => {
        const { log } = state;
        const first = entries[0];
        const cut = log as unknown as { truncate(from: number): void };
        if (first !== undefined && first.index > log.committed && first.index <= log.lastIndex) cut.truncate(first.index);
        merge(entries);
      });
    },
  },
  {
    name: 'heartbeat-commits-too-much',
    mistake: 'heartbeats carry the leader’s commit index although the follower’s log may not match so far',
    plant(patient) {
      const { state } = patient.inside;
      wrap(state, 'send', (send) => (to, body, term) => send(to, body.type === 'heartbeat' ? { ...body, commit: state.log.committed } : body, term));
      onStep(patient, (message) =>
        message.type === 'heartbeat' ? { ...message, commit: Math.min(message.commit, state.log.lastIndex) as LogIndex } : message,
      );
    },
  },
  {
    name: 'follower-applies-at-once',
    mistake: 'a follower applies what it was sent without waiting for the commit',
    plant(patient) {
      const { state } = patient.inside;
      onStep(patient, (message) =>
        message.type === 'append' && message.term >= state.term
          ? { ...message, commit: (message.previousIndex + message.entries.length) as LogIndex }
          : message,
      );
    },
  },
  {
    name: 'skips-log-matching',
    mistake: 'a follower takes entries without looking whether its log matches before them',
    plant(patient) {
      const { state } = patient.inside;
      onStep(patient, (message) => {
        if (message.type !== 'append' || message.previousIndex > state.log.lastIndex || message.previousIndex < state.log.committed) return message;
        const term = state.log.termAt(message.previousIndex) ?? message.previousTerm;
        return { ...message, previousTerm: term, entries: message.entries.filter((entry: Entry) => entry.term >= term) };
      });
    },
  },
  {
    name: 'snapshot-truncates-matching-log',
    mistake: 'a snapshot replaces the whole log, even entries behind it that the member has promised to keep',
    plant({ inside: { core, state } }) {
      const { log } = state;
      const matches = log.matches.bind(log);
      wrap(core, 'step', (step) => (message) => {
        log.matches = message.type === 'snapshot' ? () => false : matches;
        step(message);
      });
    },
  },
  {
    name: 'tail-stays-on-disk',
    mistake: 'overwriting a part of the log leaves the old entries behind it on the disk',
    plant({ disk }) {
      disk.bug = {
        store: (durable, batch, store) => {
          const last = batch.entries.at(-1);
          const tail = last === undefined ? [] : durable.entries.filter(({ index }) => index > last.index);
          store(durable, batch);
          durable.entries.push(...tail);
        },
      };
    },
  },
];
