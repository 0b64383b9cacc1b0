/** Breaks things at seeded moments, and mends everything at the end. */
import { ArchipelagoError, type Prng } from '../../../src/base/index.ts';
import { CALM } from '../network.ts';
import { campaignNow } from './inside.ts';
import type { World } from './world.ts';

export interface NemesisCounts {
  crashes: number;
  restartsOfAll: number;
  partitions: number;
  oneWayPartitions: number;
  bridgePartitions: number;
  pauses: number;
  slowDisks: number;
  failingDisks: number;
  badNetworks: number;
  transfers: number;
  membershipChanges: number;
}

/** Each world has one: some mistakes show only when one kind of trouble comes thick and fast. */
type Profile = 'everything' | 'elections' | 'staleLeaders' | 'snapshots';
const PROFILES: readonly Profile[] = ['everything', 'everything', 'elections', 'staleLeaders', 'snapshots'];

export class Nemesis {
  readonly counts: NemesisCounts = {
    crashes: 0,
    restartsOfAll: 0,
    partitions: 0,
    oneWayPartitions: 0,
    bridgePartitions: 0,
    pauses: 0,
    slowDisks: 0,
    failingDisks: 0,
    badNetworks: 0,
    transfers: 0,
    membershipChanges: 0,
  };
  private readonly world: World;
  private readonly random: Prng;
  private readonly profile: Profile;
  private readonly meanGapMs: number;
  private stopped = false;
  private readonly heal = () => this.world.network.heal();
  /** What each profile does, each with the same chance. */
  private readonly actions: Readonly<Record<Profile, readonly (() => void)[]>> = {
    everything: [
      () => this.crash(),
      () => this.crash(),
      () => this.crashLeader(),
      () => this.crashAll(),
      () => this.partition(),
      () => this.isolateLeader(),
      () => this.oneWay(),
      () => this.bridge(),
      this.heal,
      this.heal,
      () => this.pause(),
      () => this.slowDisk(),
      () => this.failingDisk(),
      () => this.badNetwork(),
      () => this.transfer(),
      () => this.changeMembers(),
      () => this.changeMembers(),
    ],
    elections: [
      () => this.crash(),
      () => this.crashVoters(),
      () => this.crashLeader(),
      () => this.rivals(),
      () => this.rivals(),
      () => this.isolateLeader(),
      () => this.partition(),
      () => this.oneWay(),
      () => this.slowDisk(),
      this.heal,
      this.heal,
      this.heal,
    ],
    staleLeaders: [() => this.isolateLeader(), () => this.muteLeader(), () => this.bridge(), this.heal, this.heal, this.heal],
    snapshots: [
      () => this.crash(),
      () => this.isolateLeader(),
      () => this.isolateFollower(),
      () => this.isolateFollower(),
      this.heal,
      this.heal,
      () => this.transfer(),
      () => this.slowDisk(),
    ],
  };

  constructor(world: World, random: Prng) {
    this.world = world;
    this.random = random;
    this.profile = PROFILES[random.below(PROFILES.length)] as Profile;
    this.meanGapMs = this.profile === 'everything' ? 300 + random.below(1_500) : 100 + random.below(700);
  }

  start(): void {
    this.badNetwork();
    this.next();
  }

  stop(): void {
    this.stopped = true;
    const { world } = this;
    world.network.heal();
    world.network.conditions = CALM;
    for (const id of world.ids) {
      const { conditions } = world.disk(id);
      conditions.slowChance = 0;
      conditions.errorChance = 0;
      world.restart(id);
    }
  }

  private next(): void {
    this.world.scheduler.in(this.meanGapMs * this.random.unit() * 2, () => {
      if (this.stopped) return;
      this.strike();
      this.next();
    });
  }

  private strike(): void {
    const actions = this.actions[this.profile];
    (actions[this.random.below(actions.length)] as () => void)();
  }

  /** Does something after a while, unless everything is being mended by then. */
  private later(delayMs: number, action: () => void): void {
    this.world.scheduler.in(delayMs, () => {
      if (!this.stopped) action();
    });
  }

  private pick(): string {
    const { ids } = this.world;
    return ids[this.random.below(ids.length)] as string;
  }

  private leader(): string | null {
    return this.world.ids.find((id) => this.world.member(id)?.node.status().role === 'leader') ?? null;
  }

  private shuffled(): string[] {
    const ids = [...this.world.ids];
    for (let at = ids.length - 1; at > 0; at--) {
      const other = this.random.below(at + 1);
      [ids[at], ids[other]] = [ids[other] as string, ids[at] as string];
    }
    return ids;
  }

  private crash(id = this.pick(), downMs = this.downMs()): void {
    if (!this.world.isUp(id)) return;
    this.counts.crashes++;
    this.world.crash(id);
    this.world.scheduler.in(downMs, () => this.world.restart(id));
  }

  private crashLeader(): void {
    const leader = this.leader();
    if (leader !== null) this.crash(leader);
  }

  /** Several at once, back soon: they are asked the same questions again. */
  private crashVoters(): void {
    for (const id of this.world.initialVoters) if (this.random.chance(0.6)) this.crash(id);
  }

