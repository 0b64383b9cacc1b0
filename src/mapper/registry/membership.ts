/** What the commands about members do. Raft's configuration follows what they leave behind; see `src/node/membership`. */
import { ArchipelagoError, type ErrorCode, type LivenessEpoch } from '../../base/index.ts';
import { voided } from './leases.ts';
import type { Invitation, MembershipCommand, RemovedNode } from './membership-types.ts';
import { checkAddresses, checkNodeName, checkPeerId, checkProgramVersion, quote } from './names.ts';
import type { State } from './state.ts';
import type { NodeRecord } from './types.ts';

type CommandOf<Type extends MembershipCommand['type']> = Extract<MembershipCommand, { type: Type }>;

/** Open ones at a time. Each lets strangers as far as the join protocol. */
const MAX_INVITATIONS = 32;
/** With voters and learners; a leader sends the log to each. */
const MAX_NODES = 64;
const HEX_256 = /^[0-9a-f]{64}$/;
const INVITATION_ID = /^[A-Za-z0-9_-]{1,64}$/;
const NEVER_STARTED = 0 as LivenessEpoch;

export function invite(state: State, { invitation, nowMs }: CommandOf<'invite'>): Invitation {
  const { id, secretHash, expiresAtMs } = invitation;
  if (!INVITATION_ID.test(id)) throw refusal('invalid-argument', `${quote(id)} is not the id of an invitation`);
  checkHash(secretHash);
  if (expiresAtMs <= nowMs) throw refusal('invalid-argument', 'the invitation would have expired already', 'give it a time to live');
  // Deterministic, because the time is the command's. What has expired is of no use to anyone.
  const open = state.allInvitations().filter((each) => each.expiresAtMs > nowMs);
  const known = state.invitation(id);
  if (known !== undefined && known.secretHash !== secretHash) throw refusal('exists', `there is an invitation ${quote(id)} already`);
  if (open.length >= MAX_INVITATIONS) {
    throw refusal('conflict', `${open.length} invitations are open, and no more are allowed`, 'use them, or wait until some have expired');
  }
  for (const each of state.allInvitations()) if (each.expiresAtMs <= nowMs) state.removeInvitation(each.id);
  return state.putInvitation(invitation);
}

export function redeem(state: State, command: CommandOf<'redeem'>): NodeRecord {
  const { name, peerId, controlAddresses, dataAddresses, version } = command;
  checkNodeName(name);
  checkPeerId(peerId);
  checkAddresses(controlAddresses);
  checkAddresses(dataAddresses);
  checkProgramVersion(version);
  checkHash(command.secretHash);
  const known = state.node(name);
  const node = { name, peerId, controlAddresses, dataAddresses, livenessEpoch: NEVER_STARTED, alive: false, version };
  // The answer to the first time was lost, and the invitation went with it. Its addresses may have changed since.
  if (known?.peerId === peerId && known.livenessEpoch === NEVER_STARTED) return state.putNode(node);
  checkIdentityIsNew(state, name, peerId);
  const found = state.invitation(command.invitationId);
  if (found === undefined || found.secretHash !== command.secretHash) {
    throw refusal('forbidden', 'there is no such invitation: it was used, or has expired', 'make another one with `archipelago cluster invite`');
  }
  if (found.expiresAtMs <= command.nowMs) {
    throw refusal('forbidden', 'the invitation has expired', 'make another one with `archipelago cluster invite`');
  }
  if (state.allNodes().length >= MAX_NODES) throw refusal('conflict', `a cluster has at most ${MAX_NODES} nodes`, 'remove one first');
  state.removeInvitation(found.id);
  return state.putNode(node);
}

export function removeNode(state: State, command: CommandOf<'removeNode'>): RemovedNode {
  const { name, force } = command;
  checkNodeName(name);
  checkPeerId(command.peerId);
  checkAddresses(command.controlAddresses);
  const removed = state.removedNode(name);
  if (removed !== undefined) return removed;
  const record = state.node(name);
  if (record !== undefined && state.allNodes().length === 1) {
    throw refusal('conflict', `node ${quote(name)} is the last one`, '`archipelago down` stops it');
  }
  const held = state.heldBy(name).length;
  // Also where the node was drained a moment ago: it may have become the owner of another volume since.
  if (held > 0 && !force) throw refusal('in-use', `node ${quote(name)} holds ${held} volume${held === 1 ? '' : 's'}`, 'drain it first');
  // Until it has expired it may answer its clients, so nobody may take its volumes over.
  if (held > 0 && record?.alive) {
    throw refusal(
      'in-use',
      `node ${quote(name)} holds ${held} volume${held === 1 ? '' : 's'}, and its lease is not over`,
      'wait until it has expired',
    );
  }
  voidHoldings(state, name);
  const { peerId, controlAddresses } = record ?? command;
  return state.removeNode({ name, peerId, controlAddresses });
}

/** A name, and the identity behind it, are members at most once in the life of a cluster. */
export function checkIdentityIsNew(state: State, name: string, peerId: string): void {
  if (state.node(name) !== undefined) throw refusal('exists', `there is a node ${quote(name)} already`, 'choose another name');
  if (state.removedNode(name) !== undefined) {
    throw refusal(
      'removed',
      `node ${quote(name)} was removed from the cluster, and its name is not used again`,
      'let it join as a new node, under another name and with an empty directory',
    );
  }
  const former = state.removedNodes().find((each) => each.peerId === peerId);
  if (former !== undefined) {
    const hint = 'join with an empty directory, which gets an identity of its own';
    throw refusal('removed', `the identity ${peerId} belonged to node ${quote(former.name)}, which was removed`, hint);
  }
  const other = state.allNodes().find((each) => each.peerId === peerId);
  if (other === undefined) return;
  throw refusal('exists', `the identity ${peerId} belongs to node ${quote(other.name)}`, 'join with an empty directory');
}

/** What the node owned has no owner any more, and is not clean; what it imported is gone. */
export function voidHoldings(state: State, name: string): void {
  for (const id of state.heldBy(name)) {
    const volume = state.volume(id);
    if (volume === undefined) continue;
    if (volume.record.importer === name) state.removeVolume(id);
    else state.putVolume(voided(volume.record));
  }
}

function checkHash(hash: string): void {
  if (!HEX_256.test(hash)) throw refusal('invalid-argument', 'the hash of an invitation has 64 hexadecimal digits');
}

function refusal(code: ErrorCode, message: string, hint?: string): ArchipelagoError {
  return new ArchipelagoError(code, message, hint === undefined ? {} : { hint });
}
