/**
 * Moves of several steps, each a situation in which nodes must not believe what they would like to: that a lease is longer than it is, that they
 * still lead, that who owned before them is dead, that what was written is safe. A world that plays a plot plays it over and over.
 */
import type { Nemesis } from './nemesis.ts';
import type { SimNode } from './node.ts';
import type { GuestSetting } from './setting.ts';

/** Who plays in a plot. */
export interface Cast {
  readonly leader: SimNode;
  /** It may be the leader. */
  readonly owner: SimNode;
  /** One that is neither. */
  readonly third: SimNode;
}

type Play = (nemesis: Nemesis, cast: Cast) => void;

export interface Plot {
  readonly play: Play;
  /** After this long all is mended, before it is played again. */
  readonly lastsMs: number;
  /** Leader and owner have to be two nodes. */
  readonly apart?: boolean;
  /** What guests have to be like. */
  readonly guests?: Partial<GuestSetting>;
}

/** Null while there is nobody to play it; that is seen to. */
export function castOf(nemesis: Nemesis, { apart = false }: Plot): Cast | null {
  const { leader, owner } = nemesis.world;
  if (leader === null || owner === null) return null;
  if (leader === owner && apart) {
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
const lateAnswers: Play = (nemesis, cast) => {
  const { random, world } = nemesis;
  const { leader } = cast;
  const node = nemesis.oneOf(nemesis.others(leader));
  world.network.troubles.set('heartbeat answer', { does: 'delay', chance: 1, delayMs: 1_000 });
  nemesis.later(100 + 400 * random.unit(), () => silence(nemesis, node, leader));
};

/** No heartbeat comes until about when the lease is over, and the logs may be slow to say that it is. */
const lastBeat: Play = (nemesis, cast) => {
  const { random, world } = nemesis;
  const { leader } = cast;
  silence(nemesis, nemesis.oneOf(nemesis.others(leader)), leader);
  const writeMs = nemesis.oneOf([world.setting.logDiskMs, 100, 300]);
  for (const { disk } of world.nodes) disk.conditions.writeMs = writeMs;
  nemesis.later(1_100 + 500 * random.unit(), () => world.network.heal());
};

/** A leader is cut off and sleeps while another one is elected, and is the leader again in its dreams. */
const wakingLeader: Play = (nemesis, cast) => {
  const { leader } = cast;
  for (const other of nemesis.others(leader)) {
    silence(nemesis, leader, other);
    silence(nemesis, other, leader);
  }
  nemesis.counts.controlPauses++;
  leader.controlHost.pause(1_000 + 1_500 * nemesis.random.unit());
};

/** The end of a lease is proposed while the leader hands over to another, which has renewed it by the time it hears of that. */
const endOfTheTerm: Play = (nemesis, cast) => {
  const { random, world } = nemesis;
  const { leader } = cast;
  const [node, heir] = nemesis.shuffled().filter((each) => each !== leader) as [SimNode, SimNode];
  silence(nemesis, node, leader);
  nemesis.later(1_000 + 400 * random.unit(), () => {
    world.network.slowLink(leader.name, heir.name, 50 + 200 * random.unit());
    nemesis.counts.leaderChanges++;
    leader.control?.raft?.transferLeadership(heir.name);
  });
};

/** An owner whose lock is broken knows late what is decided, but has its heartbeats answered. */
const lateToKnow: Play = (nemesis, cast) => {
  const { random, world } = nemesis;
  const { leader, owner, third } = cast;
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
const lateWrites: Play = (nemesis, cast) => {
  const { random } = nemesis;
  const { owner } = cast;
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
const thereAndBack: Play = (nemesis, cast) => {
  const { random, world } = nemesis;
  const { leader, owner, third } = cast;
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
  when(nemesis, () => teller.control?.registry.byName('v')?.owner?.node === owner.name, then);
}

/** Once, when it is so, and before anybody else hears of it; unless that takes very long. */
function when(nemesis: Nemesis, isSo: () => boolean, then: () => void): void {
  let tries = 20_000;
  const look = () => {
    if (isSo()) then();
    else if (--tries > 0) nemesis.later(0.1, look);
  };
  look();
}

/** The power fails as soon as guests have been told that what they wrote is safe. */
const flushedByOthers: Play = (nemesis, cast) => {
  const { owner } = cast;
  const others = nemesis.others(owner);
  for (const guest of nemesis.world.guests) guest.sit(nemesis.oneOf(others));
  nemesis.later(300 + 500 * nemesis.random.unit(), () => failAfterFlush(nemesis, () => true));
};

/** The same, where what was written was written by way of the owner before. */
const flushedByTheNext: Play = (nemesis, cast) => {
  const { world } = nemesis;
  const { handovers } = world;
  const { owner } = cast;
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
  world.guestsOnly = 'flush';
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
    world.guestsOnly = null;
    if (!failed || world.isSettling) return;
    nemesis.counts.powerFailures++;
    world.losePower(() => nemesis.random.unit() * 200);
  };
  look();
}

/**
 * An owner has writes in its store when its lease ends, hears of that and gives them back, to a node that hears of nothing: for that one it is
 * still the owner, and whatever it says of them counts.
 */
const toldByTheFormer: Play = (nemesis, cast) => {
  const { random, world } = nemesis;
  const { leader, owner, third } = cast;
  for (const [at, guest] of world.guests.entries()) guest.sit(at === 0 ? leader : third);
  nemesis.later(200, () => {
    nemesis.counts.slowStores++;
    Object.assign(owner.storeConditions, { slowChance: nemesis.oneOf([0.05, 0.3]), slowMs: 3_000, slowKind: 'write' });
  });
  nemesis.later(200 + 300 * random.unit(), () => {
    loseHeartbeats(nemesis, owner, leader);
    nemesis.counts.lags++;
    world.network.troubles.set(`append ${leader.name} ${third.name}`, { does: 'lose', chance: 1, delayMs: 0 });
  });
  whenExpired(nemesis, owner, leader, () => undefined);
};

/** An owner whose store has failed cannot say so before its lease ends; it has a new one by the time it can, and writes are still under way. */
const failedOwner: Play = (nemesis, cast) => {
  const { world } = nemesis;
  const { leader, owner } = cast;
  const { data, storeConditions } = owner;
  if (data === null) return;
  const proposals = `propose ${owner.name} ${leader.name}`;
  loseHeartbeats(nemesis, owner, leader);
  world.network.troubles.set(proposals, { does: 'lose', chance: 1, delayMs: 0 });
  nemesis.counts.slowStores++;
  Object.assign(storeConditions, { slowChance: 0.7, slowMs: 2_500, slowKind: 'write' });
  const { store } = data;
  const { slow } = store;
  // A few that take long; if all did, nothing else would be asked of the store, and it would not fail.
  when(
    nemesis,
    () => store.slow > slow + 2,
    () => {
      storeConditions.slowChance = 0;
      nemesis.counts.storeErrors++;
      world.storeFailed = true;
      store.faults.ioError = 1;
      nemesis.later(400, () => owner.applyStoreFaults());
    },
  );
  whenExpired(nemesis, owner, leader, () => {
    // Its first word is about its new lease; what it could not say before it says again later.
    world.network.troubles.clear();
    const isAlive = () => leader.control?.registry.node(owner.name)?.alive === true;
    when(nemesis, isAlive, () => world.network.troubles.set(proposals, { does: 'lose', chance: 1, delayMs: 0 }));
  });
};

/** Once the leader has voided what a node owned. From then on guests only read: who writes hides what has become of the writes under way. */
function whenExpired(nemesis: Nemesis, node: SimNode, leader: SimNode, then: () => void): void {
  const isExpired = () => leader.control?.registry.node(node.name)?.alive === false;
  when(nemesis, isExpired, () => {
    nemesis.world.guestsOnly = 'read';
    then();
  });
}

/** A node's lease is not renewed any more, while it hears all that is decided. */
function loseHeartbeats({ world }: Nemesis, of: SimNode, leader: SimNode): void {
  world.network.troubles.set(`heartbeat ${of.name} ${leader.name}`, { does: 'lose', chance: 1, delayMs: 0 });
}

/** What a world plays, by its seed; null: faults of any kind, as they come. */
export const PLOTS: readonly (Plot | null)[] = [
  { play: lateAnswers, lastsMs: 2_600 },
  { play: toldByTheFormer, lastsMs: 4_000, apart: true, guests: { depth: 2, blocks: 6 } },
  { play: lateWrites, lastsMs: 5_500 },
  { play: wakingLeader, lastsMs: 3_500 },
  { play: flushedByTheNext, lastsMs: 1_500 },
  { play: lastBeat, lastsMs: 2_500 },
  { play: thereAndBack, lastsMs: 4_000, apart: true },
  { play: endOfTheTerm, lastsMs: 2_500 },
  { play: failedOwner, lastsMs: 4_500, apart: true, guests: { depth: 4, blocks: 6, empties: 0.2 } },
  null,
  { play: flushedByOthers, lastsMs: 1_500 },
  { play: lateToKnow, lastsMs: 4_000, apart: true },
  null,
];
