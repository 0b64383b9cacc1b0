/** Both sides of a lease, one rule at a time. The simulation beside this shows them together. */
import { describe, expect, it } from 'vitest';
import type { LivenessEpoch } from '../../../src/base/index.ts';
import { LeaseHolder } from '../../../src/mapper/leases/core/holder.ts';
import { LeaseTable, type RegisteredNode, type RevokedVolume } from '../../../src/mapper/leases/core/table.ts';

const life = (value: number) => value as LivenessEpoch;
const TIMING = { leaseMs: 2000, driftMs: 100 };
const TICK_MS = 50;

describe('the holder', () => {
  function holder(livenessEpoch = 3): LeaseHolder {
    const made = new LeaseHolder();
    made.begin(life(livenessEpoch));
    return made;
  }
  const answer = (appliedIndex = 10, livenessEpoch = 3) => ({ livenessEpoch: life(livenessEpoch), leaseMs: 2000, appliedIndex });

  it('counts from when the heartbeat was sent', () => {
    const made = holder();
    expect(made.deadline).toBe(Number.NEGATIVE_INFINITY);
    expect(made.answered(answer(), 1000, 10)).toBe(true);
    expect(made.deadline).toBe(3000);
  });

  it('keeps the latest of what comes out of order or twice', () => {
    const made = holder();
    made.answered(answer(), 1500, 10);
    expect(made.answered(answer(), 1000, 10)).toBe(false);
    expect(made.answered(answer(), 1500, 10)).toBe(false);
    expect(made.deadline).toBe(3500);
  });

  it('counts nothing before it has applied what the answer names', () => {
    const made = holder();
    expect(made.answered(answer(12), 1000, 10)).toBe(false);
    expect(made.applied(11)).toBe(false);
    expect(made.applied(12)).toBe(true);
    expect(made.deadline).toBe(3000);
  });

  it('has no lease under a liveness epoch that none was granted for', () => {
    const made = holder();
    made.answered(answer(10), 1000, 10);
    made.answered(answer(12), 1100, 10);
    made.begin(life(4));
    expect(made.deadline).toBe(Number.NEGATIVE_INFINITY);
    expect(made.applied(12)).toBe(false);
    // Granted to what it was before, answered late.
    expect(made.answered(answer(), 1500, 20)).toBe(false);
    expect(made.answered(answer(20, 4), 1500, 20)).toBe(true);
    made.begin(null);
    expect(made.answered(answer(20, 4), 1600, 20)).toBe(false);
  });
});

