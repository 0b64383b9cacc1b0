/** Moves of several steps, each a situation in which a member must remember something, or must not believe something. */
import { campaignNow } from './inside.ts';
import type { Move } from './moves.ts';
import type { Nemesis } from './nemesis.ts';

/**
 * All start anew and two campaign at the same moment. The others hear the second one late, lose the first one while it is being elected,
 * and crash: whoever forgets its vote then gives another.
 */
export const rivals: Move = (nemesis) => {
  const { world, random } = nemesis;
  if (world.initialVoters.length === 1) return;
  nemesis.counts.rivalries++;
  world.network.heal();
  for (const id of world.initialVoters) nemesis.crash(id, random.unit() * 10);
  const [one = '', other = '', ...rest] = nemesis.shuffled().filter((id) => world.initialVoters.includes(id));
  const readyMs = 30 + 2 * world.setting.diskMs;
  nemesis.later(readyMs, () => campaign(nemesis, [one, other]));
  const lateMs = (world.setting.diskMs + world.setting.networkMs) * (2 + 4 * random.unit()) + random.unit() * 40;
  const delayVotes = (id: string) => {
    if (id !== other) return false;
    for (const third of rest) world.network.slowLink(other, third, lateMs);
    return true;
  };
  nemesis.trap({ on: 'sent', kind: 'vote', spring: delayVotes }, 2_000);
  const loseOne = (id: string) => {
    if (!rest.includes(id)) return false;
    for (const third of [other, ...rest]) world.network.cutLink(one, third);
    nemesis.later(0, () => nemesis.crash(id, random.unit() * 10));
    return true;
  };
  for (const _ of rest) nemesis.trap({ on: 'sent', kind: 'voteReply', spring: loseOne }, 2_000);
};

/**
 * All start anew, and one campaigns; the answers are late. By the time they come it campaigns again, against another one that gets the votes
 * of this second time.
 */
export const lateVotes: Move = (nemesis) => {
  const { world, random } = nemesis;
  const { network, setting, initialVoters } = world;
  if (initialVoters.length < 3) return;
  nemesis.counts.lateVotes++;
  network.heal();
  for (const id of initialVoters) nemesis.crash(id, random.unit() * 10);
  const [late = '', other = '', ...rest] = nemesis.shuffled().filter((id) => initialVoters.includes(id));
  const stepMs = setting.diskMs + setting.networkMs;
  const secondMs = 4 * stepMs + random.unit() * 60;
  const delayMs = secondMs + stepMs * (2 + 5 * random.unit());
  const isLate = (id: string) => id === late;
  const second = (id: string) => {
    if (!isLate(id)) return false;
    network.cutLink(other, late);
    return true;
  };
  const first = (id: string) => {
    if (!isLate(id)) return false;
    for (const each of [other, ...rest]) network.slowLink(each, late, delayMs);
    nemesis.later(secondMs, () => {
      network.slowLink(other, late, 0);
      for (const each of rest) network.slowLink(late, each, stepMs * 4);
      nemesis.trap({ on: 'sent', kind: 'vote', spring: second }, 1_000);
      campaign(nemesis, [late, other]);
    });
    return true;
  };
  nemesis.trap({ on: 'sent', kind: 'vote', spring: first }, 1_000);
  nemesis.later(30 + 2 * setting.diskMs, () => campaign(nemesis, [late]));
};

/**
 * Who sends a snapshot dies before it arrives. A new leader, which does not know that so much is committed, brings the receiver beyond it; and
 * now the snapshot arrives, before the receiver hears of any commit.
 */
export const lateSnapshot: Move = (nemesis) => {
  const { world, random } = nemesis;
  const { network, setting } = world;
  // Who keeps least of its log sends a snapshot soonest, and who keeps most can go on where that one ends.
  const voters = nemesis.shuffled().filter((id) => world.initialVoters.includes(id));
  const [leader = '', ...others] = voters.sort((a, b) => world.keptEntries(a) - world.keptEntries(b));
  const heir = others.pop() ?? '';
  const behind = others.pop();
  if (behind === undefined || world.keptEntries(leader) === world.keptEntries(heir)) return;
  const end = nemesis.beginPlot(6_000);
  if (end === null) return;
  nemesis.counts.lateSnapshots++;
  const roles: Roles = { leader, behind, heir, others };
  const rest = [heir, ...others];
  const deafen = () => {
    for (const id of rest) network.cutLink(leader, id);
  };
  const takeUp = () => {
    network.heal();
    deafen();
    const spring = (id: string, to: string) => {
      if (id !== leader || to !== behind) return false;
      network.holdLink(leader, behind);
      nemesis.later(random.unit() * 30, () => {
        nemesis.crash(leader, 1_000 + random.unit() * 2_000);
        overtake(nemesis, roles, end);
      });
      return true;
    };
    nemesis.trap({ on: 'sent', kind: 'chunk', spring }, 2_000);
  };
  // What they acknowledge is committed without their hearing of it. Then the leader stores what it has applied, for the snapshot to have it.
  const spring = (id: string) => {
    if (id !== heir) return false;
    deafen();
    nemesis.later(3 * (setting.diskMs + setting.networkMs) + random.unit() * 60, takeUp);
    return true;
  };
  network.heal();
  handOver(nemesis, leader, () => {
    nemesis.cutBetween([behind], [leader, ...rest]);
    nemesis.keepBusy(leader, 1_500);
    nemesis.later(200 + random.unit() * 1_000, () => nemesis.trap({ on: 'written', kind: 'append', spring }, 1_000));
  });
};

