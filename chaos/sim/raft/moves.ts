/**
 * What a nemesis can do, and how a world's share of it is drawn: some worlds see a little of everything, others one theme thick and fast, since
 * many mistakes show only when the same trouble comes again before the group has recovered.
 */
import { ArchipelagoError, type Prng } from '../../../src/base/index.ts';
import type { WriteKind } from './disk.ts';
import type { Nemesis } from './nemesis.ts';
import { lateSnapshot, lateVotes, olderTerm, rivals } from './plots.ts';

export type Move = (nemesis: Nemesis) => void;

export interface WeightedMove {
  readonly move: Move;
  readonly weight: number;
}

const FRAME_KINDS = [
  'vote',
  'voteReply',
  'voteReply',
  'preVote',
  'preVoteReply',
  'append',
  'append',
  'appendReply',
  'appendReply',
  'heartbeat',
  'heartbeatReply',
  'propose',
  'propose',
  'readIndex',
  'readIndexReply',
  'timeoutNow',
  'chunk',
  'chunkReply',
] as const;
const WRITE_KINDS: readonly WriteKind[] = ['vote', 'append', 'overwrite', 'overwrite', 'state', 'compaction', 'installation'];

const heal: Move = ({ world, isPlotting }) => {
  if (isPlotting) return;
  world.network.heal();
  if (world.network.troubles.size > 1) world.network.troubles.clear();
};

const crash: Move = (nemesis) => nemesis.crash(nemesis.pick(), nemesis.downMs());

const crashLeader: Move = (nemesis) => {
  const leader = nemesis.leader();
  if (leader !== null) nemesis.crash(leader, nemesis.downMs());
};

/** Several at once, back soon: they are asked the same questions again. */
const crashVoters: Move = (nemesis) => {
  for (const id of nemesis.world.initialVoters) if (nemesis.random.chance(0.6)) nemesis.crash(id, nemesis.random.unit() * 200);
};

const crashAll: Move = (nemesis) => {
  nemesis.counts.restartsOfAll++;
  for (const id of nemesis.world.ids) nemesis.crash(id, nemesis.downMs());
};

/** Right after a frame of some kind went out, while what it may promise is perhaps not on the disk. */
const crashAfterSending: Move = (nemesis) => {
  const kind = nemesis.oneOf(FRAME_KINDS);
  const spring = (id: string) => {
    nemesis.later(0, () => {
      nemesis.counts.crashesAfterSending++;
      nemesis.crash(id, nemesis.downMs());
    });
    return true;
  };
  nemesis.trap({ on: 'sent', kind, spring }, 3_000);
};

/** While a write of some kind is under way, or a moment after it. */
const crashAtWrite: Move = (nemesis) => {
  const { random } = nemesis;
  const on = random.chance(0.4) ? 'writes' : 'written';
  const spring = (id: string) => {
    nemesis.later(random.chance(0.5) ? 0 : random.unit() * 20, () => {
      nemesis.counts.crashesAtWrites++;
      nemesis.crash(id, nemesis.downMs());
    });
    return true;
  };
  nemesis.trap({ on, kind: nemesis.oneOf(WRITE_KINDS), spring }, 3_000);
};

const partition: Move = (nemesis) => {
  nemesis.counts.partitions++;
  nemesis.world.network.heal();
  const ids = nemesis.shuffled();
  const at = 1 + nemesis.random.below(Math.max(1, ids.length - 1));
  nemesis.cutBetween(ids.slice(0, at), ids.slice(at));
};

const isolateLeader: Move = (nemesis) => {
  const leader = nemesis.leader();
  if (leader === null) return;
  nemesis.counts.partitions++;
  nemesis.cutBetween([leader], nemesis.others(leader));
};

const isolateSomeone: Move = (nemesis) => {
  nemesis.counts.partitions++;
  const id = nemesis.pick();
  nemesis.cutBetween([id], nemesis.others(id));
};

/** Nobody hears the leader, which goes on hearing old answers for a while. */
const muteLeader: Move = (nemesis) => {
  const { world, random } = nemesis;
  const leader = nemesis.leader();
  if (leader === null) return;
  nemesis.counts.oneWayPartitions++;
  const delayMs = random.unit() * 3_500;
  const untilMs = random.unit() * 500;
  for (const id of nemesis.others(leader)) {
    world.network.slowLink(id, leader, delayMs);
    // The answers that will be late are still asked for.
    nemesis.later(untilMs, () => world.network.cutLink(leader, id));
  }
};

const oneWay: Move = (nemesis) => {
  nemesis.counts.oneWayPartitions++;
  const [deaf = '', ...others] = nemesis.shuffled();
  for (const other of others) if (nemesis.random.chance(0.7)) nemesis.world.network.cutLink(other, deaf);
};