  /**
   * All start anew and two campaign at the same moment. The others hear the second one late, lose the first one while it is being elected,
   * and crash: whoever forgets its vote then gives another.
   */
  private rivals(): void {
    const { world, random } = this;
    world.network.heal();
    for (const id of world.initialVoters) this.crash(id, random.unit() * 20);
    const [one = '', other = '', ...rest] = this.shuffled().filter((id) => world.initialVoters.includes(id));
    const hearLate = random.chance(0.8);
    this.later(60, () => {
      for (const id of [one, other]) {
        const node = world.member(id)?.node;
        if (node !== undefined) campaignNow(node);
      }
      for (const id of rest) if (hearLate) world.network.slowLink(other, id, 200 + random.unit() * 600);
    });
    for (const id of rest) {
      const lostMs = 60 + random.unit() * 100;
      this.later(lostMs, () => {
        world.network.cutLink(one, id);
        world.network.cutLink(one, other);
      });
      this.later(lostMs + random.unit() * 80, () => this.crash(id, random.unit() * 60));
    }
  }

  private crashAll(): void {
    this.counts.restartsOfAll++;
    for (const id of this.world.ids) this.crash(id);
  }

  private downMs(): number {
    const quick = this.profile === 'elections' || this.random.chance(0.3);
    return quick ? this.random.unit() * 200 : 20 + this.random.unit() * 2_500;
  }

  private cutBetween(groups: readonly (readonly string[])[]): void {
    const [left = [], right = []] = groups;
    for (const a of left) {
      for (const b of right) {
        this.world.network.cutLink(a, b);
        this.world.network.cutLink(b, a);
      }
    }
  }

  private partition(): void {
    this.counts.partitions++;
    this.world.network.heal();
    const ids = this.shuffled();
    const at = 1 + this.random.below(ids.length - 1);
    this.cutBetween([ids.slice(0, at), ids.slice(at)]);
  }

  private isolateLeader(): void {
    const leader = this.leader();
    if (leader === null) return;
    this.counts.partitions++;
    this.cutBetween([[leader], this.world.ids.filter((id) => id !== leader)]);
  }

  private isolateFollower(): void {
    this.counts.partitions++;
    const id = this.pick();
    this.cutBetween([[id], this.world.ids.filter((other) => other !== id)]);
  }

  /** Nobody hears the leader, which goes on hearing old answers for a while. */
  private muteLeader(): void {
    const leader = this.leader();
    if (leader === null) return;
    this.counts.oneWayPartitions++;
    const delayMs = this.random.unit() * 3_500;
    for (const id of this.world.ids) {
      if (id === leader) continue;
      this.world.network.slowLink(id, leader, delayMs);
      // The answers that will be late are still asked for.
      this.later(500, () => this.world.network.cutLink(leader, id));
    }
  }

  private oneWay(): void {
    this.counts.oneWayPartitions++;
    const [deaf = '', ...others] = this.shuffled();
    for (const other of others) {
      if (this.random.chance(0.7)) this.world.network.cutLink(other, deaf);
    }
  }

  /** Two halves that only one member sees both of. */
  private bridge(): void {
    this.counts.bridgePartitions++;
    this.world.network.heal();
    const [, ...others] = this.shuffled();
    const at = others.length >> 1;
    this.cutBetween([others.slice(0, at), others.slice(at)]);
  }

  private pause(): void {
    this.counts.pauses++;
    this.world.host(this.pick()).pause(100 + this.random.unit() * 3_000);
  }

  private slowDisk(): void {
    this.counts.slowDisks++;
    const { conditions } = this.world.disk(this.pick());
    conditions.slowChance = conditions.slowChance > 0 ? 0 : 0.3;
  }

  private failingDisk(): void {
    this.counts.failingDisks++;
    const { conditions } = this.world.disk(this.pick());
    conditions.errorChance = conditions.errorChance > 0 ? 0 : 0.02;
  }

  private badNetwork(): void {
    this.counts.badNetworks++;
    const { random } = this;
    if (this.profile !== 'everything') {
      this.world.network.conditions = { loss: random.unit() * 0.1, duplication: random.unit() * 0.2, straggling: random.unit() * 0.3, delayMs: 5 };
      return;
    }
    this.world.network.conditions = {
      loss: random.chance(0.5) ? random.unit() * 0.2 : 0,
      duplication: random.chance(0.5) ? random.unit() * 0.1 : 0,
      straggling: random.chance(0.5) ? random.unit() * 0.1 : 0,
      delayMs: random.chance(0.3) ? 40 : 2,
    };
  }

  private transfer(): void {
    const leader = this.leader();
    if (leader === null) return;
    this.counts.transfers++;
    this.world.member(leader)?.node.transferLeadership(this.pick());
  }

  private changeMembers(): void {
    const { initialVoters } = this.world;
    const ids = this.shuffled();
    const voters = ids.slice(0, this.random.chance(0.8) ? initialVoters.length : 1 + this.random.below(initialVoters.length));
    const learners = ids.filter((id) => !voters.includes(id) && this.random.chance(0.5));
    // Every member that believes to lead is asked, as an operator might who does not know better.
    for (const id of this.world.ids) {
      const node = this.world.member(id)?.node;
      if (node?.status().role !== 'leader') continue;
      try {
        node.changeMembers({ voters, learners });
        this.counts.membershipChanges++;
      } catch (error) {
        // Refused, which is the leader's right.
        if (!(error instanceof ArchipelagoError)) throw error;
      }
    }
  }
}
