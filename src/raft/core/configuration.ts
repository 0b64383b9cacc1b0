/**
 * Who the members are and how that changes. A configuration counts from the moment its entry is in the log (thesis 4.1), and is taken
 * back if that entry is. A change of at most one voter is one step; any other goes through a joint configuration (4.3), in which both
 * the old and the new majority must agree.
 */
import { ArchipelagoError, assert } from '../../base/index.ts';
import type { Configuration, NodeId } from './types.ts';

/** The members as an operator wants them. */
export interface Members {
  readonly voters: readonly NodeId[];
  readonly learners: readonly NodeId[];
}

export function configurationOf(voters: readonly NodeId[], learners: readonly NodeId[] = []): Configuration {
  return { voters: sortedUnique(voters), outgoing: [], learners: sortedUnique(learners), learnersNext: [] };
}

export function isJoint(configuration: Configuration): boolean {
  return configuration.outgoing.length > 0;
}

export function isVoter(configuration: Configuration, id: NodeId): boolean {
  return configuration.voters.includes(id) || configuration.outgoing.includes(id);
}

/** Everyone whom a leader sends entries to, sorted; itself included if it is one. */
export function membersOf(configuration: Configuration): NodeId[] {
  return sortedUnique([...configuration.voters, ...configuration.outgoing, ...configuration.learners, ...configuration.learnersNext]);
}

/** The configuration to append in order to get from `current` to `wanted`: the final one, or a joint one on the way. */
export function changeTo(current: Configuration, wanted: Members): Configuration {
  assert(!isJoint(current), 'a membership change starts from a plain configuration');
  const target = configurationOf(wanted.voters, wanted.learners);
  if (target.voters.length === 0) throw new ArchipelagoError('invalid-argument', 'a group needs at least one voter');
  const both = target.voters.filter((id) => target.learners.includes(id));
  if (both.length > 0) throw new ArchipelagoError('invalid-argument', `${both.join(', ')} cannot be both voter and learner`);

  const added = target.voters.filter((id) => !current.voters.includes(id));
  const removed = current.voters.filter((id) => !target.voters.includes(id));
  if (added.length + removed.length <= 1) return target;

  const demoted = target.learners.filter((id) => current.voters.includes(id));
  return {
    voters: target.voters,
    outgoing: current.voters,
    learners: target.learners.filter((id) => !demoted.includes(id)),
    learnersNext: demoted,
  };
}

/** What a joint configuration turns into. */
export function leaveJoint(joint: Configuration): Configuration {
  assert(isJoint(joint), 'only a joint configuration can be left');
  return configurationOf(joint.voters, [...joint.learners, ...joint.learnersNext]);
}

/** As the data of a log entry: JSON with a version, since it is rare and people read it when things went wrong. */
export function encodeConfiguration(configuration: Configuration): Uint8Array {
  const { voters, outgoing, learners, learnersNext } = configuration;
  return new TextEncoder().encode(JSON.stringify({ version: 1, voters, outgoing, learners, learnersNext }));
}

export function decodeConfiguration(data: Uint8Array): Configuration {
  const parsed = JSON.parse(new TextDecoder().decode(data)) as Configuration & { version: number };
  if (parsed.version !== 1) throw new ArchipelagoError('unsupported-version', `configuration entry of version ${parsed.version}`);
  const lists = [parsed.voters, parsed.outgoing, parsed.learners, parsed.learnersNext];
  assert(
    lists.every((list) => Array.isArray(list) && list.every((id) => typeof id === 'string' && id !== '')),
    'a configuration entry is four lists of names',
  );
  return { voters: parsed.voters, outgoing: parsed.outgoing, learners: parsed.learners, learnersNext: parsed.learnersNext };
}

function sortedUnique(ids: readonly NodeId[]): NodeId[] {
  return [...new Set(ids)].sort();
}
