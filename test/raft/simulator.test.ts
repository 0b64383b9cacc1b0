/** The simulator itself: that it replays, that its checkers see what they are for, and a short run of it. */
import { describe, expect, it } from 'vitest';
import { Violation } from '../../chaos/checkers/checker.ts';
import { decideBySearch, isLinearizable, type Operation } from '../../chaos/checkers/linearizability.ts';
import { Network } from '../../chaos/sim/network.ts';
import { BUGS } from '../../chaos/sim/raft/bugs/index.ts';
import { World } from '../../chaos/sim/raft/world.ts';
import { Scheduler } from '../../chaos/sim/scheduler.ts';
import { Prng } from '../../src/base/index.ts';

describe('simulated time', () => {
  it('runs events in order of time, and those of one moment in the order in which they were made', () => {
    const scheduler = new Scheduler();
    const random = new Prng(1);
    const expected: { at: number; order: number }[] = [];
    const seen: { at: number; order: number }[] = [];
    for (let order = 0; order < 500; order++) {
      const at = random.below(40);
      expected.push({ at, order });
      scheduler.in(at, () => seen.push({ at: scheduler.nowMs, order }));
    }
    while (scheduler.step(100)) {
      // All of them.
    }
    expect(seen).toEqual(expected.sort((a, b) => a.at - b.at || a.order - b.order));
    expect(scheduler.nowMs).toBe(100);
  });
});

describe('a held link', () => {
  it('lets frames arrive when it is released, in their order, and heals', () => {
    const scheduler = new Scheduler();
    const arrived: number[] = [];
    const network = new Network(scheduler, new Prng(1), (_from, _to, frame) => arrived.push(frame[0] as number));
    const pass = (ms: number) => {
      const endMs = scheduler.nowMs + ms;
      while (scheduler.step(endMs));
    };
    network.holdLink('a', 'b');
    for (const number of [1, 2]) {
      network.send('a', 'b', Uint8Array.of(number), '');
      pass(100);
    }
    expect(arrived).toEqual([]);
    network.releaseLink('a', 'b');
    pass(1);
    expect(arrived).toEqual([1, 2]);
    network.holdLink('a', 'b');
    network.send('a', 'b', Uint8Array.of(3), '');
    pass(100);
    network.heal();
    pass(1);
    expect(arrived).toEqual([1, 2, 3]);
  });
});

describe('linearizability', () => {
  let ids = 0;
  const write = (value: string, call: number, end = Number.POSITIVE_INFINITY): Operation => ({
    id: ++ids,
    kind: 'write',
    key: 'x',
    value,
    call,
    return: end,
  });
  const read = (value: string | undefined, call: number, end: number): Operation => ({ id: ++ids, kind: 'read', key: 'x', value, call, return: end });

  it.each<[string, boolean, Operation[]]>([
    ['nothing', true, []],
    ['a read of nothing', true, [read(undefined, 1, 2)]],
    ['a read of what nobody wrote', false, [read('1', 1, 2)]],
    ['a read after a write', true, [write('1', 1, 2), read('1', 3, 4)]],
    ['a stale read', false, [write('1', 1, 2), write('2', 3, 4), read('1', 5, 6)]],
    ['a lost write', false, [write('1', 1, 2), read(undefined, 3, 4)]],
    ['a read beside a write, before it', true, [write('1', 1, 5), read(undefined, 2, 3)]],
    ['a read beside a write, after it', true, [write('1', 1, 5), read('1', 2, 3)]],
    ['two reads beside a write that go back', false, [write('1', 1, 9), read('1', 2, 3), read(undefined, 4, 5)]],
    ['an open write that is seen late', true, [write('1', 1), write('2', 2, 3), read('2', 4, 5), read('1', 6, 7)]],
    ['an open write that is never seen', true, [write('1', 1), read(undefined, 2, 3)]],
    ['an open write that is seen before its call', false, [read('1', 1, 2), write('1', 3)]],
    ['an open write that is seen and then gone', false, [write('1', 1), read('1', 2, 3), read(undefined, 4, 5)]],
    ['two orders at once', false, [write('1', 1, 9), write('2', 1, 9), read('1', 2, 3), read('2', 4, 5), read('1', 6, 7)]],
  ])('of %s: %s', (_name, expected, history) => {
    expect(isLinearizable(history)).toBe(expected);
    expect(isLinearizable([...history].reverse())).toBe(expected);
  });

  it('is found in histories that one register made, and not when one read is falsified', () => {
    const random = new Prng(11);
    for (let round = 0; round < 50; round++) {
      let value: string | undefined;
      const history: Operation[] = [];
      for (let step = 1; step <= 30; step++) {
        // Each takes effect at 10 * step; calls and returns reach beyond their neighbours.
        const [call, end] = [10 * step - random.below(25), 10 * step + random.below(25)];
        if (random.chance(0.5)) {
          value = `${step}`;
          history.push(write(value, call, random.chance(0.1) ? Number.POSITIVE_INFINITY : end));
        } else {
          history.push(read(value, call, end));
        }
      }
      expect(isLinearizable(history)).toBe(true);
      const writes = history.filter(({ kind, return: end }) => kind === 'write' && end !== Number.POSITIVE_INFINITY);
      const [first, last] = [writes[0] as Operation, writes.at(-1) as Operation];
      expect(first.return).toBeLessThan(last.call);
      expect(isLinearizable([...history, read(first.value, 1_000, 1_001)])).toBe(false);
    }
  });
});

