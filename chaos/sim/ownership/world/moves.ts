/** What a nemesis can do, and how a world's share of it is drawn: a little of everything, or one theme thick and fast. */
import type { Prng } from '../../../../src/base/index.ts';
import type { Nemesis } from './nemesis.ts';
import type { SimNode } from './node.ts';
import type { Setting } from './setting.ts';

export type Move = (nemesis: Nemesis) => void;

export interface WeightedMove {
  readonly move: Move;
  readonly weight: number;
}

/** Kinds of frames between control processes that decide about leases and owners. */
const FRAME_KINDS = [
  'heartbeat',
  'heartbeat',
  'heartbeat answer',
  'heartbeat answer',
  'append',
  'appendReply',
  'propose',
  'readIndex',
  'readIndexReply',
];

const heal: Move = (nemesis) => {
  nemesis.heal();
  nemesis.world.network.troubles.clear();
};

const crash: Move = (nemesis) => nemesis.crash(nemesis.target());

const crashLeader: Move = (nemesis) => {
  const { leader } = nemesis.world;
  if (leader !== null) nemesis.crash(leader);
};

/** The daemon that serves guests dies, and they live on. */
const killData: Move = (nemesis) => {
  nemesis.counts.dataDeaths++;
  nemesis.target().killData();
};

const losePower: Move = (nemesis) => {
  nemesis.counts.powerFailures++;
  const downMs = nemesis.random.unit() * 1_000;
  nemesis.world.losePower(() => downMs * nemesis.random.unit());
};

function pause(node: SimNode, ms: number): void {
  node.controlHost.pause(ms);
  node.dataHost.pause(ms);
}

const pauseNode: Move = (nemesis) => {
  nemesis.counts.pauses++;
  pause(nemesis.target(), nemesis.pauseMs());
};

/** It answers nobody, and its control process notices late or not at all. */
const pauseData: Move = (nemesis) => {
  nemesis.counts.dataPauses++;
  nemesis.target().dataHost.pause(nemesis.pauseMs());
};

const pauseControl: Move = (nemesis) => {
  nemesis.counts.controlPauses++;
  nemesis.target().controlHost.pause(nemesis.pauseMs());
};

const partition: Move = (nemesis) => {
  nemesis.counts.partitions++;
  nemesis.heal();
  const nodes = nemesis.shuffled();
  const at = 1 + nemesis.random.below(Math.max(1, nodes.length - 1));
  nemesis.cutBetween(nodes.slice(0, at), nodes.slice(at));
};

const isolate: Move = (nemesis) => {
  nemesis.counts.partitions++;
  const node = nemesis.target();
  nemesis.cutBetween([node], nemesis.others(node));
};

/** Hears nobody, or is heard by nobody. */
const oneWay: Move = (nemesis) => {
  nemesis.counts.oneWayPartitions++;
  const node = nemesis.target();
  const isDeaf = nemesis.random.chance(0.5);
  const layers = nemesis.layers();
  for (const other of nemesis.others(node)) if (nemesis.random.chance(0.8)) nemesis.cut(isDeaf ? other : node, isDeaf ? node : other, layers);
};

/** Two halves that only one node sees both of. */
const bridge: Move = (nemesis) => {
  nemesis.counts.bridgePartitions++;
  nemesis.heal();
  const [, ...others] = nemesis.shuffled();
  const at = others.length >> 1;
  nemesis.cutBetween(others.slice(0, at), others.slice(at));
};

/** One node knows late, or is heard late. */
const lag: Move = (nemesis) => {
  const { random, world } = nemesis;
  nemesis.counts.lags++;
  const node = nemesis.target();
  const layers = nemesis.layers();
  const isLateIn = random.chance(0.6);
  const isLateOut = !isLateIn || random.chance(0.5);
  const delayMs = random.unit() * 700;
  for (const other of nemesis.others(node)) {
    for (const [from, to, isLate] of [
      [other, node, isLateIn],
      [node, other, isLateOut],
    ] as const) {
      if (!isLate) continue;
      if (layers.control) world.network.slowLink(from.name, to.name, delayMs);
      if (layers.data) world.pair(from.name, to.name).slow(from.name, delayMs);
    }
  }
};

