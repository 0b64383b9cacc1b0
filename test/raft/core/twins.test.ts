/** The small algorithms of the core beside naive twins that are plainly right. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { changeTo, configurationOf, decodeConfiguration, encodeConfiguration, isJoint, leaveJoint } from '../../../src/raft/core/configuration.ts';
import { entryBytes, RaftLog } from '../../../src/raft/core/log.ts';
import { Progress } from '../../../src/raft/core/progress.ts';
import { quorumValue, voteOutcome } from '../../../src/raft/core/quorum.ts';
import type { Entry, LogIndex, Term } from '../../../src/raft/core/types.ts';
import { PendingWrites } from '../../../src/raft/pending-writes.ts';

const NAMES = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
const group = fc.uniqueArray(fc.constantFrom(...NAMES), { minLength: 1, maxLength: 7 });

describe('a quorum', () => {
  it.each([
    { voters: 'a', outgoing: '', values: { a: 5 }, expected: 5 },
    { voters: 'ab', outgoing: '', values: { a: 5, b: 3 }, expected: 3 },
    { voters: 'abc', outgoing: '', values: { a: 5, b: 3, c: 1 }, expected: 3 },
    { voters: 'abcd', outgoing: '', values: { a: 5, b: 4, c: 2, d: 1 }, expected: 2 },
    { voters: 'abcde', outgoing: '', values: { a: 9, b: 9, c: 7, d: 0, e: 0 }, expected: 7 },
    { voters: 'abc', outgoing: 'def', values: { a: 9, b: 9, c: 9, d: 1, e: 2, f: 9 }, expected: 2 },
    { voters: 'abc', outgoing: 'abd', values: { a: 9, b: 1, c: 9, d: 2 }, expected: 2 },
    { voters: '', outgoing: '', values: {}, expected: 0 },
  ])('of $voters and $outgoing has reached $expected of $values', ({ voters, outgoing, values, expected }) => {
    const lookup = values as Record<string, number>;
    expect(quorumValue({ voters: [...voters], outgoing: [...outgoing] }, (id) => lookup[id] ?? 0)).toBe(expected);
  });

  it('is the highest value that a majority of each group has', () => {
    const values = fc.array(fc.nat(20), { minLength: 7, maxLength: 7 });
    fc.assert(
      fc.property(group, fc.option(group, { nil: [] }), values, (voters, outgoing, numbers) => {
        const reached = (id: string) => numbers[NAMES.indexOf(id)] as number;
        const holds = (value: number, ids: readonly string[]) => ids.length === 0 || ids.filter((id) => reached(id) >= value).length * 2 > ids.length;
        const naive = [...Array(21).keys()].filter((value) => holds(value, voters) && holds(value, outgoing)).at(-1);
        expect(quorumValue({ voters, outgoing }, reached)).toBe(naive);
      }),
    );
  });

  it('of votes is decided exactly when no further vote can change it', () => {
    const answers = fc.array(fc.constantFrom(true, false, null), { minLength: 7, maxLength: 7 });
    fc.assert(
      fc.property(group, fc.option(group, { nil: [] }), answers, (voters, outgoing, given) => {
        const outcomeIf = (rest: boolean) =>
          [voters, outgoing].every((ids) => ids.length === 0 || ids.filter((id) => given[NAMES.indexOf(id)] ?? rest).length * 2 > ids.length);
        const expected = outcomeIf(false) ? 'won' : outcomeIf(true) ? 'pending' : 'lost';
        const votes = new Map(NAMES.flatMap((id, position) => (given[position] == null ? [] : [[id, given[position]] as const])));
        expect(voteOutcome({ voters, outgoing }, votes)).toBe(expected);
      }),
    );
  });

  it('of two neighbouring configurations always shares a member', () => {
    fc.assert(
      fc.property(group, group, (from, to) => {
        const before = configurationOf(from);
        const first = changeTo(before, { voters: to, learners: [] });
        const path = isJoint(first) ? [before, first, leaveJoint(first)] : [before, first];
        expect(path.at(-1)).toEqual(configurationOf(to));
        for (const [position, one] of path.slice(0, -1).entries()) {
          const other = path[position + 1] as typeof one;
          // No two disjoint sets of members may both decide: whoever is not in a quorum of one must not be one of the other.
          for (let mask = 0; mask < 1 << NAMES.length; mask++) {
            const inside = (id: string) => (mask & (1 << NAMES.indexOf(id)) ? 1 : 0);
            const both = quorumValue(one, inside) === 1 && quorumValue(other, (id) => 1 - inside(id)) === 1;
            expect(both).toBe(false);
          }
        }
      }),
      { numRuns: 30 },
    );
  });
});

describe('a configuration', () => {
  it('survives its encoding', () => {
    const joint = changeTo(configurationOf(['a', 'b', 'c'], ['x']), { voters: ['c', 'd'], learners: ['a'] });
    expect(joint).toEqual({ voters: ['c', 'd'], outgoing: ['a', 'b', 'c'], learners: [], learnersNext: ['a'] });
    expect(decodeConfiguration(encodeConfiguration(joint))).toEqual(joint);
    expect(leaveJoint(joint)).toEqual(configurationOf(['c', 'd'], ['a']));
  });

  it('refuses members that cannot be', () => {
    const current = configurationOf(['a']);
    expect(() => changeTo(current, { voters: [], learners: ['a'] })).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
    expect(() => changeTo(current, { voters: ['a'], learners: ['a'] })).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  });
});

function entry(index: number, term: number): Entry {
  const data = new TextEncoder().encode(`${index}/${term}`);
  return { index: index as LogIndex, term: term as Term, kind: 'command', data, clientId: '', session: 0, sequence: 0, acknowledged: 0 };
}

/** A log with the given terms, from index 1 on. */
function logOf(terms: readonly number[], applied = 0): RaftLog {
  return new RaftLog({
    hardState: { term: 99 as Term, votedFor: null },
    base: { index: 0 as LogIndex, term: 0 as Term, configuration: configurationOf(['a']) },
    entries: terms.map((term, position) => entry(position + 1, term)),
    applied: applied as LogIndex,
  });
}

