/**
 * Who should vote: the registry says who the members are, and Raft's configuration follows it, one step after another. A step depends on
 * nothing but what is true now, so a new leader goes on wherever the one before it stopped.
 */
import type { Members } from '../../raft/index.ts';

/** An even number of voters survives no more failures than the odd one below it, and more than seven only cost time. */
const VOTER_COUNTS = [7, 5, 3, 1];

export interface MemberView {
  readonly name: string;
  /** The leader can reach it. */
  readonly up: boolean;
  /** It has been started, and has nearly all of the log: as a voter it would hold nothing up. */
  readonly ready: boolean;
}

export interface MembershipView {
  /** The leader's own name. */
  readonly self: string;
  /** Who ought to be a member. */
  readonly members: readonly MemberView[];
  /** Raft's present configuration, in which no change goes on. */
  readonly voters: readonly string[];
  readonly learners: readonly string[];
}

/**
 * The configuration to go to, or null where nothing is to be done yet. Voters stay voters, up or down, until somebody removes them; the
 * leader gives up its own vote only when it is removed itself.
 */
export function nextMembers(view: MembershipView): Members | null {
  const { members, voters, learners } = view;
  const eligible = inOrderOfChoice(view);
  const mustGo = voters.some((name) => members.every((member) => member.name !== name));
  for (const count of VOTER_COUNTS) {
    if (count > members.length || count > eligible.length) continue;
    const chosen = eligible.slice(0, count);
    if (hasMajorityUp(chosen)) {
      const wanted = chosen.map(({ name }) => name).sort();
      const rest = members.map(({ name }) => name).filter((name) => !wanted.includes(name));
      return isSame(wanted, voters) && isSame(rest, learners) ? null : { voters: wanted, learners: rest.sort() };
    }
    // Without a quorum the change could not be carried out. Fewer voters are taken only to let one go, or a lost link would cost votes.
    if (!mustGo) return null;
  }
  return null;
}

/** Present voters, the leader first and those that are down last; then learners that are fit to vote. */
function inOrderOfChoice({ self, members, voters }: MembershipView): MemberView[] {
  const rank = ({ name, up, ready }: MemberView): number => {
    if (voters.includes(name)) return name === self ? 0 : up ? 1 : 2;
    return up && ready ? 3 : 4;
  };
  return members.filter((member) => rank(member) < 4).sort((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1));
}

function hasMajorityUp(voters: readonly MemberView[]): boolean {
  return voters.filter(({ up }) => up).length > voters.length / 2;
}

function isSame(names: readonly string[], others: readonly string[]): boolean {
  return names.length === others.length && names.every((name) => others.includes(name));
}
