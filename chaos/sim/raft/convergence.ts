/** All faults are over: everyone must agree soon, and each voter's proposal and read must be answered. */
import type { RaftNode } from '../../../src/raft/index.ts';
import { Stuck } from '../scenario.ts';
import { encodeWrite } from './registers.ts';
import type { Member, World } from './world.ts';

const CONVERGENCE_MS = 30_000;
/** Those of the last proposals, which no client has used. */
const LAST_OPERATIONS = 1_000_000;
const LAST_REGISTER = 100;

/** Throws `Stuck`, or what goes wrong on the way. */
export async function converge(world: World): Promise<void> {
  await agreement(world);
  const answers: Promise<unknown>[] = [];
  for (const id of leaderOf(world)?.status().voters ?? []) {
    const { node } = world.member(id) as Member;
    const command = encodeWrite(LAST_OPERATIONS + answers.length, LAST_REGISTER);
    answers.push(node.propose(command, { timeoutMs: CONVERGENCE_MS }), node.readBarrier());
  }
  let outcome = 'pending' as Error | 'pending' | 'all';
  Promise.all(answers).then(
    () => {
      outcome = 'all';
    },
    (error: unknown) => {
      outcome = new Stuck(`a proposal or read after healing fails: ${String(error)}; ${describe(world)}`);
    },
  );
  const lastMs = world.scheduler.nowMs + CONVERGENCE_MS;
  while (outcome === 'pending' && world.scheduler.nowMs < lastMs) await world.pass(50);
  if (outcome !== 'all') throw outcome === 'pending' ? new Stuck(`proposals after healing get no answer: ${describe(world)}`) : outcome;
  await agreement(world);
}

async function agreement(world: World): Promise<void> {
  const endMs = world.scheduler.nowMs + CONVERGENCE_MS;
  while (!hasConverged(world)) {
    if (world.scheduler.nowMs >= endMs) throw new Stuck(`no agreement ${CONVERGENCE_MS} ms after healing: ${describe(world)}`);
    await world.pass(100);
  }
}

function leaderOf(world: World): RaftNode | null {
  let leader: RaftNode | null = null;
  let term = -1;
  for (const id of world.ids) {
    const node = world.member(id)?.node;
    const status = node?.status();
    if (node === undefined || status?.role !== 'leader' || status.term <= term) continue;
    leader = node;
    term = status.term;
  }
  return leader;
}

function hasConverged(world: World): boolean {
  const leader = leaderOf(world);
  if (leader === null) return false;
  const { term, leader: id, commitIndex, voters, learners } = leader.status();
  const { membershipSettled, lastIndex } = leader.coreStatus();
  if (!membershipSettled || lastIndex !== commitIndex) return false;
  return [...voters, ...learners].every((member) => {
    const status = world.member(member)?.node.status();
    return status?.term === term && status.leader === id && status.appliedIndex === commitIndex;
  });
}

function describe(world: World): string {
  return world.ids
    .map((id) => {
      const status = world.member(id)?.node.status();
      return status === undefined
        ? `${id} down`
        : `${id} ${status.role} t${status.term} →${status.leader} c${status.commitIndex} a${status.appliedIndex}`;
    })
    .join('; ');
}
