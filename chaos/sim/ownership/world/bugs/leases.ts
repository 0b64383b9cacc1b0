/** Leases that last too long, or end too soon for those who wait for their end. */
import type { LivenessEpoch } from '../../../../../src/base/index.ts';
import type { HeartbeatAnswer } from '../../../../../src/mapper/leases/index.ts';
import { wrap } from '../../bugs/bug.ts';
import type { ControlPatient } from '../control-process.ts';
import type { WorldBug } from './bug.ts';

interface Held {
  livenessEpoch: LivenessEpoch;
  lastMs: number;
  ended: boolean;
}

interface TableInside {
  beginMs: number;
  leaseOf(node: { readonly name: string }): Held;
  isOver(sinceMs: number, nowMs: number): boolean;
}

interface HolderInside {
  livenessEpoch: LivenessEpoch | null;
  answered(answer: HeartbeatAnswer, sentMs: number, appliedIndex: number): boolean;
}

interface LeasesInside {
  readonly holder: HolderInside;
  currentTable(): TableInside | null;
}

const insideLeases = ({ leases }: ControlPatient) => leases as unknown as LeasesInside;

/** Runs something with each table of a leader, once. */
function onTables(patient: ControlPatient, made: (table: TableInside) => void): void {
  const known = new WeakSet<object>();
  wrap(insideLeases(patient), 'currentTable', (currentTable) => () => {
    const table = currentTable();
    if (table !== null && !known.has(table)) {
      known.add(table);
      made(table);
    }
    return table;
  });
}

export const LEASE_WORLD_BUGS: readonly WorldBug[] = [
  {
    name: 'lease-from-answer',
    mistake: 'a node counts its lease from when the answer came, not from when it asked',
    control(patient) {
      const { clock } = patient.host;
      wrap(insideLeases(patient).holder, 'answered', (answered) => (answer, _sentMs, index) => answered(answer, clock.nowMs(), index));
    },
  },
  {
    name: 'new-leader-expires-at-once',
    mistake: 'a new leader does not wait a lease before it expires those that it has not heard of',
    control: (patient) =>
      onTables(patient, (table) => {
        table.beginMs = Number.NEGATIVE_INFINITY;
        wrap(table, 'leaseOf', (leaseOf) => (node) => {
          const lease = leaseOf(node);
          if (lease.lastMs >= 0 && !('heard' in lease)) Object.assign(lease, { lastMs: Number.NEGATIVE_INFINITY, heard: true });
          return lease;
        });
      }),
  },
  {
    name: 'expires-without-drift',
    mistake: 'a leader waits for the length of a lease only, as if all clocks ran alike',
    control: (patient) =>
      onTables(patient, (table) => {
        const { timing } = table as unknown as { timing: { leaseMs: number } };
        table.isOver = (sinceMs, nowMs) => nowMs - sinceMs > timing.leaseMs;
      }),
  },
  {
    name: 'renews-while-expiring',
    mistake: 'a leader that has proposed the end of a lease answers its next heartbeat all the same',
    control: (patient) =>
      onTables(patient, (table) => {
        wrap(table, 'leaseOf', (leaseOf) => (node) => {
          const lease = leaseOf(node);
          Object.defineProperty(lease, 'ended', { get: () => false, set: () => undefined, configurable: true });
          return lease;
        });
      }),
  },
  {
    name: 'renews-without-quorum',
    mistake: 'a leader renews leases without asking a quorum whether it still leads',
    control({ raft }) {
      wrap(raft, 'readBarrier', (readBarrier) => (options) => (options?.timeoutMs === 1_000 ? Promise.resolve() : readBarrier(options)));
    },
  },
  {
    name: 'lease-before-applied',
    mistake: 'a lease counts before the node has applied what was decided before it was granted',
    control: (patient) =>
      wrap(insideLeases(patient).holder, 'answered', (answered) => (answer, sentMs) => answered(answer, sentMs, Number.MAX_SAFE_INTEGER)),
  },
  {
    name: 'expires-in-another-term',
    mistake: 'an expiry that a deposed leader proposed counts under its successor, which has renewed the lease',
    control({ registry }) {
      const state = registry as unknown as { execute(command: { type: string; term?: number }, term: number): unknown };
      wrap(state, 'execute', (execute) => (command, term) => execute(command, command.type === 'expireNode' ? (command.term as number) : term));
    },
  },
  {
    name: 'expired-lease-counts-on',
    mistake: 'a lease for a new liveness epoch also counts for what was owned under the one before',
    data({ lease }) {
      wrap(lease, 'begin', (begin) => (livenessEpoch) => {
        const { current } = lease;
        begin(livenessEpoch);
        lease.current = current;
      });
    },
  },
];
