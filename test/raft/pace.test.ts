/** When the proposals of a leader leave. */
import { expect, it } from 'vitest';
import type { LogIndex, Role, Term } from '../../src/raft/index.ts';
import { Pace } from '../../src/raft/pace.ts';

/** A core that counts, and proposals that are so many entries. */
class World {
  role: Role = 'leader';
  term = 1 as Term;
  commitIndex = 10 as LogIndex;
  lastIndex = 10 as LogIndex;
  takes = true;
  waiting = 0;
  private readonly pace = new Pace();

  /** Some are proposed; tells whether they left. */
  propose(count: number): boolean {
    this.waiting += count;
    return this.again();
  }

  again(): boolean {
    return this.pace.submit(this, {
      submit: () => {
        if (!this.takes) return;
        if (this.role === 'leader') this.lastIndex = (this.lastIndex + this.waiting) as LogIndex;
        this.waiting = 0;
      },
    });
  }

  commit(index: number): void {
    this.commitIndex = index as LogIndex;
  }
}

it('lets two batches leave at once, and what comes then together when the older one is committed', () => {
  const world = new World();
  expect([world.propose(1), world.propose(2)]).toEqual([true, true]);
  expect([world.propose(3), world.propose(4)]).toEqual([false, false]);
  world.commit(10);
  expect(world.again()).toBe(false);
  world.commit(11);
  expect(world.again()).toBe(true);
  expect(world.lastIndex).toBe(20);
  // That was a batch: two are under way again.
  expect(world.propose(1)).toBe(false);
  world.commit(20);
  expect([world.again(), world.propose(1), world.propose(1)]).toEqual([true, true, false]);
});

it('waits for nothing of an older term, nor for what a leader did not take', () => {
  const world = new World();
  expect([world.propose(5), world.propose(5), world.propose(5)]).toEqual([true, true, false]);
  // Its entries were replaced by fewer ones, and it leads again.
  Object.assign(world, { term: 3, lastIndex: 12, commitIndex: 10 });
  expect([world.again(), world.propose(1), world.propose(1)]).toEqual([true, true, false]);
  Object.assign(world, { term: 4, takes: false });
  expect([world.again(), world.again(), world.again()]).toEqual([true, true, true]);
});

it('holds nothing back at a member that follows', () => {
  const world = new World();
  world.role = 'follower';
  expect([1, 1, 1, 1].map((count) => world.propose(count))).toEqual([true, true, true, true]);
});