const breakConnections: Move = (nemesis) => {
  nemesis.counts.brokenConnections++;
  for (const pair of nemesis.world.everyPair) if (nemesis.random.chance(0.7)) pair.break();
};

const badNetwork: Move = (nemesis) => {
  nemesis.counts.badNetworks++;
  const { random, world } = nemesis;
  const sometimes = (atMost: number) => (random.chance(0.5) ? random.unit() * atMost : 0);
  world.network.conditions = {
    loss: sometimes(0.2),
    duplication: sometimes(0.3),
    straggling: sometimes(0.1),
    delayMs: random.chance(0.2) ? 40 : world.setting.networkMs,
  };
};

/** Messages of one kind come late, or not, or come again much later. */
const troubleMessages: Move = (nemesis) => {
  const { random, world } = nemesis;
  nemesis.counts.troubledMessages++;
  const kind = nemesis.oneOf(FRAME_KINDS);
  const does = nemesis.oneOf(['delay', 'delay', 'lose', 'echo'] as const);
  world.network.troubles.set(kind, { does, chance: 0.2 + 0.8 * random.unit(), delayMs: random.chance(0.5) ? 400 : 2_000 });
  nemesis.later(500 + random.unit() * 3_000, () => world.network.troubles.delete(kind));
};

const slowStore: Move = (nemesis) => {
  const { random } = nemesis;
  nemesis.counts.slowStores++;
  const { storeConditions } = nemesis.target();
  storeConditions.slowChance = nemesis.oneOf([0.02, 0.1, 0.5]);
  storeConditions.slowMs = nemesis.oneOf([100, 1_500, 4_000]);
  nemesis.later(500 + random.unit() * 3_000, () => {
    storeConditions.slowChance = 0;
  });
};

const storeErrors: Move = (nemesis) => {
  const { random, world } = nemesis;
  nemesis.counts.storeErrors++;
  world.storeFailed = true;
  Object.assign(world.storeFaults, {
    noSpace: nemesis.oneOf([0, 0.02, 0.2]),
    ioError: nemesis.oneOf([0, 0, 0.01]),
    syncError: nemesis.oneOf([0, 0, 0.1]),
  });
  for (const node of world.nodes) node.applyStoreFaults();
  nemesis.later(200 + random.unit() * 1_500, () => {
    Object.assign(world.storeFaults, { noSpace: 0, ioError: 0, syncError: 0 });
    for (const node of world.nodes) node.applyStoreFaults();
  });
};

/** The node's log takes long to write for a while: it knows late what was decided. */
const slowLog: Move = (nemesis) => {
  nemesis.counts.slowLogs++;
  const { disk } = nemesis.target();
  disk.conditions.writeMs = 50 + nemesis.random.unit() * 500;
  nemesis.later(300 + nemesis.random.unit() * 2_000, () => {
    disk.conditions.writeMs = nemesis.world.setting.logDiskMs;
  });
};

const changeLeader: Move = (nemesis) => {
  const { leader } = nemesis.world;
  if (leader === null) return;
  nemesis.counts.leaderChanges++;
  leader.control?.raft.transferLeadership(nemesis.pick().name);
};

const migrate: Move = (nemesis) => {
  nemesis.counts.migrations++;
  const to = nemesis.pick().name;
  nemesis.ask(
    nemesis.pick(),
    (control) => control.migrate(to),
    () => {
      nemesis.world.handovers++;
    },
  );
};

const drain: Move = (nemesis) => {
  nemesis.counts.drains++;
  const node = nemesis.target();
  const targets = nemesis.others(node).filter(({ data }) => data?.serving);
  nemesis.ask(node, (control) => control.drain(nemesis.random.chance(0.8) ? targets.map(({ name }) => name) : []));
};

