/** Stories of running members over real directories. */
import { afterEach, describe, expect, it } from 'vitest';
import { Prng } from '../../src/base/index.ts';
import { decodeFrame } from '../../src/raft/wire.ts';
import { Cluster } from './support/cluster.ts';
import { Registers } from './support/register.ts';

const THREE = ['a', 'b', 'c'] as const;

describe('a running group', () => {
  let cluster: Cluster;

  afterEach(async () => {
    await cluster.stop();
  });

  it('of one elects itself without waiting and answers', async () => {
    cluster = await Cluster.start(['a']);
    await cluster.until(() => cluster.node('a').status().role === 'leader', 'a leads');
    expect(await cluster.append('a', 'k', '1')).toBe('1');
    await cluster.settle(cluster.node('a').readBarrier());
    // Not even one tick.
    expect(cluster.clock.nowMs()).toBeLessThan(100);
  });

  it('elects one leader and takes proposals from every member', async () => {
    cluster = await Cluster.start(THREE);
    await cluster.leader();
    for (const id of THREE) await cluster.append(id, 'k', id);
    await cluster.until(() => THREE.every((id) => cluster.machine(id).values.get('k') === 'abc'), 'all have all');
  });

  it('lets its frames go before it gives its disk the same entries', async () => {
    cluster = await Cluster.start(THREE);
    const leader = await cluster.leader();
    await cluster.pass(1_000);
    const before = { sent: cluster.sent, writes: cluster.writes };
    const flushes: { sent: number; writes: number }[] = [];
    cluster.onFlush = (id) => {
      if (id === leader) flushes.push({ sent: cluster.sent - before.sent, writes: cluster.writes - before.writes });
    };
    await cluster.append(leader, 'k', '1');
    expect(flushes[0]).toEqual({ sent: 2, writes: 0 });
  });

  it('lets a follower’s acknowledgement go at once', async () => {
    cluster = await Cluster.start(THREE);
    const leader = await cluster.leader();
    await cluster.pass(1_000);
    let unflushed = 0;
    cluster.onSend = (id) => {
      if (id !== leader) unflushed++;
    };
    cluster.onFlush = (id) => {
      if (id !== leader) unflushed = 0;
    };
    await cluster.append(leader, 'k', '1');
    expect(unflushed).toBe(0);
  });

  it('serves reads that see every write answered before', async () => {
    cluster = await Cluster.start(THREE);
    await cluster.leader();
    for (const [position, writer] of THREE.entries()) {
      await cluster.append(writer, 'k', `${position}`);
      for (const reader of THREE) {
        await cluster.settle(cluster.node(reader).readBarrier());
        expect(cluster.machine(reader).values.get('k')).toBe('012'.slice(0, position + 1));
      }
    }
  });

  it('loses a leader, goes on, and takes it back with everything', async () => {
    cluster = await Cluster.start(THREE);
    const first = await cluster.leader();
    await cluster.append(first, 'k', '1');
    await cluster.kill(first);
    const others = THREE.filter((id) => id !== first);
    const second = await cluster.leader(others);
    await cluster.append(second, 'k', '2');
    await cluster.open(first);
    await cluster.until(() => cluster.machine(first).values.get('k') === '12', 'the old leader has caught up');
    expect(await cluster.append(first, 'k', '3')).toBe('123');
  });

  it('keeps answering during a partition on the side of the majority only', async () => {
    cluster = await Cluster.start(THREE);
    const old = await cluster.leader();
    const others = THREE.filter((id) => id !== old);
    cluster.partition([old], others);
    const stranded = cluster.node(old).propose(Registers.command({ key: 'k', append: 'x' }), { timeoutMs: 5_000 });
    const unread = cluster.node(old).readBarrier({ timeoutMs: 5_000 });
    const outcomes = Promise.allSettled([stranded, unread]);
    const next = await cluster.leader(others);
    expect(next).not.toBe(old);
    await cluster.append(next, 'k', '1');
    await cluster.until(() => cluster.node(old).status().role !== 'leader', 'the old leader steps down');
    await cluster.pass(6_000);
    expect(await outcomes).toMatchObject([{ reason: { code: 'timeout' } }, { reason: { code: 'unavailable' } }]);
    // Nobody took this one, and the caller may rely on that.
    const refused = cluster.node(old).propose(Registers.command({ key: 'k', append: 'y' }), { timeoutMs: 1_000 });
    await expect(cluster.settle(refused)).rejects.toMatchObject({ code: 'unavailable' });
    cluster.heal();
    await cluster.until(() => THREE.every((id) => cluster.machine(id).values.get('k') === '1'), 'all agree');
    await cluster.leader();
    expect(await cluster.append(old, 'k', '2')).toBe('12');
  });

  it('does not disturb a leader when a member that was cut off comes back', async () => {
    cluster = await Cluster.start(THREE);
    const leader = await cluster.leader();
    const { term } = cluster.node(leader).status();
    const away = THREE.find((id) => id !== leader) as string;
    cluster.partition(
      [away],
      THREE.filter((id) => id !== away),
    );
    await cluster.pass(20_000);
    cluster.heal();
    await cluster.pass(5_000);
    expect(cluster.node(leader).status()).toMatchObject({ role: 'leader', term });
  });

  it('elects within two seconds after all were restarted, with everything that was answered', async () => {
    cluster = await Cluster.start(THREE);
    await cluster.leader();
    for (let i = 0; i < 20; i++) await cluster.append('b', 'k', `${i},`);
    const expected = cluster.machine('b').values.get('k');
    for (const id of THREE) await cluster.kill(id);
    for (const id of THREE) await cluster.open(id);
    const before = cluster.clock.nowMs();
    await cluster.leader();
    expect(cluster.clock.nowMs() - before).toBeLessThanOrEqual(2_000);
    await cluster.settle(cluster.node('a').readBarrier());
    expect(cluster.machine('a').values.get('k')).toBe(expected);
  });

  it('applies a proposal once, however often it is sent', async () => {
    cluster = await Cluster.start(THREE);
    const leader = await cluster.leader();
    const follower = THREE.find((id) => id !== leader) as string;
    // The leader hears the follower, but the follower hears nothing, so it asks again and again.
    cluster.allow = (from, to) => !(from === leader && to === follower);
    const answer = cluster.node(follower).propose(Registers.command({ key: 'k', append: 'x' }), { timeoutMs: 30_000 });
    await cluster.pass(900);
    cluster.allow = () => true;
    await cluster.settle(answer);
    await cluster.pass(3_000);
    for (const id of THREE) expect(cluster.machine(id).values.get('k')).toBe('x');
  });

  it('syncs once for many proposals', async () => {
    cluster = await Cluster.start(THREE);
    const leader = await cluster.leader();
    await cluster.append(leader, 'k', '');
    const before = cluster.writes;
    const texts = Array.from({ length: 100 }, (_, place) => `${place};`);
    await cluster.settle(Promise.all(texts.map((append) => cluster.node(leader).propose(Registers.command({ key: 'k', append })))));
    await cluster.until(() => THREE.every((id) => cluster.machine(id).values.get('k') === texts.join('')), 'all have all, in order');
    // One batch a member, and maybe one more of what was applied before.
    expect(cluster.writes - before).toBeLessThanOrEqual(2 * THREE.length);
  });

  it('hands leadership over', async () => {
    cluster = await Cluster.start(THREE);
    const leader = await cluster.leader();
    const target = THREE.find((id) => id !== leader) as string;
    cluster.node(leader).transferLeadership(target);
    const before = cluster.clock.nowMs();
    await cluster.until(() => cluster.node(target).status().role === 'leader', 'the target leads');
    expect(cluster.clock.nowMs() - before).toBeLessThan(500);
  });

  it('rejects whoever waits when it is stopped', async () => {
    cluster = await Cluster.start(THREE);
    cluster.partition(['a'], ['b'], ['c']);
    const barrier = cluster.node('a').readBarrier();
    const outcome = Promise.allSettled([barrier]);
    await cluster.kill('a');
    expect(await outcome).toMatchObject([{ reason: { code: 'unavailable' } }]);
  });

  it('goes on without a member whose disk fails, and that member promises nothing more', async () => {
    cluster = await Cluster.start(THREE);
    const leader = await cluster.leader();
    await cluster.append(leader, 'k', '1');
    cluster.brokenDisks.add(leader);
    let framesAfterwards = 0;
    cluster.allow = (from) => {
      if (from === leader && cluster.failures.length > 0) framesAfterwards++;
      return true;
    };
    const stranded = Promise.allSettled([cluster.node(leader).propose(Registers.command({ key: 'k', append: '2' }))]);
    // The leader's own write fails; whether the others had its entry before is open, and so is the outcome.
    expect(await stranded).toMatchObject([{ reason: { code: 'timeout' } }]);
    expect(cluster.failures.splice(0)).toMatchObject([{ code: 'io-error' }]);
    await expect(cluster.node(leader).propose(new Uint8Array(1))).rejects.toMatchObject({ code: 'unavailable' });
    const others = THREE.filter((id) => id !== leader);
    const next = await cluster.leader(others);
    expect(await cluster.append(next, 'other', 'x')).toBe('x');
    expect(framesAfterwards).toBe(0);
  });

  it('survives frames that are lost, doubled and reordered', async () => {
    cluster = await Cluster.start(THREE);
    const random = new Prng(5);
    const late: { from: string; to: string; frame: Uint8Array }[] = [];
    cluster.allow = (from, to, frame) => {
      if (random.chance(0.1)) late.push({ from, to, frame });
      const returned = random.chance(0.1) ? late.splice(random.below(late.length + 1), 1)[0] : undefined;
      if (returned !== undefined) cluster.members.get(returned.to)?.node.receive(returned.from, returned.frame);
      return !random.chance(0.1);
    };
    const texts: string[] = [];
    for (let round = 0; round < 60; round++) {
      const id = THREE[round % 3] as string;
      texts.push(`${round};`);
      await cluster.append(id, 'k', `${round};`);
      await cluster.settle(cluster.node(id).readBarrier());
      expect(cluster.machine(id).values.get('k')).toBe(texts.join(''));
    }
  });

  it('drops frames that make no sense', async () => {
    cluster = await Cluster.start(THREE);
    await cluster.leader();
    for (const junk of [new Uint8Array(0), new Uint8Array([0xff, 0xff, 0xff]), new Uint8Array([8, 99])]) cluster.node('a').receive('b', junk);
    expect(await cluster.append('a', 'k', '1')).toBe('1');
  });
});

