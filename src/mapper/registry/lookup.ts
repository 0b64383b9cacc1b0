/** What commands look up before they change anything. Each throws the refusal that becomes the command's answer. */
import { ArchipelagoError, type Epoch, type ErrorCode, type LivenessEpoch, type VolumeId } from '../../base/index.ts';
import type { StoredVolume } from './codec.ts';
import { quote } from './names.ts';
import type { State } from './state.ts';
import type { NodeRecord, VolumeRecord } from './types.ts';

export function update(state: State, volume: StoredVolume, fields: Partial<VolumeRecord>): VolumeRecord {
  return state.putVolume({ ...volume, record: { ...volume.record, ...fields } });
}

export function nextEpoch(record: VolumeRecord): Epoch {
  return (record.epoch + 1) as Epoch;
}

export function volumeOf(state: State, id: VolumeId): StoredVolume {
  const volume = state.volume(id);
  if (volume === undefined) throw refusal('not-found', `there is no volume with id ${id}`, 'it was removed, or never made; list the volumes');
  return volume;
}

export function changeable(state: State, id: VolumeId): StoredVolume {
  const volume = volumeOf(state, id);
  if (volume.record.kind === 'snapshot') {
    throw refusal('read-only', `${quote(volume.record.name)} is a snapshot, which never changes`, 'clone it, and change the clone');
  }
  return volume;
}

/** The volume if `epoch` is its current owner's: what makes an entry harmless that commits after a change of owner. */
export function ownedVolume(state: State, id: VolumeId, epoch: Epoch): StoredVolume {
  const volume = changeable(state, id);
  if (volume.record.owner?.epoch !== epoch) throw staleEpoch(volume.record, epoch);
  return volume;
}

export function liveNode(state: State, name: string, livenessEpoch: LivenessEpoch): NodeRecord {
  const node = state.node(name);
  if (node === undefined) throw refusal('not-found', `there is no node ${quote(name)}`, 'list the nodes with: archipelago cluster status');
  if (node.livenessEpoch !== livenessEpoch) {
    throw refusal('stale-epoch', `node ${quote(name)} has liveness epoch ${node.livenessEpoch}, not ${livenessEpoch}: its processes have restarted`);
  }
  if (!node.alive) throw refusal('stale-epoch', `node ${quote(name)} has expired: it takes a new liveness epoch first`);
  return node;
}

export function staleEpoch({ name, owner, epoch }: VolumeRecord, named: Epoch): ArchipelagoError {
  const holder = owner === null ? 'no owner' : `owner ${owner.node}`;
  return refusal(
    'stale-epoch',
    `volume ${quote(name)} has ${holder} and epoch ${epoch}; the command was for epoch ${named}`,
    'look it up again and retry',
  );
}

export function refusal(code: ErrorCode, message: string, hint?: string): ArchipelagoError {
  return new ArchipelagoError(code, message, hint === undefined ? {} : { hint });
}
