/**
 * The next configuration for a view of the members. In the tables `n1*` leads, `n3!` is down, `n4?` is not ready to vote; voters and learners
 * are Raft's present ones, and the rest are members that Raft does not have yet.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type MembershipView, nextMembers } from '../../../src/node/control/membership-plan.ts';

const names = (text: string) => text.split(' ').filter((name) => name !== '');
const bare = (name: string) => name.replace(/[*!?]/g, '');

function view(members: string, voters: string, learners = ''): MembershipView {
  const listed = names(members).map((name) => ({ name: bare(name), up: !name.includes('!'), ready: !name.includes('?') && !name.includes('!') }));
  const leader = [...names(members), ...names(voters)].find((name) => name.includes('*')) ?? 'n1';
  return { self: bare(leader), members: listed, voters: names(voters).map(bare), learners: names(learners) };
}

function next(members: string, voters: string, learners = ''): string {
  const wanted = nextMembers(view(members, voters, learners));
  return wanted === null ? 'nothing' : [wanted.voters.join(' '), wanted.learners.join(' ')].filter(Boolean).join(' + ');
}

describe('the members allow so many voters', () => {
  it.each([
    // members, voters, learners, next
    ['a settled group', 'n1* n2 n3', 'n1 n2 n3', '', 'nothing'],
    ['one that joins becomes a learner first', 'n1* n2 n3 n4!', 'n1 n2 n3', '', 'n1 n2 n3 + n4'],
    ['even if it could vote', 'n1* n2 n3 n4', 'n1 n2 n3', '', 'n1 n2 n3 + n4'],
    ['a fourth stays one', 'n1* n2 n3 n4', 'n1 n2 n3', 'n4', 'nothing'],
    ['a fifth lets both vote', 'n1* n2 n3 n4 n5', 'n1 n2 n3', 'n4 n5', 'n1 n2 n3 n4 n5'],
    ['but not before both have caught up', 'n1* n2 n3 n4 n5?', 'n1 n2 n3', 'n4 n5', 'nothing'],
    ['nor while one of them is down', 'n1* n2 n3 n4! n5', 'n1 n2 n3', 'n4 n5', 'nothing'],
    ['a third from one', 'n1* n2 n3', 'n1', 'n2 n3', 'n1 n2 n3'],
    ['of two, one votes', 'n1* n2', 'n1', 'n2', 'nothing'],
    ['seven at most', 'n1* n2 n3 n4 n5 n6 n7 n8 n9', 'n1 n2 n3 n4 n5 n6 n7', 'n8 n9', 'nothing'],
    ['five of six, in the order of their names', 'n1* n2 n3 n4 n5 n6', 'n1 n2 n3', 'n4 n5 n6', 'n1 n2 n3 n4 n5 + n6'],
  ])('%s', (_, members, voters, learners, expected) => expect(next(members, voters, learners)).toBe(expected));
});

describe('a removed voter', () => {
  it.each([
    ['gives its place to a learner', 'n1* n2 n4', 'n1 n2 n3', 'n4', 'n1 n2 n4'],
    ['leaves one voter of two members', 'n1* n2', 'n1 n2 n3', '', 'n1 + n2'],
    ['where the leader stays', 'n1 n2*', 'n1 n2 n3', '', 'n2 + n1'],
    ['while the learner is not ready', 'n1* n2 n4?', 'n1 n2 n3', 'n4', 'n1 + n2 n4'],
    ['and then it is', 'n1* n2 n4', 'n1', 'n2 n4', 'n1 n2 n4'],
    ['of five leaves three', 'n1* n2 n3 n4', 'n1 n2 n3 n4 n5', '', 'n1 n2 n3 + n4'],
    ['and those that are up vote on', 'n1* n2! n3 n4', 'n1 n2 n3 n4 n5', '', 'n1 n3 n4 + n2'],
    ['that leads lets another take over', 'n2 n3', 'n1* n2 n3', '', 'n2 + n3'],
    ['that leads alone lets a learner take over', 'n2', 'n1*', 'n2', 'n2'],
    ['that leads alone stays until a learner is ready', 'n2?', 'n1*', 'n2', 'nothing'],
    ['with the other one down', 'n1* n3!', 'n1 n2 n3', '', 'n1 + n3'],
    ['is let go, with fewer voters than members allow, where the rest has no majority', 'n1* n4! n5!', 'n1 n2 n3 n4 n5', '', 'n1 + n4 n5'],
  ])('%s', (_, members, voters, learners, expected) => expect(next(members, voters, learners)).toBe(expected));
});

describe('what is not the membership’s business', () => {
  it('voters that are down keep their votes', () => {
    expect(next('n1* n2! n3', 'n1 n2 n3')).toBe('nothing');
    expect(next('n1* n2! n3 n4', 'n1 n2 n3', 'n4')).toBe('nothing');
  });

  it('a new leader that has no links yet changes nobody', () => {
    expect(next('n1* n2! n3!', 'n1 n2 n3')).toBe('nothing');
    expect(next('n1* n2! n3! n4! n5!', 'n1 n2 n3', 'n4 n5')).toBe('nothing');
  });

  it('a removed learner just goes', () => {
    expect(next('n1* n2 n3', 'n1 n2 n3', 'n4')).toBe('n1 n2 n3');
  });
});

describe('any view', () => {
  const member = fc.record({ name: fc.integer({ min: 1, max: 12 }).map((number) => `n${number}`), up: fc.boolean(), ready: fc.boolean() });
  const views = fc
    .record({
      members: fc.uniqueArray(member, { minLength: 1, maxLength: 10, selector: ({ name }) => name }),
      voters: fc.uniqueArray(
        fc.integer({ min: 1, max: 12 }).map((number) => `n${number}`),
        { minLength: 1, maxLength: 7 },
      ),
      learner: fc.func(fc.boolean()),
      self: fc.nat(),
    })
    .map(({ members, voters, learner, self }): MembershipView => {
      const leader = voters[self % voters.length] as string;
      const learners = members.map(({ name }) => name).filter((name) => !voters.includes(name) && learner(name));
      return { self: leader, voters, learners, members: members.map((each) => (each.name === leader ? { ...each, up: true } : each)) };
    });

  it('leads to members only, an odd number of voters of whom a majority is up, and then to rest', () => {
    fc.assert(
      fc.property(views, (given) => {
        const wanted = nextMembers(given);
        if (wanted === null) return;
        const all = given.members.map(({ name }) => name);
        expect([...wanted.voters, ...wanted.learners].sort()).toEqual([...all].sort());
        expect([1, 3, 5, 7]).toContain(wanted.voters.length);
        expect(wanted.voters.length).toBeLessThanOrEqual(all.length);
        const up = given.members.filter(({ name, up: isUp }) => wanted.voters.includes(name) && isUp);
        expect(up.length).toBeGreaterThan(wanted.voters.length / 2);
        for (const name of wanted.voters) {
          const chosen = given.members.find((each) => each.name === name);
          if (!given.voters.includes(name)) expect(chosen).toMatchObject({ up: true, ready: true });
        }
        // A leader that stays a member keeps its vote.
        if (all.includes(given.self)) expect(wanted.voters).toContain(given.self);
        const then = { ...given, voters: wanted.voters, learners: wanted.learners };
        const self = wanted.voters.includes(given.self) ? given.self : (up[0]?.name ?? given.self);
        const after = nextMembers({ ...then, self });
        // At most it goes on to more voters, where fewer were taken to let one go; never back.
        if (after !== null) expect(after.voters.length).toBeGreaterThan(wanted.voters.length);
      }),
      { numRuns: 2000 },
    );
  });
});
