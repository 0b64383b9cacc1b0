/** Breaks things at seeded moments, and mends everything at the end. */
import { ArchipelagoError, type Prng } from '../../../src/base/index.ts';
import { CALM } from '../network.ts';
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
  private readonly meanGapMs: number;
  private stopped = false;

  constructor(world: World, random: Prng) {
    this.world = world;
    this.random = random;
    this.meanGapMs = 300 + random.below(1_500);
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
    const actions = [
      () => this.crash(),
      () => this.crash(),
      () => this.crashLeader(),
      () => this.crashAll(),
      () => this.partition(),
      () => this.isolateLeader(),
      () => this.oneWay(),
      () => this.bridge(),
      () => this.world.network.heal(),
      () => this.world.network.heal(),
      () => this.pause(),
      () => this.slowDisk(),
      () => this.failingDisk(),
      () => this.badNetwork(),
      () => this.transfer(),
      () => this.changeMembers(),
      () => this.changeMembers(),
    ];
    (actions[this.random.below(actions.length)] as () => void)();
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

  private crash(id = this.pick()): void {
    if (!this.world.isUp(id)) return;
    this.counts.crashes++;
    this.world.crash(id);
    this.restartLater(id);
  }

  private crashLeader(): void {
    const leader = this.leader();
    if (leader !== null) this.crash(leader);
  }

  private crashAll(): void {
    this.counts.restartsOfAll++;
    for (const id of this.world.ids) this.crash(id);
  }

  private restartLater(id: string): void {
    this.world.scheduler.in(20 + this.random.unit() * 2_500, () => this.world.restart(id));
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
