/** Histories about who may answer, and what an ownership's end means for what is under way. A owns at first. */
import { LEASE_BUGS, TOLD_LEASE_BUGS } from '../bugs/leases.ts';
import type { History } from './history.ts';

export const LEASE_HISTORIES: readonly History[] = [
  {
    rule: 'the lease is looked at again after the store has answered',
    bug: LEASE_BUGS.answersWithoutLease,
    async tell(story) {
      story.hold('a');
      void story.submit('a', 1);
      await story.rest();
      await story.takeover('a', 'b');
      // With no entry in the journal that B has read; then the answer to A.
      await story.land('a');
      await story.read('b');
    },
  },
  {
    rule: 'reads need the lease too',
    bug: LEASE_BUGS.readsWithoutLease,
    async tell(story) {
      await story.takeover('a', 'b');
      await story.write('b', 2);
      void story.look('a');
      await story.rest();
    },
  },
  {
    rule: 'an answer counts only under the epoch of the submission',
    bug: LEASE_BUGS.answersUnderAnotherEpoch,
    fence: 'copy',
    async tell(story) {
      await story.write('a', 1);
      await story.submitHeld('a', 2);
      await story.takeover('a', 'b');
      // B's claim puts a copy in the object's place.
      await story.read('b');
      story.resume('a');
      story.revive('a');
      // A opens it once more, which has to wait for what it has under way.
      await story.settle(story.handOver('b', 'a'));
      await story.land('a');
      await story.read('b');
    },
  },
  {
    rule: 'a lease counts for what was acquired under its liveness epoch',
    bug: TOLD_LEASE_BUGS.leaseOutlivesExpiry,
    async tell(story) {
      await story.takeover('a', 'b');
      await story.write('b', 1);
      // A's heartbeats are answered again, and it has not applied its expiry.
      story.revive('a');
      void story.look('a');
      await story.rest();
    },
  },
  {
    rule: 'what is told for a handover is kept until that handover is known',
    bug: LEASE_BUGS.forgetsHandOver,
    async tell(story) {
      await story.write('a', 1);
      await story.takeover('a', 'b');
      story.revive('a');
      const a = story.node('a');
      const behind = a.behind ?? [];
      // A hears of its own end alone, while it is told for a handover that comes after it.
      const late: (() => void)[] = [];
      a.heldProposals = late;
      behind.shift()?.();
      await story.rest();
      const moved = story.handOver('b', 'a');
      await story.rest();
      story.resume('a');
      for (const commit of late) commit();
      a.heldProposals = null;
      await story.settle(moved);
      await story.write('a', 2);
    },
  },
  {
    rule: 'registry commands name the epoch that they are about',
    bug: TOLD_LEASE_BUGS.unconditionalCommands,
    async tell(story) {
      await story.write('a', 1);
      const late: (() => void)[] = [];
      story.node('a').heldProposals = late;
      // Refused, as it has to be; with the bug it is done.
      story.attempt('a', story.handOver('a', 'c'));
      await story.rest();
      await story.takeover('a', 'b');
      await story.write('b', 2);
      for (const commit of late) commit();
      await story.write('b', 3);
    },
  },
  {
    rule: 'who has proposed a handover stays stopped until the outcome is applied',
    bug: LEASE_BUGS.resumesAfterTimeout,
    async tell(story) {
      await story.write('a', 1);
      const late: (() => void)[] = [];
      const a = story.node('a');
      a.heldProposals = late;
      // With the bug it times out.
      story.attempt('a', story.handOver('a', 'b'));
      await story.rest();
      await story.pass(2000);
      // The entry commits, and A does not hear of it yet.
      a.behind = [];
      for (const commit of late) commit();
      a.heldProposals = null;
      await story.rest();
      void story.submit('a', 2, { block: 7 });
      await story.rest();
      await story.read('b', { block: 7 });
    },
  },
  {
    rule: 'no lease counts for a revoked volume that was granted afterwards',
    bug: LEASE_BUGS.revokedGoesOn,
    fence: 'copy',
    async tell(story) {
      await story.write('a', 1);
      const { cluster, volume } = story;
      const a = story.node('a');
      const { id, epoch } = volume;
      cluster.apply({ type: 'lock', id, node: 'a', livenessEpoch: a.livenessEpoch });
      Object.assign(a.lease, { deadlineMs: a.clock.nowMs() + 500 });
      // A gives the volume up, for which its store takes very long.
      story.hold('a', 1);
      cluster.apply({ type: 'revoke', id, holder: 'a' });
      await story.rest();
      await story.pass(1000);
      // Its heartbeats are answered all the while, and it hears late that the leader has waited long enough.
      a.lease.extend(Number.POSITIVE_INFINITY);
      a.behind = [];
      cluster.apply({ type: 'grant', id, epoch, term: 1 });
      await story.own('b');
      await story.write('b', 2);
      void story.look('a');
      await story.rest();
      story.resume('a');
    },
  },
  {
    rule: 'an owner that is to give a volume up still is when another lock is broken',
    bug: TOLD_LEASE_BUGS.forgetsRevocation,
    async tell(story) {
      await story.write('a', 1);
      const { cluster, volume } = story;
      const { id, epoch } = volume;
      const [a, b] = [story.node('a'), story.node('b')];
      cluster.apply({ type: 'lock', id, node: 'a', livenessEpoch: a.livenessEpoch });
      Object.assign(a.lease, { deadlineMs: a.clock.nowMs() + 500 });
      // A cannot give it up.
      a.store.faults.noSpace = 1;
      cluster.apply({ type: 'revoke', id, holder: 'a' });
      await story.rest();
      a.store.faults.noSpace = 0;
      cluster.apply({ type: 'lock', id, node: 'b', livenessEpoch: b.livenessEpoch });
      cluster.apply({ type: 'revoke', id, holder: 'b' });
      await story.pass(1000);
      a.lease.extend(Number.POSITIVE_INFINITY);
      // The leader has waited for every lease that was granted before, if there is somebody to wait for.
      if (story.volume.revoked) cluster.apply({ type: 'grant', id, epoch, term: 1 });
      await story.read('b');
    },
  },
  {
    rule: 'what is told for a handover counts for that one only',
    bug: LEASE_BUGS.reusesHandOver,
    async tell(story) {
      await story.write('a', 1);
      const { name, livenessEpoch } = story.node('b');
      const former = { name, livenessEpoch: (livenessEpoch + 1) as typeof livenessEpoch };
      await story.settle(story.refused(story.node('a').volumes.handOver(story.volume.id, former)));
      await story.submitHeld('a', 2);
      await story.takeover('a', 'b');
      await story.write('b', 3);
      await story.read('b');
      await story.land('a');
      await story.read('b');
    },
  },
];