/** Two halves that only one member sees both of. */
const bridge: Move = (nemesis) => {
  nemesis.counts.bridgePartitions++;
  nemesis.world.network.heal();
  const [, ...others] = nemesis.shuffled();
  const at = others.length >> 1;
  nemesis.cutBetween(others.slice(0, at), others.slice(at));
};

/** One member is far away for a while: it knows late, or is heard late, or both. */
const lag: Move = (nemesis) => {
  const { world, random } = nemesis;
  nemesis.counts.lags++;
  const id = nemesis.pick();
  const [inMs, outMs] = nemesis
    .oneOf([
      [1, 0],
      [0, 1],
      [1, 1],
    ] as const)
    .map((on) => on * random.unit() * 800) as [number, number];
  for (const other of nemesis.others(id)) {
    world.network.slowLink(other, id, inMs);
    world.network.slowLink(id, other, outMs);
  }
};

const pause: Move = (nemesis) => {
  nemesis.counts.pauses++;
  const id = nemesis.random.chance(0.5) ? nemesis.leader() : nemesis.pick();
  if (id !== null) nemesis.world.host(id).pause(50 + nemesis.random.unit() * 3_000);
};

const slowDisk: Move = (nemesis) => {
  nemesis.counts.slowDisks++;
  const { conditions } = nemesis.world.disk(nemesis.pick());
  conditions.slowChance = conditions.slowChance > 0 ? 0 : 0.3;
};

/** Each write takes long for a while, and perhaps the member is cut off meanwhile, so that others go on without it. */
const stuckDisk: Move = (nemesis) => {
  const { world, random } = nemesis;
  const id = random.chance(0.6) ? nemesis.leader() : nemesis.pick();
  if (id === null) return;
  nemesis.counts.stuckDisks++;
  const { conditions } = world.disk(id);
  conditions.writeMs = 100 + random.unit() * 1_000;
  nemesis.later(300 + random.unit() * 2_000, () => {
    conditions.writeMs = world.setting.diskMs;
  });
  if (random.chance(0.4)) nemesis.cutBetween([id], nemesis.others(id));
};

const failingDisk: Move = (nemesis) => {
  nemesis.counts.failingDisks++;
  const { conditions } = nemesis.world.disk(nemesis.pick());
  conditions.errorChance = conditions.errorChance > 0 ? 0 : 0.02;
};

const badReads: Move = (nemesis) => {
  nemesis.counts.badReads++;
  const { conditions } = nemesis.world.disk(nemesis.pick());
  conditions.readErrorChance = conditions.readErrorChance > 0 ? 0 : 0.2;
};

const badNetwork: Move = (nemesis) => {
  nemesis.counts.badNetworks++;
  const { random, world } = nemesis;
  const sometimes = (atMost: number) => (random.chance(0.5) ? random.unit() * atMost : 0);
  world.network.conditions = {
    loss: sometimes(0.2),
    duplication: sometimes(0.3),
    straggling: sometimes(0.3),
    delayMs: random.chance(0.2) ? 40 : world.setting.networkMs,
  };
};

/** Messages of one kind come late, or not, or come again much later. */
const troubleMessages: Move = (nemesis) => {
  const { random, world } = nemesis;
  nemesis.counts.troubledMessages++;
  const kind = nemesis.oneOf(FRAME_KINDS);
  const does = nemesis.oneOf(['delay', 'delay', 'lose', 'echo', 'echo'] as const);
  world.network.troubles.set(kind, { does, chance: 0.2 + 0.8 * random.unit(), delayMs: random.chance(0.5) ? 300 : 3_000 });
  nemesis.later(500 + random.unit() * 3_000, () => world.network.troubles.delete(kind));
};

/** Whoever comes to lead next is lost to the others a moment later, and the one after that, and so on. */
const ambush: Move = (nemesis) => {
  const { world, random } = nemesis;
  let rounds = 1 + random.below(5);
  const reachMs = random.unit() * (4 * world.setting.networkMs + 4 * world.setting.diskMs);
  const spring = (id: string) => {
    nemesis.later(random.unit() * reachMs, () => {
      nemesis.counts.ambushes++;
      if (random.chance(0.7)) world.network.heal();
      if (random.chance(0.3)) nemesis.crash(id, nemesis.downMs());
      else nemesis.cutBetween([id], nemesis.others(id));
    });
    return --rounds === 0;
  };
  nemesis.trap({ on: 'leads', kind: null, spring }, 8_000);
};

