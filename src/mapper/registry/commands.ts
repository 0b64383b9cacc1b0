/**
 * What each command does to the state. A command first checks all that it names and throws a typed error, which becomes its answer; only
 * then does it change anything.
 */
import type { ArchipelagoError, Epoch, LivenessEpoch } from '../../base/index.ts';
import { beginCollection, finishCollection, pendingReservation, requestCollection, withOpen } from './collection.ts';
import { checkLock, close, lock, open, revoke, unlock } from './holds.ts';
import { expireNode, grant, releaseUnclean, reviveNode, voided } from './leases.ts';
import { changeable, liveNode, nextEpoch, ownedVolume, refusal, staleEpoch, update, volumeOf } from './lookup.ts';
import { checkIdentityIsNew, invite, redeem, removeNode, voidHoldings } from './membership.ts';
import {
  checkAddresses,
  checkBlockSize,
  checkLabels,
  checkNodeName,
  checkPeerId,
  checkProgramVersion,
  checkSize,
  checkTime,
  checkVolumeName,
  quote,
} from './names.ts';
import type { State } from './state.ts';
import type { Command, CommandValues, NodeRecord, VolumeRecord } from './types.ts';

type CommandOf<Type extends Command['type']> = Extract<Command, { type: Type }>;

/** `term` is the log entry's: that of the leader that took the command. */
type Execution<Type extends Command['type']> = (state: State, command: CommandOf<Type>, term: number) => CommandValues[Type];

export const COMMANDS: { readonly [Type in Command['type']]: Execution<Type> } = {
  startNode,
  create,
  finishImport,
  clone,
  acquire,
  handOver,
  release,
  reserveGeneration,
  cancelReservation,
  snapshot,
  resize,
  clearZeroFrom,
  rename,
  label,
  remove,
  invite,
  redeem,
  removeNode,
  requestCollection,
  beginCollection,
  finishCollection,
  expireNode,
  reviveNode,
  releaseUnclean,
  open,
  close,
  lock,
  unlock,
  revoke,
  grant,
};

const FIRST_EPOCH = 0 as Epoch;

function startNode(state: State, command: CommandOf<'startNode'>): NodeRecord {
  const { name, peerId, controlAddresses, dataAddresses, version } = command;
  checkNodeName(name);
  checkPeerId(peerId);
  checkAddresses(controlAddresses);
  checkAddresses(dataAddresses);
  checkProgramVersion(version);
  const known = state.node(name);
  if (known === undefined) checkIdentityIsNew(state, name, peerId);
  if (known !== undefined && known.peerId !== peerId) {
    throw refusal(
      'conflict',
      `node ${quote(name)} has another identity: ${known.peerId}, not ${peerId}`,
      'start it with its own identity.key, or under another name',
    );
  }
  const livenessEpoch = ((known?.livenessEpoch ?? 0) + 1) as LivenessEpoch;
  const node = state.putNode({ name, peerId, controlAddresses, dataAddresses, livenessEpoch, alive: true, version });
  voidHoldings(state, name);
  return node;
}

function create(state: State, command: CommandOf<'create'>): VolumeRecord {
  const { name, sizeBytes, blockSizeBytes, labels, importer, createdAt } = command;
  checkBlockSize(blockSizeBytes);
  checkSize(sizeBytes, blockSizeBytes);
  checkLabels(labels);
  checkTime(createdAt);
  checkFree(state, name);
  // The import's node may have restarted since: nothing would ever finish or remove the volume then.
  if (importer !== null) liveNode(state, importer.node, importer.livenessEpoch);
  return addVolume(state, {
    name,
    kind: 'volume',
    sizeBytes,
    blockSizeBytes,
    originId: null,
    root: null,
    importer: importer?.node ?? null,
    labels: sorted(labels),
    createdAt,
  });
}

function finishImport(state: State, command: CommandOf<'finishImport'>): VolumeRecord {
  const volume = volumeOf(state, command.id);
  if (volume.record.importer === null) return volume.record;
  return update(state, volume, { importer: null });
}

