/** Which nodes have a volume open, and what that keeps others from. */
import type { LivenessEpoch } from '../../base/index.ts';
import type { StoredVolume } from './codec.ts';
import { changeable, liveNode, refusal, update } from './lookup.ts';
import { quote } from './names.ts';
import type { Hold, OwnershipCommand } from './ownership-types.ts';
import type { State } from './state.ts';
import type { VolumeRecord } from './types.ts';

type CommandOf<Type extends OwnershipCommand['type']> = Extract<OwnershipCommand, { type: Type }>;

export function open(state: State, command: CommandOf<'open'>): VolumeRecord {
  const { node, livenessEpoch, shared } = command;
  const volume = changeable(state, command.id);
  liveNode(state, node, livenessEpoch);
  checkLock(volume.record, node);
  const { hold } = volume.record;
  if (hold?.mode === 'locked') {
    if (shared) throw refusal('in-use', `volume ${quote(volume.record.name)} is locked by this node`, 'unlock it first');
    return volume.record;
  }
  const others = livingOthers(state, volume, node);
  if (others.length > 0 && (!shared || hold?.mode === 'exclusive')) throw isOpen(volume.record, others);
  return held(state, volume, { mode: shared ? 'shared' : 'exclusive', holders: [...others, { node, livenessEpoch }] });
}

export function close(state: State, command: CommandOf<'close'>): VolumeRecord {
  const { node } = command;
  const volume = changeable(state, command.id);
  const { name, hold } = volume.record;
  if (!isHolder(hold, node)) throw refusal('conflict', `volume ${quote(name)} is not open at node ${quote(node)}`, 'there is nothing to close');
  if (hold?.mode === 'locked') throw refusal('in-use', `volume ${quote(name)} is locked by this node`, 'unlock it, which closes it as well');
  return withoutHolder(state, volume, node);
}

export function lock(state: State, command: CommandOf<'lock'>): VolumeRecord {
  const { node, livenessEpoch } = command;
  const volume = changeable(state, command.id);
  liveNode(state, node, livenessEpoch);
  checkLock(volume.record, node);
  const others = livingOthers(state, volume, node);
  if (others.length > 0) throw isOpen(volume.record, others);
  return held(state, volume, { mode: 'locked', holders: [{ node, livenessEpoch }] });
}

export function unlock(state: State, command: CommandOf<'unlock'>): VolumeRecord {
  const volume = changeable(state, command.id);
  const { name, hold } = volume.record;
  if (hold?.mode !== 'locked') throw refusal('conflict', `volume ${quote(name)} is not locked`, 'there is nothing to unlock');
  checkLock(volume.record, command.node);
  return withoutHolder(state, volume, command.node);
}

export function revoke(state: State, command: CommandOf<'revoke'>): VolumeRecord {
  const { holder } = command;
  const volume = changeable(state, command.id);
  const { name, hold, owner, fenced, revoked } = volume.record;
  if (hold === null || hold.mode === 'shared' || !isHolder(hold, holder)) {
    throw refusal('conflict', `volume ${quote(name)} is not locked by node ${quote(holder)} any more`, 'look it up again');
  }
  const now = [...new Set([...fenced, holder])].sort();
  // An owner that was to give the volume up still is: it answers nobody any more, whoever has locked the volume since.
  return update(state, volume, { hold: null, fenced: now, revoked: revoked || owner?.node === holder });
}

/** Nobody but the holder of a lock becomes the owner, or takes its lock away. */
export function checkLock({ name, hold }: VolumeRecord, node: string): void {
  if (hold?.mode !== 'locked' || isHolder(hold, node)) return;
  const hint = 'unlock it there; with --force the lock is broken, and that node can change the volume no longer';
  throw refusal('in-use', `volume ${quote(name)} is locked by node ${quote(hold.holders[0]?.node ?? '')}`, hint);
}

function isHolder(hold: Hold | null, node: string): boolean {
  return hold?.holders.some((holder) => holder.node === node) ?? false;
}

/** Other nodes that have the volume open, and have neither died nor expired since. */
function livingOthers(state: State, { record }: StoredVolume, node: string): Hold['holders'] {
  const others = record.hold?.holders.filter((holder) => holder.node !== node) ?? [];
  return others.filter((holder) => isCurrent(state, holder.node, holder.livenessEpoch));
}

function isCurrent(state: State, name: string, livenessEpoch: LivenessEpoch): boolean {
  const node = state.node(name);
  return node?.alive === true && node.livenessEpoch === livenessEpoch;
}

function held(state: State, volume: StoredVolume, { mode, holders }: Hold): VolumeRecord {
  const inOrder = holders.toSorted((a, b) => (a.node < b.node ? -1 : 1));
  const names = new Set(inOrder.map(({ node }) => node));
  return update(state, volume, { hold: { mode, holders: inOrder }, fenced: volume.record.fenced.filter((node) => !names.has(node)) });
}

function withoutHolder(state: State, volume: StoredVolume, node: string): VolumeRecord {
  const { hold } = volume.record;
  const left = hold?.holders.filter((holder) => holder.node !== node) ?? [];
  return update(state, volume, { hold: hold === null || left.length === 0 ? null : { ...hold, holders: left } });
}

function isOpen({ name, hold }: VolumeRecord, others: Hold['holders']) {
  const how = hold?.mode === 'exclusive' ? 'exclusively ' : '';
  const nodes = others.map(({ node }) => quote(node)).join(', ');
  return refusal('in-use', `volume ${quote(name)} is open ${how}at node ${nodes}`, 'close it there first');
}
