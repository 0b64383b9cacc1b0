/** Ends of ownerships that the owner did not ask for, or that leave its store as it is: the next owner has to fence. */
import type { LivenessEpoch } from '../../base/index.ts';
import type { StoredVolume } from './codec.ts';
import { ownedVolume, refusal, staleEpoch } from './lookup.ts';
import { quote } from './names.ts';
import type { OwnershipCommand } from './ownership-types.ts';
import type { State } from './state.ts';
import type { NodeRecord, VolumeRecord } from './types.ts';

type CommandOf<Type extends OwnershipCommand['type']> = Extract<OwnershipCommand, { type: Type }>;

/** Without an owner, and not clean. */
export function voided(record: VolumeRecord): StoredVolume {
  return { record: { ...record, owner: null, revoked: false }, acquired: null };
}

export function expireNode(state: State, command: CommandOf<'expireNode'>, term: number): NodeRecord {
  checkTerm(command.term, term);
  const node = nodeOf(state, command.node, command.livenessEpoch);
  if (!node.alive) return node;
  for (const id of state.heldBy(node.name)) {
    const volume = state.volume(id);
    // What it imports stays its own: only its processes can go on with that, and their next start removes it.
    if (volume?.record.owner?.node === node.name) state.putVolume(voided(volume.record));
  }
  return state.putNode({ ...node, alive: false });
}

export function reviveNode(state: State, command: CommandOf<'reviveNode'>): NodeRecord {
  const node = nodeOf(state, command.node, command.livenessEpoch);
  if (node.alive) throw refusal('conflict', `node ${quote(node.name)} has not expired`);
  return state.putNode({ ...node, livenessEpoch: (node.livenessEpoch + 1) as LivenessEpoch, alive: true });
}

export function releaseUnclean(state: State, command: CommandOf<'releaseUnclean'>): VolumeRecord {
  return state.putVolume(voided(ownedVolume(state, command.id, command.epoch).record));
}

export function grant(state: State, command: CommandOf<'grant'>, term: number): VolumeRecord {
  checkTerm(command.term, term);
  const { record } = ownedVolume(state, command.id, command.epoch);
  if (!record.revoked) throw staleEpoch(record, command.epoch);
  return state.putVolume(voided(record));
}

/** A leader that was deposed has its proposals carried on by its successor, whose leases it knows nothing of. */
function checkTerm(named: number, term: number): void {
  if (named !== term) throw refusal('stale-epoch', `a leader of term ${named} has waited for leases to end, and this is term ${term}`);
}

function nodeOf(state: State, name: string, livenessEpoch: LivenessEpoch): NodeRecord {
  const node = state.node(name);
  if (node === undefined) throw refusal('not-found', `there is no node ${quote(name)}`);
  if (node.livenessEpoch === livenessEpoch) return node;
  throw refusal('stale-epoch', `node ${quote(name)} has liveness epoch ${node.livenessEpoch}, not ${livenessEpoch}`);
}