const snapshot: Move = (nemesis) => {
  const { snapshots } = nemesis.world;
  nemesis.counts.snapshots++;
  nemesis.ask(nemesis.pick(), (control) => snapshots.take(control));
  // Soon, while something may still be under way to it.
  for (const laterMs of [100, 800]) {
    nemesis.later(laterMs * nemesis.random.unit() * 2, () => {
      // The process may die before it answers, or not know of the snapshot yet.
      snapshots.look(nemesis.pick()).catch(() => undefined);
    });
  }
};

const openOrClose: Move = (nemesis) => {
  nemesis.counts.opens++;
  const { random, world } = nemesis;
  world.holdsUsed = true;
  const lot = random.below(4);
  nemesis.ask(nemesis.target(), (control) => (lot < 2 ? control.close() : control.open(lot === 2)));
};

const lock: Move = (nemesis) => {
  nemesis.counts.locks++;
  nemesis.world.holdsUsed = true;
  const node = nemesis.target();
  nemesis.ask(node, (control) => control.lock());
  // An administrator elsewhere wants it, or this one is done with it.
  nemesis.later(200 + nemesis.random.unit() * 3_000, () => {
    const isForced = nemesis.random.chance(0.7);
    if (isForced) nemesis.counts.brokenLocks++;
    nemesis.ask(isForced ? nemesis.pick() : node, (control) => control.unlock(isForced));
  });
};

const moveGuest: Move = (nemesis) => {
  nemesis.counts.guestMoves++;
  nemesis.oneOf(nemesis.world.guests).move(nemesis.pick());
};

/** In worlds of many sorts of trouble, each may be there or not. */
const ANYTHING: readonly Move[] = [
  crash,
  crashLeader,
  killData,
  losePower,
  pauseNode,
  pauseData,
  pauseControl,
  partition,
  isolate,
  oneWay,
  bridge,
  lag,
  breakConnections,
  badNetwork,
  troubleMessages,
  slowStore,
  slowLog,
  changeLeader,
  migrate,
  drain,
  snapshot,
  openOrClose,
  lock,
  moveGuest,
];

const THEMES: readonly (readonly (readonly [Move, number])[])[] = [
  // Owners that are paused, and others that take over.
  [
    [pauseNode, 4],
    [pauseData, 2],
    [slowStore, 3],
    [snapshot, 1],
  ],
  // Leases that are cut off.
  [
    [isolate, 3],
    [oneWay, 2],
    [lag, 1],
    [troubleMessages, 2],
    [heal, 4],
  ],
  // Leaders that come and go.
  [
    [crashLeader, 2],
    [changeLeader, 3],
    [isolate, 1],
    [pauseControl, 2],
    [heal, 2],
  ],
  // Handovers, of what is slow.
  [
    [migrate, 6],
    [drain, 1],
    [slowStore, 2],
    [slowLog, 1],
    [breakConnections, 1],
    [pauseNode, 1],
  ],
  // The power.
  [
    [losePower, 2],
    [migrate, 3],
    [killData, 2],
    [pauseNode, 1],
    [snapshot, 1],
  ],
  // Daemons that die under living guests.
  [
    [killData, 4],
    [crash, 1],
    [slowStore, 2],
    [moveGuest, 2],
  ],
  // Locks that are broken.
  [
    [lock, 4],
    [openOrClose, 2],
    [slowStore, 2],
    [slowLog, 2],
    [lag, 1],
    [moveGuest, 2],
    [heal, 1],
  ],
];

export function drawMoves(random: Prng, { storeErrors: fails }: Setting): readonly WeightedMove[] {
  const moves = new Map(THEMES[random.below(THEMES.length + 4)] ?? []);
  if (moves.size === 0) {
    let sum = 0;
    for (const move of ANYTHING) {
      if (!random.chance(0.4)) continue;
      const weight = 1 + random.below(3);
      moves.set(move, weight);
      sum += weight;
    }
    moves.set(heal, 1 + Math.floor(sum / 4));
  }
  if (fails) moves.set(storeErrors, 1);
  return [...moves].map(([move, weight]) => ({ move, weight }));
}