describe('snapshots', () => {
  let cluster: Cluster;

  afterEach(async () => {
    await cluster.stop();
  });

  it('bring back a member that missed what the log no longer has', async () => {
    cluster = await Cluster.start(THREE, { overrides: { keepEntries: 8, snapshotChunkBytes: 200 } });
    const leader = await cluster.leader();
    const away = THREE.find((id) => id !== leader) as string;
    await cluster.append(away, 'once', 'x');
    await cluster.kill(away);
    for (let i = 0; i < 60; i++) await cluster.append(leader, `key-${i % 30}`, `${i};`);
    await cluster.pass(3_000);
    expect(cluster.node(leader).coreStatus().baseIndex).toBeGreaterThan(10);
    await cluster.open(away);
    await cluster.until(() => cluster.machine(away).values.get('key-29') === '29;59;', 'it caught up');
    expect(cluster.machine(away).loads).toBe(2);
    expect([...cluster.machine(away).values].sort()).toEqual([...cluster.machine(leader).values].sort());
    // And it is a member like any other, also after another restart.
    await cluster.append(away, 'once', 'y');
    await cluster.kill(away);
    await cluster.open(away);
    expect(cluster.machine(away).values.get('once')).toBe('xy');
  });
});

describe('a snapshot on its way', () => {
  const KEYS = 60;
  let cluster: Cluster;
  let leader: string;
  let away: string;
  let chunks: number;

  /** A group in which one member was away too long; `disturb` decides what becomes of each chunk. */
  async function lagging(disturb: (chunk: number) => boolean): Promise<void> {
    cluster = await Cluster.start(THREE, { overrides: { keepEntries: 4, snapshotChunkBytes: 600 } });
    leader = await cluster.leader();
    away = THREE.find((id) => id !== leader) as string;
    await cluster.kill(away);
    for (let i = 0; i < KEYS; i++) await cluster.append(leader, `key-${i}`, 'x'.repeat(200));
    await cluster.pass(2_000);
    chunks = 0;
    cluster.allow = (_from, _to, frame) => !('chunk' in decodeFrame(frame)) || disturb(chunks++);
    await cluster.open(away);
  }

  const hasAll = () => cluster.members.get(away)?.machine.values.size === KEYS;

  afterEach(async () => {
    await cluster.stop();
  });

  it('arrives although chunks are lost', async () => {
    await lagging((chunk) => chunk % 3 !== 1);
    await cluster.until(hasAll, 'it caught up');
  });

  it('has only so many chunks under way', async () => {
    await lagging(() => false);
    await cluster.until(() => chunks > 0, 'the first chunk');
    await cluster.pass(500);
    expect(chunks).toBe(8);
    cluster.allow = () => true;
    await cluster.until(hasAll, 'it caught up');
  });

  it('is known to have arrived although the receiver’s word to the core is lost', async () => {
    await lagging(() => true);
    const { allow } = cluster;
    let lost = 0;
    cluster.allow = (from, to, frame) => {
      const decoded = decodeFrame(frame);
      // The first acknowledgement of the log is the one of the snapshot.
      if (from === away && 'raft' in decoded && decoded.raft.type === 'appendReply' && !decoded.raft.rejected && lost++ === 0) return false;
      return allow(from, to, frame);
    };
    await cluster.until(() => lost > 0, 'the acknowledgement was lost');
    const before = cluster.clock.nowMs();
    await cluster.until(() => cluster.node(leader).coreStatus().progress.get(away)?.state === 'replicate', 'the leader knows');
    expect(cluster.clock.nowMs() - before).toBeLessThan(1_000);
  });

  it('starts over when the receiver was restarted in the middle of it', async () => {
    await lagging(() => true);
    await cluster.until(() => chunks >= 6, 'some chunks');
    await cluster.kill(away);
    await cluster.open(away);
    expect(cluster.machine(away).values.size).toBe(0);
    await cluster.until(hasAll, 'it caught up');
  });

  it('comes from the next leader when the first one dies in the middle of it', async () => {
    await lagging(() => true);
    await cluster.until(() => chunks >= 6, 'some chunks');
    await cluster.kill(leader);
    await cluster.until(hasAll, 'it caught up');
    await cluster.leader();
  });

  it('does not hold up the leader, and what was committed meanwhile follows it', async () => {
    const random = new Prng(3);
    await lagging(() => random.chance(0.5));
    await cluster.until(() => chunks >= 2, 'the transfer began');
    for (let i = 0; i < 20; i++) await cluster.append(leader, `key-${i}`, '!');
    expect(hasAll()).toBe(false);
    await cluster.until(hasAll, 'it caught up');
    await cluster.until(() => cluster.machine(away).values.get('key-19')?.endsWith('!') === true, 'and what came later');
    expect([...cluster.machine(away).values].sort()).toEqual([...cluster.machine(leader).values].sort());
  });
});