const transfer: Move = (nemesis) => {
  const leader = nemesis.leader();
  if (leader === null) return;
  nemesis.counts.transfers++;
  nemesis.world.member(leader)?.node.transferLeadership(nemesis.pick());
};

const changeMembers: Move = (nemesis) => {
  const { world, random } = nemesis;
  const { initialVoters } = world;
  const ids = nemesis.shuffled();
  const voters = ids.slice(0, random.chance(0.7) ? initialVoters.length : 1 + random.below(ids.length));
  const learners = ids.filter((id) => !voters.includes(id) && random.chance(0.5));
  // Every member that believes to lead is asked, as an operator might who does not know better.
  for (const id of world.ids) {
    const node = world.member(id)?.node;
    if (node?.status().role !== 'leader') continue;
    try {
      node.changeMembers({ voters, learners });
      nemesis.counts.membershipChanges++;
    } catch (error) {
      // Refused, which is the leader's right.
      if (!(error instanceof ArchipelagoError)) throw error;
    }
  }
};

/** The leader is lost in the middle of a change of members. */
const changeAndLose: Move = (nemesis) => {
  changeMembers(nemesis);
  nemesis.later(nemesis.random.unit() * 100, () => (nemesis.random.chance(0.5) ? crashLeader : isolateLeader)(nemesis));
};

/** A new leader is asked at once. */
const changeAtElection: Move = (nemesis) => {
  nemesis.trap(
    {
      on: 'leads',
      kind: null,
      spring: () => {
        changeMembers(nemesis);
        return true;
      },
    },
    5_000,
  );
};

const weighted = (weights: ReadonlyMap<Move, number>): WeightedMove[] => [...weights].map(([move, weight]) => ({ move, weight }));

/** In worlds of many sorts of trouble, each may be there or not. */
const ANYTHING: readonly Move[] = [
  crash,
  crashLeader,
  crashVoters,
  crashAll,
  crashAfterSending,
  crashAtWrite,
  partition,
  isolateLeader,
  isolateSomeone,
  muteLeader,
  oneWay,
  bridge,
  lag,
  pause,
  slowDisk,
  stuckDisk,
  failingDisk,
  badReads,
  badNetwork,
  troubleMessages,
  ambush,
  rivals,
  lateVotes,
  lateSnapshot,
  olderTerm,
  transfer,
  changeMembers,
  changeAndLose,
  changeAtElection,
];

const THEMES: readonly (readonly (readonly [Move, number])[])[] = [
  // Elections of every sort.
  [
    [rivals, 4],
    [lateVotes, 3],
    [crashVoters, 1],
    [crashLeader, 1],
    [isolateLeader, 1],
    [oneWay, 1],
    [troubleMessages, 2],
    [heal, 3],
  ],
  // One leader after the other.
  [
    [ambush, 4],
    [crashLeader, 1],
    [isolateLeader, 1],
    [heal, 3],
  ],
  // Leaders that do not know that they no longer lead.
  [
    [isolateLeader, 1],
    [muteLeader, 2],
    [bridge, 1],
    [pause, 1],
    [heal, 3],
  ],
  // Followers that are behind.
  [
    [crash, 1],
    [crashAtWrite, 2],
    [isolateLeader, 2],
    [isolateSomeone, 2],
    [lag, 2],
    [lateSnapshot, 2],
    [troubleMessages, 3],
    [heal, 4],
  ],
  // Snapshots that come late.
  [
    [lateSnapshot, 3],
    [heal, 1],
  ],
  // Entries of older terms.
  [[olderTerm, 1]],
  // Far members.
  [
    [lag, 4],
    [troubleMessages, 1],
    [heal, 1],
  ],
  // Members that come and go.
  [
    [changeMembers, 3],
    [changeAndLose, 2],
    [changeAtElection, 2],
    [crash, 2],
    [crashAtWrite, 1],
    [isolateLeader, 1],
    [transfer, 1],
    [heal, 3],
  ],
  // Disks.
  [
    [crashAtWrite, 4],
    [crashAfterSending, 2],
    [stuckDisk, 2],
    [slowDisk, 1],
    [failingDisk, 1],
    [badReads, 1],
    [isolateLeader, 2],
    [heal, 3],
  ],
];

export function drawMoves(random: Prng): readonly WeightedMove[] {
  const theme = random.below(THEMES.length + 3);
  const moves = new Map(THEMES[theme] ?? []);
  if (moves.size > 0) return weighted(moves);
  let sum = 0;
  for (const move of ANYTHING) {
    if (!random.chance(0.4)) continue;
    const weight = 1 + random.below(3);
    moves.set(move, weight);
    sum += weight;
  }
  return weighted(moves.set(heal, 1 + Math.floor(sum / 4)));
}