interface Roles {
  readonly leader: string;
  readonly behind: string;
  readonly heir: string;
  readonly others: readonly string[];
}

/** The heir leads, and what `leader` has sent to `behind` arrives when that has entries of the heir, whom it tells so late. */
function overtake(nemesis: Nemesis, { leader, behind, heir, others }: Roles, end: () => void): void {
  const { random } = nemesis;
  const { network } = nemesis.world;
  const spring = (id: string) => {
    if (id !== behind) return false;
    nemesis.later(random.chance(0.5) ? 0 : random.unit() * 200, () => network.releaseLink(leader, behind));
    return true;
  };
  // They forget whom they followed.
  for (const id of [behind, heir, ...others]) nemesis.crash(id, random.unit() * 10);
  lead(nemesis, heir, () => {
    nemesis.cutBetween([heir], others);
    network.slowLink(behind, heir, 100 + random.unit() * 200);
    nemesis.trap({ on: 'written', kind: 'append', spring }, 1_500);
    nemesis.later(1_500, end);
  });
}

/**
 * Figure 8 of the Raft paper. One leader keeps an entry to itself, and then another one of a later term does; the first leads again and hands on
 * what it has, but the rest of that is lost, and so is the leader; now the second one leads again, and the others have to take what it has.
 */
export const olderTerm: Move = (nemesis) => {
  const { world, random } = nemesis;
  const { network, setting, initialVoters } = world;
  const end = initialVoters.length < 3 ? null : nemesis.beginPlot(6_000);
  if (end === null) return;
  nemesis.counts.olderTerms++;
  network.heal();
  const writeMs = () => 2 * setting.diskMs + random.unit() * 60;
  const spring = (one: string) => {
    if (!initialVoters.includes(one)) return false;
    const [two = '', ...rest] = nemesis.shuffled().filter((id) => id !== one && initialVoters.includes(id));
    // They forget whom they follow, so that they are free to elect another.
    const forget = (ids: readonly string[]) => {
      for (const id of ids) nemesis.crash(id, random.unit() * 10);
    };
    const isolate = (id: string) => nemesis.cutBetween([id], nemesis.others(id));
    const leadFirst = () => {
      network.heal();
      isolate(two);
      lead(nemesis, one, () => {
        cutAfterAppends(nemesis, one, rest);
        nemesis.later(6 * (setting.diskMs + setting.networkMs) + random.unit() * 40, () => {
          nemesis.crash(one, 500 + random.unit() * 1_500);
          network.heal();
          forget(rest);
          lead(nemesis, two, end);
        });
      });
    };
    isolate(one);
    nemesis.later(writeMs(), () => {
      forget([two, ...rest]);
      lead(nemesis, two, () => {
        isolate(two);
        nemesis.later(writeMs(), leadFirst);
      });
    });
    return true;
  };
  nemesis.trap({ on: 'sent', kind: 'append', spring }, 1_000);
};

/** A leader reaches each of the others with an append or two more. */
function cutAfterAppends(nemesis: Nemesis, leader: string, others: readonly string[]): void {
  const { world, random } = nemesis;
  const left = new Map(others.map((id) => [id, 1 + random.below(3)]));
  const spring = (id: string, to: string) => {
    const appends = left.get(to);
    if (id !== leader || appends === undefined) return false;
    left.set(to, appends - 1);
    if (appends > 1) return false;
    world.network.cutLink(leader, to);
    left.delete(to);
    return left.size === 0;
  };
  nemesis.trap({ on: 'sent', kind: 'append', spring }, 1_000);
}

/** Has a member lead, by the leave of who leads now. */
function handOver(nemesis: Nemesis, to: string, then: () => void): void {
  const now = nemesis.leader();
  if (now === to) {
    then();
    return;
  }
  if (now !== null) nemesis.world.member(now)?.node.transferLeadership(to);
  lead(nemesis, to, then);
}

/** Has a member campaign until it leads, if it can; `then` happens as soon as it does. */
function lead(nemesis: Nemesis, who: string, then: () => void): void {
  const { world } = nemesis;
  let tries = 30;
  const spring = (id: string) => {
    if (id !== who) return false;
    tries = 0;
    then();
    return true;
  };
  nemesis.trap({ on: 'leads', kind: null, spring }, 2_000);
  const attempt = () => {
    if (--tries <= 0) return;
    if (world.member(who)?.node.status().role === 'follower') campaign(nemesis, [who]);
    nemesis.later(15 + world.setting.diskMs, attempt);
  };
  nemesis.later(0, attempt);
}

function campaign({ world }: Nemesis, ids: readonly string[]): void {
  for (const id of ids) {
    const node = world.member(id)?.node;
    if (node !== undefined) campaignNow(node);
  }
}