const termsOf = (log: RaftLog) =>
  [...Array(log.lastIndex - log.baseIndex).keys()].map((offset) => log.termAt((log.baseIndex + offset + 1) as LogIndex));

/** Rising terms; two of these share a prefix by chance. */
const terms = fc.array(fc.nat(2), { maxLength: 8 }).map((steps) => {
  let term = 1;
  return steps.map((step) => {
    term += step === 2 ? 1 : 0;
    return term;
  });
});

describe('a log', () => {
  it('merges as a list that is cut at the first contradiction', () => {
    fc.assert(
      fc.property(terms, terms, fc.nat(8), fc.nat(8), (mine, theirs, from, count) => {
        const previous = Math.min(from, theirs.length, mine.length);
        // Raft's log matching: what agrees at `previous` agrees before it.
        const shared = [...theirs.slice(0, previous), ...mine.slice(previous)];
        fc.pre(shared.every((term, position) => position === 0 || term >= (shared[position - 1] as number)));
        const sent = theirs.slice(previous, previous + count);
        const log = logOf(shared);
        log.merge(sent.map((term, position) => entry(previous + position + 1, term)));

        const contradiction = sent.findIndex((term, position) => shared[previous + position] !== term);
        const naive = contradiction < 0 ? shared : [...shared.slice(0, previous), ...sent];
        expect(termsOf(log)).toEqual(naive);
        const cut = contradiction < 0 || previous + contradiction >= shared.length ? shared.length : previous + contradiction;
        expect(log.persisted).toBe(cut);
        expect(log.handedOut).toBe(cut);
        expect(log.bytes).toBe(log.slice(log.baseIndex, log.lastIndex, Number.POSITIVE_INFINITY).reduce((sum, each) => sum + entryBytes(each), 0));
      }),
    );
  });

  it('does not take back what is committed', () => {
    const log = logOf([1, 1, 1], 2);
    expect(() => log.merge([entry(2, 2)])).toThrow('committed and cannot be taken back');
  });

  it('counts a finished write only while it is still part of the log', () => {
    const log = logOf([1, 1]);
    log.merge([entry(2, 2), entry(3, 2)]);
    expect(log.persisted).toBe(1);
    // The write of 2/1 ends late: it was overwritten meanwhile.
    log.notePersisted(2 as LogIndex, 1 as Term);
    expect(log.persisted).toBe(1);
    log.notePersisted(3 as LogIndex, 2 as Term);
    expect(log.persisted).toBe(3);
  });

  it('finds where two logs may agree', () => {
    fc.assert(
      fc.property(terms, fc.nat(10), fc.nat(5), (mine, from, term) => {
        const upTo = Math.min(from, mine.length);
        const naive = [0, ...mine.slice(0, upTo)].findLastIndex((each) => each <= term);
        expect(logOf(mine).lastIndexWithTermUpTo(from as LogIndex, term as Term)).toBe(naive);
      }),
    );
  });

  it('slices within a byte limit, but at least one entry', () => {
    const log = logOf([1, 1, 1, 1]);
    const one = entryBytes(entry(1, 1));
    const count = (limit: number) => log.slice(1 as LogIndex, 4 as LogIndex, limit).length;
    expect([0, one, 2 * one - 1, 2 * one, 100 * one].map(count)).toEqual([1, 1, 1, 2, 3]);
  });

  it('keeps a tail of what is applied when it is compacted', () => {
    const log = logOf([1, 1, 2, 2, 3], 4);
    expect(log.compactionTarget(0, 1000)).toBe(4);
    expect(log.compactionTarget(3, 1000)).toBe(1);
    expect(log.compactionTarget(100, 1000)).toBe(0);
    expect(log.compactionTarget(100, entryBytes(entry(1, 1)) * 2)).toBe(2);
    log.compact(3 as LogIndex);
    expect([log.baseIndex, log.termAt(3 as LogIndex), log.termAt(2 as LogIndex), log.lastIndex]).toEqual([3, 2, null, 5]);
    expect(termsOf(log)).toEqual([2, 3]);
    expect(() => log.compact(5 as LogIndex)).toThrow('only what is applied');
  });

  it('takes a configuration back with its entry', () => {
    const log = logOf([1]);
    const next = configurationOf(['a', 'b']);
    log.append([{ ...entry(2, 1), kind: 'configuration', data: encodeConfiguration(next) }]);
    expect(log.configuration).toEqual(next);
    log.merge([entry(2, 2)]);
    expect(log.configuration).toEqual(configurationOf(['a']));
    expect(log.configurationIndex).toBe(0);
  });
});

