/** When members that follow are told of a commit. */
import { describe, expect, it } from 'vitest';
import { ManualClock } from '../../chaos/sim/manual-clock.ts';
import type { LogIndex, Message, MessageOf, Term } from '../../src/raft/core/types.ts';
import { Notices } from '../../src/raft/notices.ts';
import { decodeFrame } from '../../src/raft/wire.ts';
import { Cluster } from './support/cluster.ts';
import { Registers } from './support/register.ts';

const THREE = ['a', 'b', 'c'] as const;

function append(commit: number, { to = 'b', term = 1, previous = commit } = {}): MessageOf<'append'> {
  return {
    ...{ type: 'append', from: 'a', to, term: term as Term, previousIndex: previous as LogIndex, previousTerm: 1 as Term },
    ...{ entries: [], commit: commit as LogIndex, quiet: true },
  };
}

function world() {
  const clock = new ManualClock();
  const sent: Message[] = [];
  const notices = new Notices(clock, (message) => sent.push(message));
  return { clock, sent, notices, due: () => notices.sendAll() };
}

describe('a notice of a commit', () => {
  it('goes by itself after two milliseconds, the newest one to each member', () => {
    const { clock, sent, notices, due } = world();
    notices.hold(append(1), due);
    notices.hold(append(1, { to: 'c' }), due);
    clock.advance(1);
    notices.hold(append(2), due);
    expect(sent).toEqual([]);
    clock.advance(1);
    expect(sent).toEqual([append(2), append(1, { to: 'c' })]);
    notices.hold(append(3), due);
    clock.advance(2);
    expect(sent.at(-1)).toEqual(append(3));
  });

  it('is spared by an append to its member that tells as much', () => {
    const { clock, sent, notices, due } = world();
    notices.hold(append(4), due);
    notices.precede(append(4, { to: 'c' }));
    notices.precede(append(4));
    clock.advance(10);
    expect(sent).toEqual([]);
  });

  it.each<[string, Message]>([
    ['an append that tells less', append(3, { previous: 4 })],
    ['an append that shows less of the log', append(4, { previous: 3 })],
    ['an append of another term', append(5, { term: 2 })],
    ['a heartbeat', { type: 'heartbeat', from: 'a', to: 'b', term: 1 as Term, commit: 4 as LogIndex, round: 1 }],
    ['the word to take over', { type: 'timeoutNow', from: 'a', to: 'b', term: 1 as Term }],
  ])('goes before %s', (_what, message) => {
    const { clock, sent, notices, due } = world();
    notices.hold(append(4), due);
    notices.precede(message);
    expect(sent).toEqual([append(4)]);
    clock.advance(10);
    expect(sent).toHaveLength(1);
  });

  it('is forgotten with its member', () => {
    const { clock, sent, notices, due } = world();
    notices.hold(append(1), due);
    notices.close();
    clock.advance(10);
    expect(sent).toEqual([]);
  });
});

describe('a group', () => {
  interface Notice {
    readonly to: string;
    readonly atMs: number;
  }

  /** `notices` are the frames that carry nothing but a commit index. */
  async function withNotices(story: (cluster: Cluster, leader: string, notices: Notice[]) => Promise<void>): Promise<void> {
    const cluster = await Cluster.start(THREE);
    const notices: Notice[] = [];
    cluster.allow = (_from, to, frame) => {
      const decoded = decodeFrame(frame);
      if ('raft' in decoded && decoded.raft.type === 'append' && decoded.raft.quiet) notices.push({ to, atMs: cluster.clock.nowMs() });
      return true;
    };
    try {
      const leader = await cluster.leader();
      await cluster.pass(1_000);
      notices.length = 0;
      await story(cluster, leader, notices);
    } finally {
      await cluster.stop();
    }
  }

  const appended = (cluster: Cluster, id: string) => cluster.machine(id).values.get('k') ?? '';

  it('spends no frame on the commit of a command if the next one follows', () =>
    withNotices(async (cluster, leader, notices) => {
      const commands = async () => {
        // Nothing comes between an answer and the next command, not even time.
        for (let round = 0; round < 20; round++) await cluster.node(leader).propose(Registers.command({ key: 'k', append: '.' }));
      };
      await cluster.settle(commands());
      await cluster.until(() => THREE.every((id) => appended(cluster, id).length === 20), 'all have all');
      // Those of the last one.
      expect(notices).toHaveLength(2);
    }));

  it('tells the member that asked at once, since it answers then, and the others soon', () =>
    withNotices(async (cluster, leader, notices) => {
      const [asking, other] = THREE.filter((id) => id !== leader) as [string, string];
      await cluster.append(asking, 'k', 'x');
      await cluster.until(() => appended(cluster, other) === 'x', 'the other one applies it as well');
      const [first, second] = notices as [Notice, Notice];
      expect([first.to, second.to]).toEqual([asking, other]);
      // One step of the clock, where a heartbeat is ten.
      expect(second.atMs - first.atMs).toBe(20);
    }));

  it('tells everybody at once of what presses', () =>
    withNotices(async (cluster, leader, notices) => {
      const [asking, other] = THREE.filter((id) => id !== leader) as [string, string];
      await cluster.append(asking, 'urgent', 'x');
      await cluster.until(() => cluster.machine(other).values.get('urgent') === 'x', 'the other one applies it as well');
      const [first, second] = notices as [Notice, Notice];
      expect(second.atMs).toBe(first.atMs);
    }));

  it('confirms a read behind the commits before it', () =>
    withNotices(async (cluster, leader, notices) => {
      const allow = cluster.allow;
      let noticesBefore = -1;
      cluster.allow = (from, to, frame) => {
        const decoded = decodeFrame(frame);
        if (noticesBefore < 0 && 'raft' in decoded && decoded.raft.type === 'heartbeat' && decoded.raft.round > 0) noticesBefore = notices.length;
        return allow(from, to, frame);
      };
      const command = cluster.node(leader).propose(Registers.command({ key: 'k', append: '.' }));
      await cluster.settle(command.then(() => cluster.node(leader).readBarrier()));
      expect(noticesBefore).toBeGreaterThan(0);
    }));
});
