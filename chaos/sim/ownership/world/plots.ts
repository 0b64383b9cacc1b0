/**
 * Moves of several steps, each a situation in which nodes must not believe what they would like to: that a lease is longer than it is, that they
 * still lead, that who owned before them is dead, that what was written is safe. A world that plays a plot plays it over and over.
 */
import type { Move } from './moves.ts';
import type { Nemesis } from './nemesis.ts';
import type { SimNode } from './node.ts';

export interface Plot {
  readonly play: Move;
  /** After this long all is mended, before it is played again. */
  readonly lastsMs: number;
}

interface Cast {
  readonly leader: SimNode;
  readonly owner: SimNode;
  /** One that is neither. */
  readonly third: SimNode;
}

/** Null while there is no owner apart from the leader; that is seen to. */
function cast(nemesis: Nemesis): Cast | null {
  const { leader, owner } = nemesis.world;
  if (leader === null || owner === null) return null;
  if (leader === owner) {
    const to = nemesis.oneOf(nemesis.others(leader)).name;
    nemesis.ask(leader, (control) => control.migrate(to));
    return null;
  }
  return { leader, owner, third: nemesis.oneOf(nemesis.others(leader).filter((node) => node !== owner)) };
}

/** Cuts what the control process of one says to that of another. */
function silence(nemesis: Nemesis, from: SimNode, to: SimNode): void {
  nemesis.cut(from, to, { control: true, data: false });
}

/** Answers to heartbeats take nearly as long as a lease, and then no heartbeat comes any more. */
const lateAnswers: Move = (nemesis) => {
  const { random, world } = nemesis;
  const { leader } = world;
  if (leader === null) return;
  const node = nemesis.oneOf(nemesis.others(leader));
  world.network.troubles.set('heartbeat answer', { does: 'delay', chance: 1, delayMs: 1_000 });
  nemesis.later(100 + 400 * random.unit(), () => silence(nemesis, node, leader));
};

/** No heartbeat comes until about when the lease is over, and the logs may be slow to say that it is. */
const lastBeat: Move = (nemesis) => {
  const { random, world } = nemesis;
  const { leader } = world;
  if (leader === null) return;
  silence(nemesis, nemesis.oneOf(nemesis.others(leader)), leader);
  const writeMs = nemesis.oneOf([world.setting.logDiskMs, 100, 300]);
  for (const { disk } of world.nodes) disk.conditions.writeMs = writeMs;
  nemesis.later(1_100 + 500 * random.unit(), () => world.network.heal());
};

/** A leader is cut off and sleeps while another one is elected, and is the leader again in its dreams. */
const wakingLeader: Move = (nemesis) => {
  const { leader } = nemesis.world;
  if (leader === null) return;
  for (const other of nemesis.others(leader)) {
    silence(nemesis, leader, other);
    silence(nemesis, other, leader);
  }
  nemesis.counts.controlPauses++;
  leader.controlHost.pause(1_000 + 1_500 * nemesis.random.unit());
};

/** The end of a lease is proposed while the leader hands over to another, which has renewed it by the time it hears of that. */
const endOfTheTerm: Move = (nemesis) => {
  const { random, world } = nemesis;
  const { leader } = world;
  if (leader === null) return;
  const [node, heir] = nemesis.shuffled().filter((each) => each !== leader) as [SimNode, SimNode];
  silence(nemesis, node, leader);
  nemesis.later(1_000 + 400 * random.unit(), () => {
    world.network.slowLink(leader.name, heir.name, 50 + 200 * random.unit());
    nemesis.counts.leaderChanges++;
    leader.control?.raft?.transferLeadership(heir.name);
  });
};

/** An owner whose lock is broken knows late what is decided, but has its heartbeats answered. */
const lateToKnow: Move = (nemesis) => {
  const { random, world } = nemesis;
  const roles = cast(nemesis);
  if (roles === null) return;
  const { leader, owner, third } = roles;
  world.holdsUsed = true;
  nemesis.counts.locks++;
  nemesis.ask(owner, (control) => control.lock());
  nemesis.later(300 + 200 * random.unit(), () => {
    for (const other of nemesis.others(owner))
      world.network.troubles.set(`append ${other.name} ${owner.name}`, { does: 'lose', chance: 1, delayMs: 0 });
    nemesis.counts.brokenLocks++;
    nemesis.ask(nemesis.oneOf([leader, third]), (control) => control.unlock(true));
  });
};

