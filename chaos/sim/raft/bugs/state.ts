import type { Applier } from '../../../../src/raft/applier.ts';
import type { Entry, LogIndex } from '../../../../src/raft/index.ts';
import { type Bug, wrap } from './bug.ts';

interface ApplierFields {
  readonly sessions: Map<string, unknown>;
  run(entry: Entry): Uint8Array;
}

const fieldsOf = (applier: Applier) => applier as unknown as ApplierFields;

export const STATE_BUGS: readonly Bug[] = [
  {
    name: 'retries-apply-twice',
    mistake: 'the state machine runs every copy of a proposal that reaches the log',
    plant({ inside: { applier } }) {
      wrap(applier, 'apply', () => (entry) => ({ kind: 'applied', result: fieldsOf(applier).run(entry) }));
    },
  },
  {
    name: 'sessions-lost-at-restart',
    mistake: 'client sessions are kept in memory only',
    plant({ inside: { applier } }) {
      fieldsOf(applier).sessions.clear();
    },
  },
  {
    name: 'sessions-lost-in-snapshot',
    mistake: 'snapshots carry the state without the client sessions',
    plant({ disk }) {
      disk.bug = { installed: (staged) => new Map([...staged].filter(([key]) => key.startsWith('u/'))) };
    },
  },
  {
    name: 'applied-index-ahead-of-state',
    mistake: 'the applied index is stored one batch before the changes that it speaks of',
    plant({ disk }) {
      let late: ReadonlyMap<string, Uint8Array | null> = new Map();
      disk.bug = {
        alter: (batch) => {
          if (batch.applied === null) return batch;
          const { at, changes } = batch.applied;
          const stored = { at, changes: late };
          late = changes;
          return { ...batch, applied: stored };
        },
      };
    },
  },
  {
    name: 'state-ahead-of-applied-index',
    mistake: 'changes are stored, and the applied index only with the next batch',
    plant({ disk }) {
      let before = disk.durable.applied;
      disk.bug = {
        alter: (batch) => {
          if (batch.applied === null) return batch;
          const { at, changes } = batch.applied;
          const stored = { at: before.index > at.index ? at : before, changes };
          before = at;
          return { ...batch, applied: stored, compactTo: null };
        },
      };
    },
  },
  {
    name: 'snapshot-keeps-old-state',
    mistake: 'a snapshot is laid over the old state, which wins where both have a value',
    plant({ disk }) {
      disk.bug = { installed: (staged, old) => new Map([...staged, ...old]) };
    },
  },
  {
    name: 'snapshot-claims-too-much',
    mistake: 'a snapshot is labelled with an index that its state has not reached',
    plant({ disk }) {
      disk.bug = { viewed: (at) => ({ ...at, index: (at.index + 1) as LogIndex }) };
    },
  },
  {
    name: 'torn-batch-counts',
    mistake: 'what a power failure left of a batch is taken for the batch',
    plant({ disk }) {
      disk.bug = { tornBatchCounts: true };
    },
  },
  {
    name: 'timeout-called-refusal',
    mistake: 'a proposal without an answer is reported as certainly not applied',
    plant({ inside: { proposals } }) {
      const { waiting } = proposals as unknown as { waiting: Map<number, { exposed: boolean }> };
      wrap(proposals, 'tick', (tick) => (leading) => {
        for (const each of waiting.values()) each.exposed = false;
        tick(leading);
      });
    },
  },
  {
    name: 'acknowledges-before-commit',
    mistake: 'the leader answers a proposal when it is in its log',
    plant({ inside: { core, proposals, state } }) {
      wrap(core, 'propose', (propose) => (entries) => {
        const refusal = propose(entries);
        if (refusal !== null || state.leadership === null) return refusal;
        queueMicrotask(() => {
          for (const { sequence, data } of entries) proposals.settle(sequence, { kind: 'applied', result: data });
        });
        return null;
      });
    },
  },
];
