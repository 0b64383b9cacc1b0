/** Majorities, of one group of voters or of two at once while a joint change goes on. */
import type { Configuration, NodeId } from './types.ts';

type Voters = Pick<Configuration, 'voters' | 'outgoing'>;

export type VoteOutcome = 'won' | 'lost' | 'pending';

/** The highest value that a quorum has reached, where `reached` tells what each voter has. 0 without voters. */
export function quorumValue(configuration: Voters, reached: (id: NodeId) => number): number {
  const value = majorityValue(configuration.voters, reached);
  return configuration.outgoing.length === 0 ? value : Math.min(value, majorityValue(configuration.outgoing, reached));
}

/** Whether a vote is decided; `votes` has an entry for each voter that has answered. */
export function voteOutcome(configuration: Voters, votes: ReadonlyMap<NodeId, boolean>): VoteOutcome {
  const outcome = majorityOutcome(configuration.voters, votes);
  if (configuration.outgoing.length === 0) return outcome;
  const other = majorityOutcome(configuration.outgoing, votes);
  if (outcome === 'lost' || other === 'lost') return 'lost';
  return outcome === 'won' && other === 'won' ? 'won' : 'pending';
}

function majorityValue(voters: readonly NodeId[], reached: (id: NodeId) => number): number {
  // Sorted from the highest down, by insertion: voters are few, and this is asked with every reply.
  const values: number[] = [];
  for (const id of voters) {
    const value = reached(id);
    let at = values.push(value) - 1;
    for (; at > 0 && (values[at - 1] as number) < value; at--) values[at] = values[at - 1] as number;
    values[at] = value;
  }
  return values[voters.length >> 1] ?? 0;
}

function majorityOutcome(voters: readonly NodeId[], votes: ReadonlyMap<NodeId, boolean>): VoteOutcome {
  const needed = Math.floor(voters.length / 2) + 1;
  let granted = 0;
  let refused = 0;
  for (const id of voters) {
    const vote = votes.get(id);
    if (vote === true) granted++;
    else if (vote === false) refused++;
  }
  if (granted >= needed) return 'won';
  return voters.length - refused < needed ? 'lost' : 'pending';
}