describe('a window of appends', () => {
  it('bounds what is under way by number and by bytes', () => {
    const progress = new Progress(1 as LogIndex, { maxInflightAppends: 3, maxInflightBytes: 100 });
    progress.becomeReplicate();
    for (const last of [2, 4, 6]) progress.sent(last as LogIndex, 10);
    expect(progress.windowIsFull).toBe(true);
    expect(progress.acknowledged(4 as LogIndex)).toBe(true);
    expect(progress.inflight).toEqual({ appends: 1, bytes: 10 });
    // Old news, as after a reordering.
    expect(progress.acknowledged(2 as LogIndex)).toBe(false);
    progress.sent(7 as LogIndex, 95);
    expect(progress.windowIsFull).toBe(true);
    progress.becomeProbe(5 as LogIndex);
    expect([progress.windowIsFull, progress.next, progress.match]).toEqual([false, 5, 4]);
  });
});

describe('writes that wait', () => {
  it('are one list that later batches overwrite', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(6), fc.integer({ min: 1, max: 3 })), { minLength: 1, maxLength: 6 }), (batches) => {
        const writes = new PendingWrites();
        let naive: Entry[] = [];
        let end = 10;
        for (const [position, [back, count]] of batches.entries()) {
          // A batch begins anywhere up to one behind the end, even before what waits.
          const first = Math.max(1, end + 1 - back);
          const entries = [...Array(count).keys()].map((offset) => entry(first + offset, position + 1));
          writes.add({ hardState: null, entries, messagesAfterPersist: [] });
          naive = [...naive.filter(({ index }) => index < first), ...entries];
          end = first + count - 1;
        }
        const { entries, last } = writes.take();
        expect(entries).toEqual(naive);
        expect(last?.index).toBe(naive.at(-1)?.index);
        expect(writes.isEmpty).toBe(true);
      }),
    );
  });
});