/** Writes lie in the store of an owner that is cut off, or paused, and land long after others have taken over. */
const lateWrites: Move = (nemesis) => {
  const { random, world } = nemesis;
  const { owner } = world;
  if (owner === null) return;
  nemesis.counts.slowStores++;
  Object.assign(owner.storeConditions, { slowChance: nemesis.oneOf([0.3, 0.8]), slowMs: 5_000 });
  nemesis.later(30 + 300 * random.unit(), () => {
    for (const other of nemesis.others(owner)) {
      nemesis.cut(owner, other, { control: true, data: true });
      nemesis.cut(other, owner, { control: true, data: true });
    }
    owner.storeConditions.slowChance = 0;
    if (random.chance(0.5)) return;
    nemesis.counts.dataPauses++;
    owner.dataHost.pause(1_500 + 2_000 * random.unit());
  });
};

/** An owner gives the volume away and gets it back before it hears that it was gone; what there is has changed meanwhile. */
const thereAndBack: Move = (nemesis) => {
  const { random, world } = nemesis;
  const roles = cast(nemesis);
  if (roles === null) return;
  const { leader, owner, third } = roles;
  silence(nemesis, leader, owner);
  const back = () => {
    nemesis.counts.migrations++;
    nemesis.ask(third, (control) => control.migrate(owner.name));
    whenOwner(nemesis, leader, owner, () => nemesis.later(random.unit() * 30, () => world.network.heal()));
  };
  nemesis.counts.migrations++;
  nemesis.ask(third, (control) => control.migrate(third.name));
  whenOwner(nemesis, third, third, () => {
    nemesis.ask(third, (control) => world.snapshots.take(control));
    nemesis.later(50 + 200 * random.unit(), back);
  });
};

/** Once, when `teller` knows that `owner` owns the volume. */
function whenOwner(nemesis: Nemesis, teller: SimNode, owner: SimNode, then: () => void): void {
  let tries = 500;
  const look = () => {
    if (teller.control?.registry.byName('v')?.owner?.node === owner.name) then();
    else if (--tries > 0) nemesis.later(3, look);
  };
  look();
}

/** The power fails as soon as guests have been told that what they wrote is safe. */
const flushedByOthers: Move = (nemesis) => {
  const { owner } = nemesis.world;
  if (owner === null) return;
  const others = nemesis.others(owner);
  for (const guest of nemesis.world.guests) guest.sit(nemesis.oneOf(others));
  nemesis.later(300 + 500 * nemesis.random.unit(), () => failAfterFlush(nemesis, () => true));
};

/** The same, where what was written was written by way of the owner before. */
const flushedByTheNext: Move = (nemesis) => {
  const { world } = nemesis;
  const { owner, handovers } = world;
  if (owner === null) return;
  const to = nemesis.oneOf(nemesis.others(owner)).name;
  nemesis.counts.migrations++;
  nemesis.ask(
    owner,
    (control) => control.migrate(to),
    () => {
      world.handovers++;
    },
  );
  nemesis.later(nemesis.random.unit() * 20, () => failAfterFlush(nemesis, () => world.handovers > handovers));
};

/** Guests only flush from here on; the power fails after the first flush that began when `from` says so. */
function failAfterFlush(nemesis: Nemesis, from: () => boolean): void {
  const { world } = nemesis;
  world.guestsFlush = true;
  let first = Number.POSITIVE_INFINITY;
  let tries = 400;
  const look = () => {
    if (first === Number.POSITIVE_INFINITY && from()) first = world.flushes;
    // Those that were under way when it was first looked, and one more.
    const failed = world.flushes > first + world.guests.length;
    if (!failed && --tries > 0) {
      nemesis.later(2, look);
      return;
    }
    world.guestsFlush = false;
    if (!failed || world.isSettling) return;
    nemesis.counts.powerFailures++;
    world.losePower(() => nemesis.random.unit() * 200);
  };
  look();
}

/** What a world plays, by its seed; null: faults of any kind, as they come. */
export const PLOTS: readonly (Plot | null)[] = [
  { play: lateAnswers, lastsMs: 2_600 },
  null,
  { play: lateWrites, lastsMs: 5_500 },
  { play: wakingLeader, lastsMs: 3_500 },
  { play: flushedByTheNext, lastsMs: 1_500 },
  { play: lastBeat, lastsMs: 2_500 },
  { play: thereAndBack, lastsMs: 4_000 },
  { play: endOfTheTerm, lastsMs: 2_500 },
  null,
  null,
  { play: flushedByOthers, lastsMs: 1_500 },
  { play: lateToKnow, lastsMs: 4_000 },
  null,
];
