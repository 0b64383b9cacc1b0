/** Sessions: a command counts once, however often it comes, and through whatever the state goes. */
import { describe, expect, it } from 'vitest';
import { Applier } from '../../src/raft/applier.ts';
import type { Entry, LogIndex, Term } from '../../src/raft/index.ts';
import type { StateEntry } from '../../src/raft/storage/storage.ts';
import { Registers } from './support/register.ts';

let index = 0;

function entry(session: number, sequence: number, text: string, acknowledged = 1): Entry {
  const data = Registers.command({ key: 'k', append: text });
  return { index: ++index as LogIndex, term: 1 as Term, kind: 'command', data, clientId: 'a', session, sequence, acknowledged };
}

/** A member with the state that it has stored. */
class Member {
  readonly registers = new Registers();
  readonly applier = new Applier(this.registers);
  readonly stored: Map<string, Uint8Array>;

  constructor(stored: ReadonlyMap<string, Uint8Array> = new Map()) {
    this.stored = new Map(stored);
    this.applier.load([...stored].map(([key, value]): StateEntry => ({ key, value })).sort((one, other) => (one.key < other.key ? -1 : 1)));
  }

  apply(each: Entry): string {
    const outcome = this.applier.apply(each);
    return outcome.kind === 'applied' ? new TextDecoder().decode(outcome.result) : outcome.kind;
  }

  /** Returns the keys that were written. */
  store(): string[] {
    const changes = this.applier.takeChanges();
    for (const [key, value] of changes) {
      if (value === null) this.stored.delete(key);
      else this.stored.set(key, value);
    }
    return [...changes.keys()].sort();
  }
}

describe('a session', () => {
  it('answers a repeated command with the first result, also from stored state', () => {
    const member = new Member();
    expect(member.apply(entry(1, 1, 'x'))).toBe('x');
    expect(member.apply(entry(1, 1, 'x'))).toBe('x');
    member.store();
    const restarted = new Member(member.stored);
    expect(restarted.apply(entry(1, 1, 'x'))).toBe('x');
    expect(restarted.apply(entry(1, 2, 'y'))).toBe('xy');
  });

  it('forgets what its client has acknowledged, and does not run it again', () => {
    const member = new Member();
    member.apply(entry(1, 1, 'x'));
    member.store();
    member.apply(entry(1, 2, 'y', 2));
    expect(member.apply(entry(1, 1, 'x'))).toBe('forgotten');
    member.store();
    expect([...member.stored.keys()].sort()).toEqual(['c/a', 'r/a/0000000000000002', 'u/k']);
    expect(new Member(member.stored).apply(entry(1, 1, 'x'))).toBe('forgotten');
    // What is gone from the disk is not removed again.
    member.apply(entry(1, 3, 'z', 3));
    expect(member.store()).toEqual(['c/a', 'r/a/0000000000000002', 'r/a/0000000000000003', 'u/k']);
  });

  it('is not written for results that came and went between two stores', () => {
    const member = new Member();
    for (let sequence = 1; sequence <= 100; sequence++) member.apply(entry(1, sequence, '.', sequence));
    expect(member.store()).toEqual(['c/a', 'r/a/0000000000000064', 'u/k']);
    expect(member.applier.hasChanges).toBe(false);
  });

  it('ends when its client begins another, whose results take their place', () => {
    const member = new Member();
    for (const sequence of [1, 2, 3]) member.apply(entry(1, sequence, `${sequence}`));
    member.store();
    expect(member.apply(entry(2, 1, 'n'))).toBe('123n');
    expect(member.apply(entry(1, 4, 'old'))).toBe('superseded');
    member.store();
    expect([...member.stored.keys()].sort()).toEqual(['c/a', 'r/a/0000000000000001', 'u/k']);
    expect(new Member(member.stored).apply(entry(2, 1, 'n'))).toBe('123n');
  });
});