function clone(state: State, command: CommandOf<'clone'>): VolumeRecord {
  const { snapshotId, name, createdAt } = command;
  const { record } = volumeOf(state, snapshotId);
  if (record.kind !== 'snapshot') {
    throw refusal(
      'invalid-argument',
      `${quote(record.name)} is a volume, and only snapshots are cloned`,
      'make a snapshot of it first, and clone that',
    );
  }
  const sizeBytes = command.sizeBytes ?? record.sizeBytes;
  checkSize(sizeBytes, record.blockSizeBytes);
  if (sizeBytes < record.sizeBytes) {
    const hint = 'clone it at its own size and shrink the clone';
    throw refusal('invalid-argument', `size ${sizeBytes} is below that of snapshot ${quote(record.name)}, ${record.sizeBytes}`, hint);
  }
  checkTime(createdAt);
  checkFree(state, name);
  const { blockSizeBytes, root } = record;
  return addVolume(state, { name, kind: 'volume', sizeBytes, blockSizeBytes, originId: snapshotId, root, importer: null, labels: {}, createdAt });
}

function acquire(state: State, command: CommandOf<'acquire'>): CommandValues['acquire'] {
  const volume = changeable(state, command.id);
  const { record, acquired } = volume;
  liveNode(state, command.node, command.livenessEpoch);
  checkImporter(record, command.node);
  checkLock(record, command.node);
  // An owner got its epoch under its node's current liveness epoch, because a start and an expiry void all others. So this is the same owner.
  const again = record.owner?.node === command.node && command.epoch === record.epoch - 1;
  if (again && acquired !== null) return { record, ...acquired };
  if (record.owner !== null || command.epoch !== record.epoch) throw staleEpoch(record, command.epoch);
  const epoch = nextEpoch(record);
  const generation = state.takeGeneration();
  const answer = { generation, clean: record.clean };
  const owned = { ...record, owner: { node: command.node, epoch }, epoch, clean: false, openGenerations: withOpen(record, generation) };
  return { record: state.putVolume({ record: owned, acquired: answer }), ...answer };
}

function handOver(state: State, command: CommandOf<'handOver'>): VolumeRecord {
  const { record } = ownedVolume(state, command.id, command.epoch);
  liveNode(state, command.to, command.toLivenessEpoch);
  checkImporter(record, command.to);
  checkLock(record, command.to);
  if (record.owner?.node === command.to) throw refusal('invalid-argument', `volume ${quote(record.name)} is with node ${quote(command.to)} already`);
  const epoch = nextEpoch(record);
  return state.putVolume({ record: { ...record, owner: { node: command.to, epoch }, epoch, revoked: false }, acquired: null });
}

function release(state: State, command: CommandOf<'release'>): VolumeRecord {
  const { record } = ownedVolume(state, command.id, command.epoch);
  return state.putVolume({ record: { ...voided(record).record, clean: true, openGenerations: [] }, acquired: null });
}

function reserveGeneration(state: State, command: CommandOf<'reserveGeneration'>): CommandValues['reserveGeneration'] {
  const volume = ownedVolume(state, command.id, command.epoch);
  const generation = state.takeGeneration();
  update(state, volume, { openGenerations: withOpen(volume.record, generation), reservation: { generation, epoch: command.epoch } });
  return generation;
}

function cancelReservation(state: State, command: CommandOf<'cancelReservation'>): VolumeRecord {
  const volume = ownedVolume(state, command.id, command.epoch);
  if (pendingReservation(volume.record) !== command.generation) return volume.record;
  // What it names stays open: the cut may have been made.
  return update(state, volume, { reservation: null });
}

function snapshot(state: State, command: CommandOf<'snapshot'>): VolumeRecord {
  const { name, root, createdAt, generation } = command;
  const volume = ownedVolume(state, command.id, command.epoch);
  const { record } = volume;
  if (record.importer !== null) throw refusal('in-use', `volume ${quote(record.name)} is still being imported`, 'wait until the import has ended');
  if (record.zeroFromBytes !== null) throw beyondEnd(record);
  if (pendingReservation(record) !== generation) {
    const hint = 'take the snapshot again';
    throw refusal('conflict', `generation ${generation} is not reserved for a snapshot of volume ${quote(record.name)}`, hint);
  }
  checkTime(createdAt);
  checkFree(state, name);
  const { id, sizeBytes, blockSizeBytes } = record;
  update(state, volume, { openGenerations: [generation], reservation: null });
  return addVolume(state, { name, kind: 'snapshot', sizeBytes, blockSizeBytes, originId: id, root, importer: null, labels: {}, createdAt });
}