describe('a new member', () => {
  it('joins as a learner, catches up by snapshot and becomes a voter', async () => {
    const cluster = await Cluster.start(THREE, { overrides: { keepEntries: 8 } });
    const leader = await cluster.leader();
    for (let i = 0; i < 40; i++) await cluster.append(leader, `key-${i}`, 'x');
    await cluster.open('d', { bootstrap: [] });
    cluster.node(leader).changeMembers({ voters: THREE, learners: ['d'] });
    await cluster.until(() => cluster.members.get('d')?.machine.values.size === 40, 'the learner caught up');
    const voters = ['b', 'c', 'd', leader].filter((id, position, all) => all.indexOf(id) === position);
    cluster.node(leader).changeMembers({ voters: [...THREE.filter((id) => voters.includes(id)), 'd'], learners: [] });
    await cluster.until(() => cluster.node(leader).coreStatus().membershipSettled, 'the change is through');
    expect(cluster.node('d').status().voters).toContain('d');
    await cluster.stop();
  });

  it('replaces the leader and two others at once, through a joint configuration', async () => {
    const cluster = await Cluster.start(THREE);
    const leader = await cluster.leader();
    await cluster.append(leader, 'k', '1');
    const newcomers = ['d', 'e', 'f'];
    for (const id of newcomers) await cluster.open(id, { bootstrap: [] });
    cluster.node(leader).changeMembers({ voters: newcomers, learners: [] });
    const next = await cluster.leader(newcomers);
    expect(newcomers).toContain(next);
    for (const id of THREE) await cluster.kill(id);
    expect(await cluster.append(next, 'k', '2')).toBe('12');
    await cluster.stop();
  });
});