describe('the leader', () => {
  const node = (name: string, livenessEpoch = 1, alive = true): RegisteredNode => ({ name, livenessEpoch: life(livenessEpoch), alive });
  const names = (ended: { nodes: readonly { node: string }[] }) => ended.nodes.map((each) => each.node);

  class Story {
    now = 0;
    readonly table = new LeaseTable(7, TIMING, 0);
    nodes = [node('a'), node('b')];
    revoked: RevokedVolume[] = [];

    /** Time passes as in a process that runs. Returns whose end was proposed at the last tick. */
    pass(ms: number, beats: readonly string[] = []): string[] {
      let last: string[] = [];
      for (const end = this.now + ms; this.now < end; ) {
        this.now += TICK_MS;
        for (const name of beats) this.beat(name);
        last = names(this.table.tick(this.now, this.nodes, this.revoked));
      }
      return last;
    }

    beat(name: string, cameMs = this.now, livenessEpoch = 1) {
      return this.table.answer(this.nodes.find((each) => each.name === name) ?? null, life(livenessEpoch), cameMs, 5);
    }
  }

  it('answers with the lease, and expires who is silent after lease and allowance', () => {
    const story = new Story();
    expect(story.beat('a')).toEqual({ livenessEpoch: 1, leaseMs: 2000, appliedIndex: 5 });
    story.pass(1000, ['a', 'b']);
    expect(story.pass(2100, ['b'])).toEqual([]);
    expect(story.pass(TICK_MS, ['b'])).toEqual(['a']);
  });

  it('waits a whole lease and the allowance when it is new, whoever is silent', () => {
    const story = new Story();
    expect(story.pass(2100)).toEqual([]);
    expect(story.pass(2 * TICK_MS)).toEqual(['a', 'b']);
  });

  it('does not count the time in which it stood still itself', () => {
    const story = new Story();
    story.pass(1000, ['a', 'b']);
    story.now += 5000;
    // What it stood still for counts as one allowance.
    expect(story.pass(2050)).toEqual([]);
    expect(story.pass(TICK_MS)).toEqual(['a', 'b']);
  });

  it('expires who is silent even if it stands still again and again', () => {
    const story = new Story();
    story.pass(1000, ['a', 'b']);
    const began = story.now;
    while (story.pass(TICK_MS, ['b']).length === 0 && story.now < began + 10_000) story.now += 100;
    expect(story.now - began).toBe(22 * 150 - 100);
  });

  it('counts a heartbeat from when it came, whatever stood still before it was confirmed', () => {
    const story = new Story();
    story.pass(1000, ['a', 'b']);
    const came = story.now + 25;
    story.now += 1000;
    expect(story.pass(TICK_MS, ['b'])).toEqual([]);
    story.beat('a', came);
    expect(story.pass(1950, ['b'])).toEqual([]);
    expect(story.pass(2 * TICK_MS, ['b'])).toEqual(['a']);
  });

  it('never renews what it has proposed to end, and proposes it until it is done', () => {
    const story = new Story();
    story.pass(2200, ['b']);
    expect(story.beat('a')).toBeNull();
    expect(story.pass(500, ['a', 'b'])).toEqual(['a']);
    story.nodes = [node('a', 1, false), node('b')];
    expect(story.pass(500, ['a', 'b'])).toEqual([]);
    expect(story.beat('a')).toBeNull();
    story.nodes = [node('a', 2), node('b')];
    expect(story.beat('a')).toBeNull();
    expect(story.beat('a', story.now, 2)?.livenessEpoch).toBe(2);
    expect(story.pass(2000, ['b'])).toEqual([]);
    expect(story.pass(300, ['b'])).toEqual(['a']);
  });

  it('counts a heartbeat that was confirmed late from when it came, and not at all after the end was proposed', () => {
    const story = new Story();
    story.pass(1000, ['a', 'b']);
    const came = story.now;
    story.pass(1500, ['b']);
    expect(story.beat('a', came + 500)).not.toBeNull();
    expect(story.pass(1100, ['b'])).toEqual([]);
    expect(story.pass(TICK_MS, ['b'])).toEqual(['a']);
    expect(story.beat('a', story.now - 1000)).toBeNull();
  });

  it('gives none to whom the registry does not know so', () => {
    const story = new Story();
    expect(story.beat('stranger')).toBeNull();
    expect(story.beat('a', 0, 2)).toBeNull();
    story.nodes = [node('a', 1, false)];
    expect(story.beat('a')).toBeNull();
  });

  it('ends a revoked ownership one lease and the allowance after it saw it, however often the owner is heard', () => {
    const story = new Story();
    story.pass(1000, ['a', 'b']);
    const volume = { id: 4, epoch: 9 } as RevokedVolume;
    story.revoked = [volume];
    story.pass(2150, ['a', 'b']);
    expect(story.table.tick(story.now, story.nodes, story.revoked).volumes).toEqual([]);
    story.pass(TICK_MS, ['a', 'b']);
    expect(story.table.tick(story.now, story.nodes, story.revoked).volumes).toEqual([volume]);
    // Owned anew and revoked again: another wait.
    const again = { ...volume, epoch: 10 } as RevokedVolume;
    expect(story.table.tick(story.now, story.nodes, [again]).volumes).toEqual([]);
  });
});