describe('linearizability by zones', () => {
  it('comes to the same as the search, in small histories of all sorts', () => {
    const random = new Prng(12);
    const verdicts = { yes: 0, no: 0 };
    for (let round = 0; round < 4_000; round++) {
      const writes = 1 + random.below(4);
      const moment = () => random.below(14);
      const history: Operation[] = [];
      for (let id = 1; id <= writes + random.below(6); id++) {
        const [call, end] = [moment(), moment()].sort((a, b) => a - b) as [number, number];
        const kind = id <= writes ? 'write' : 'read';
        const value = kind === 'write' ? `${id}` : random.chance(0.2) ? undefined : `${1 + random.below(writes)}`;
        const open = kind === 'write' && random.chance(0.2);
        history.push({ id, kind, key: 'x', value, call, return: open ? Number.POSITIVE_INFINITY : end });
      }
      const verdict = isLinearizable(history);
      expect(verdict, JSON.stringify(history)).toBe(decideBySearch(history));
      verdicts[verdict ? 'yes' : 'no']++;
    }
    expect(Math.min(verdicts.yes, verdicts.no)).toBeGreaterThan(800);
  });

  it('leaves histories that write a value twice to the search', () => {
    const operation = (id: number, kind: 'read' | 'write', value: string, call: number): Operation => ({
      id,
      kind,
      key: 'x',
      value,
      call,
      return: call + 1,
    });
    const history = [operation(1, 'write', 'a', 1), operation(2, 'read', 'a', 3), operation(3, 'write', 'b', 5), operation(4, 'write', 'a', 7)];
    expect(isLinearizable([...history, operation(5, 'read', 'a', 9)])).toBe(true);
    expect(isLinearizable([...history, operation(5, 'read', 'b', 9)])).toBe(false);
  });
});

describe('a simulated group', () => {
  it('lives the same life again from its seed', async () => {
    const first = await new World(2, null).run();
    expect(await new World(2, null).run()).toEqual(first);
    expect(first.events).toBeGreaterThan(200);
  });

  it('keeps every promise through faults, and converges when they end', async () => {
    for (let seed = 1; seed <= 60; seed++) await new World(seed, null).run();
  });

  it.each([
    // Votes and entries alike.
    ['acknowledges-before-fsync', 'committed-survives', 'one-leader-a-term'],
    ['follower-applies-at-once', 'committed-survives'],
    ['read-before-applied', 'linearizability'],
    ['acknowledges-before-commit', 'linearizability'],
    ['retries-apply-twice', 'applied-once'],
    ['applied-index-ahead-of-state', 'states-agree'],
    ['membership-without-joint', 'membership-safety'],
    ['compaction-forgets-membership', 'memberships-agree'],
    ['pre-vote-ignores-log', 'pre-votes'],
    ['stale-fsync-credited', 'committed-survives'],
    ['timeout-called-refusal', 'applied-once'],
    ['torn-batch-counts', 'recovery'],
    ['commits-older-term-by-counting', 'committed-survives'],
  ])('with the bug %s is found out by %s', async (name, ...checkers) => {
    const bug = BUGS.find((each) => each.name === name);
    if (bug === undefined) throw new Error(`no bug ${name}`);
    for (let seed = 6001; seed <= 6300; seed++) {
      const found: unknown = await new World(seed, bug).run().catch((error: unknown) => error);
      if (!(found instanceof Violation)) continue;
      expect(checkers).toContain(found.checker);
      return;
    }
    expect.fail('no world found it');
  });
});