function resize(state: State, command: CommandOf<'resize'>): VolumeRecord {
  const { sizeBytes, shrink } = command;
  const volume = changeable(state, command.id);
  const { record } = volume;
  if (command.epoch !== record.epoch) throw staleEpoch(record, command.epoch);
  checkSize(sizeBytes, record.blockSizeBytes);
  if (sizeBytes === record.sizeBytes) return record;
  if (sizeBytes > record.sizeBytes) {
    if (record.zeroFromBytes !== null) throw beyondEnd(record);
    return update(state, volume, { sizeBytes });
  }
  if (!shrink) {
    const hint = 'shrinking drops the data beyond the new end: allow it with --shrink';
    throw refusal('conflict', `size ${sizeBytes} is below that of volume ${quote(record.name)}, ${record.sizeBytes}`, hint);
  }
  return update(state, volume, { sizeBytes, zeroFromBytes: Math.min(record.zeroFromBytes ?? sizeBytes, sizeBytes) });
}

function clearZeroFrom(state: State, command: CommandOf<'clearZeroFrom'>): VolumeRecord {
  const volume = ownedVolume(state, command.id, command.epoch);
  const { record } = volume;
  if (record.zeroFromBytes === null) return record;
  if (record.zeroFromBytes !== command.zeroFromBytes) {
    const message = `volume ${quote(record.name)} reads as zeros from byte ${record.zeroFromBytes} on, not ${command.zeroFromBytes}`;
    throw refusal('in-use', message, 'it was shrunk again: drop the blocks from there on first');
  }
  return update(state, volume, { zeroFromBytes: null });
}

function rename(state: State, command: CommandOf<'rename'>): VolumeRecord {
  const volume = volumeOf(state, command.id);
  if (command.name === volume.record.name) return volume.record;
  checkFree(state, command.name);
  return update(state, volume, { name: command.name });
}

function label(state: State, command: CommandOf<'label'>): VolumeRecord {
  const volume = volumeOf(state, command.id);
  const labels = new Map(Object.entries(volume.record.labels));
  for (const [key, value] of Object.entries(command.labels)) {
    if (value === null) labels.delete(key);
    else labels.set(key, value);
  }
  const merged = Object.fromEntries(labels);
  checkLabels(merged);
  return update(state, volume, { labels: sorted(merged) });
}

function remove(state: State, command: CommandOf<'remove'>): VolumeRecord {
  const { record } = volumeOf(state, command.id);
  if (command.epoch !== record.epoch) throw staleEpoch(record, command.epoch);
  if (record.hold?.mode === 'locked') throw refusal('in-use', `volume ${quote(record.name)} is locked`, 'unlock it first');
  return state.removeVolume(record.id);
}

type NewVolume = Pick<VolumeRecord, 'name' | 'kind' | 'sizeBytes' | 'blockSizeBytes' | 'originId' | 'root' | 'importer' | 'labels' | 'createdAt'>;

function addVolume(state: State, volume: NewVolume): VolumeRecord {
  const record = {
    id: state.takeVolumeId(),
    owner: null,
    epoch: FIRST_EPOCH,
    clean: true,
    openGenerations: [],
    reservation: null,
    revoked: false,
    hold: null,
    fenced: [],
    zeroFromBytes: null,
    ...volume,
  };
  return state.putVolume({ record, acquired: null });
}

/** In key order, so that equal labels have equal bytes whatever order they were set in. */
function sorted(labels: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function checkFree(state: State, name: string): void {
  checkVolumeName(name);
  const id = state.idOfName(name);
  if (id === undefined) return;
  const { kind, importer } = volumeOf(state, id).record;
  const what = importer === null ? `a ${kind}` : `a volume that node ${quote(importer)} is importing`;
  throw refusal('exists', `the name ${quote(name)} is taken by ${what}`, 'choose another name; volumes and snapshots share one name space');
}

function checkImporter({ name, importer }: VolumeRecord, node: string): void {
  if (importer === null || importer === node) return;
  throw refusal('in-use', `volume ${quote(name)} is being imported by node ${quote(importer)}`, 'wait until the import has ended');
}

function beyondEnd({ name, zeroFromBytes }: VolumeRecord): ArchipelagoError {
  const hint = 'it works as soon as the owner is done; a volume without an owner gets one with its next client';
  return refusal('in-use', `volume ${quote(name)} was shrunk to ${zeroFromBytes} bytes, and its old data is still being dropped`, hint);
}
