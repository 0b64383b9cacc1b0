/**
 * What the registry holds, with its indexes, and what the command at hand changed of it. Every record is frozen: whoever has one keeps
 * what it was.
 */
import { ArchipelagoError, assert, type Generation, type VolumeId } from '../../base/index.ts';
import type { StateChange } from '../../raft/index.ts';
import {
  COLLECTION_KEY,
  COUNTERS_KEY,
  type Counters,
  decodeEntry,
  encodeCollection,
  encodeCounters,
  encodeInvitation,
  encodeNode,
  encodeRemovedNode,
  encodeVolume,
  invitationKey,
  nodeKey,
  removedNodeKey,
  type StoredVolume,
  volumeKey,
} from './codec.ts';
import { generationProblem } from './collection.ts';
import { type CollectionRecord, NO_COLLECTION } from './collection-types.ts';
import type { Invitation, RemovedNode } from './membership-types.ts';
import type { NodeRecord, VolumeRecord } from './types.ts';

/** What listeners learn; `reset` means that anything may have changed. */
export type RegistryChange =
  | { readonly kind: 'volume'; readonly volume: VolumeRecord; readonly previous: VolumeRecord | null }
  | { readonly kind: 'removed'; readonly volume: VolumeRecord }
  | { readonly kind: 'node'; readonly node: NodeRecord }
  | { readonly kind: 'nodeRemoved'; readonly name: string }
  | { readonly kind: 'collection'; readonly collection: CollectionRecord }
  | { readonly kind: 'reset' };

export class State {
  private readonly volumes = new Map<VolumeId, StoredVolume>();
  private readonly idsByName = new Map<string, VolumeId>();
  private readonly nodes = new Map<string, NodeRecord>();
  private readonly removed = new Map<string, RemovedNode>();
  private readonly invitations = new Map<string, Invitation>();
  /** Per node: the volumes that it owns or imports, so that its start visits no others. */
  private readonly heldByNode = new Map<string, Set<VolumeId>>();
  private counters: Counters = { nextVolumeId: 1 as VolumeId, nextGeneration: 1 as Generation };
  private cycles = freeze(NO_COLLECTION);
  private pendingWrites = new Map<string, Uint8Array | null>();
  private pendingEvents: RegistryChange[] = [];

  /** Throws `corrupt` or `unsupported-version` for entries that no registry of this version has written. */
  static load(entries: Iterable<{ key: string; value: Uint8Array }>): State {
    const state = new State();
    const stored = Array.from(entries, ({ key, value }) => decodeEntry(key, value));
    for (const entry of stored) if (entry.kind === 'counters') state.counters = entry.counters;
    for (const entry of stored) if (entry.kind === 'collection') state.cycles = freeze(entry.collection);
    for (const entry of stored) if (entry.kind === 'node') state.nodes.set(entry.node.name, freeze(entry.node));
    for (const entry of stored) if (entry.kind === 'removedNode') state.loadRemoved(entry.node);
    for (const entry of stored) if (entry.kind === 'invitation') state.invitations.set(entry.invitation.id, freeze(entry.invitation));
    for (const entry of stored) if (entry.kind === 'volume') state.loadVolume(entry.volume);
    return state;
  }

  volume(id: VolumeId): StoredVolume | undefined {
    return this.volumes.get(id);
  }

  idOfName(name: string): VolumeId | undefined {
    return this.idsByName.get(name);
  }

  node(name: string): NodeRecord | undefined {
    return this.nodes.get(name);
  }

  allNodes(): NodeRecord[] {
    return [...this.nodes.values()];
  }

  removedNode(name: string): RemovedNode | undefined {
    return this.removed.get(name);
  }

  removedNodes(): RemovedNode[] {
    return [...this.removed.values()];
  }

  invitation(id: string): Invitation | undefined {
    return this.invitations.get(id);
  }

  allInvitations(): Invitation[] {
    return [...this.invitations.values()];
  }

  names(): string[] {
    return [...this.idsByName.keys()];
  }

  /** The ids of the volumes that a node owns or imports, ascending, so that all replicas visit them in one order. */
  heldBy(node: string): VolumeId[] {
    return [...(this.heldByNode.get(node) ?? [])].sort((a, b) => a - b);
  }

  takeVolumeId(): VolumeId {
    const id = this.counters.nextVolumeId;
    this.setCounters({ ...this.counters, nextVolumeId: (id + 1) as VolumeId });
    return id;
  }

  takeGeneration(): Generation {
    const generation = this.counters.nextGeneration;
    this.setCounters({ ...this.counters, nextGeneration: (generation + 1) as Generation });
    return generation;
  }

  /** The next of each to be given out. */
  nextNumbers(): Counters {
    return this.counters;
  }

  collection(): CollectionRecord {
    return this.cycles;
  }

  putCollection(collection: CollectionRecord): CollectionRecord {
    this.cycles = freeze(collection);
    this.pendingWrites.set(COLLECTION_KEY, encodeCollection(collection));
    this.pendingEvents.push({ kind: 'collection', collection: this.cycles });
    return this.cycles;
  }

  /** There is something to collect that the cycle begun last may not see. */
  wantCollection(): CollectionRecord {
    const { cycle, wanted } = this.cycles;
    return wanted > cycle ? this.cycles : this.putCollection({ ...this.cycles, wanted: cycle + 1 });
  }

  putVolume(volume: StoredVolume): VolumeRecord {
    const problem = this.contradiction(volume);
    assert(problem === null, `volume ${volume.record.id}: ${problem}`);
    const previous = this.volumes.get(volume.record.id)?.record ?? null;
    this.pendingWrites.set(volumeKey(volume.record.id), encodeVolume(volume));
    const { record } = this.index(volume);
    this.pendingEvents.push({ kind: 'volume', volume: record, previous });
    return record;
  }

  removeVolume(id: VolumeId): VolumeRecord {
    const volume = this.volumes.get(id);
    assert(volume !== undefined, `volume ${id} to remove is there`);
    this.unindex(volume);
    this.volumes.delete(id);
    this.pendingWrites.set(volumeKey(id), null);
    this.pendingEvents.push({ kind: 'removed', volume: volume.record });
    this.wantCollection();
    return volume.record;
  }

  putNode(node: NodeRecord): NodeRecord {
    const frozen = freeze(node);
    this.nodes.set(node.name, frozen);
    this.pendingWrites.set(nodeKey(node.name), encodeNode(node));
    this.pendingEvents.push({ kind: 'node', node: frozen });
    return frozen;
  }

  /** What it held has been voided before. */
  removeNode(removed: RemovedNode): RemovedNode {
    const { name } = removed;
    assert(this.heldBy(name).length === 0, `node ${name} to remove holds nothing`);
    const frozen = freeze(removed);
    this.removed.set(name, frozen);
    this.pendingWrites.set(removedNodeKey(name), encodeRemovedNode(removed));
    if (this.nodes.delete(name)) this.pendingWrites.set(nodeKey(name), null);
    this.pendingEvents.push({ kind: 'nodeRemoved', name });
    return frozen;
  }

  putInvitation(invitation: Invitation): Invitation {
    const frozen = freeze(invitation);
    this.invitations.set(invitation.id, frozen);
    this.pendingWrites.set(invitationKey(invitation.id), encodeInvitation(invitation));
    return frozen;
  }

  removeInvitation(id: string): void {
    assert(this.invitations.delete(id), `invitation ${id} to remove is there`);
    this.pendingWrites.set(invitationKey(id), null);
  }

  /** What has changed since this was last asked. */
  takeChanges(): { changes: StateChange[]; events: RegistryChange[] } {
    const changes = Array.from(this.pendingWrites, ([key, value]) => ({ key, value }));
    const events = this.pendingEvents;
    this.pendingWrites = new Map();
    this.pendingEvents = [];
    return { changes, events };
  }

  private setCounters(counters: Counters): void {
    this.counters = counters;
    this.pendingWrites.set(COUNTERS_KEY, encodeCounters(counters));
  }

  private loadRemoved(node: RemovedNode): void {
    if (this.nodes.has(node.name)) throw new ArchipelagoError('corrupt', `registry contradicts itself: node ${node.name} is there and was removed`);
    this.removed.set(node.name, freeze(node));
  }

  private loadVolume(volume: StoredVolume): void {
    const { id } = volume.record;
    const problem = this.volumes.has(id) ? 'it is there twice' : this.contradiction(volume);
    if (problem !== null) throw new ArchipelagoError('corrupt', `registry contradicts itself: volume ${id}: ${problem}`);
    this.index(volume);
  }

  /** Why a volume cannot be part of this state, or null. Checked before every write and after every load. */
  private contradiction({ record, acquired }: StoredVolume): string | null {
    const { id, name, kind, owner, epoch, zeroFromBytes, importer } = record;
    const holder = this.idsByName.get(name);
    if (holder !== undefined && holder !== id) return `its name is volume ${holder}'s`;
    if (id < 1 || id >= this.counters.nextVolumeId) return 'its id was never given out';
    if (owner !== null && owner.epoch !== epoch) return `its owner has epoch ${owner.epoch}, and ${epoch} was the last one`;
    if (owner !== null && !this.nodes.has(owner.node)) return `its owner ${owner.node} is no node`;
    if (owner === null && record.revoked) return 'it is revoked and has no owner';
    if (record.hold !== null && record.hold.mode !== 'shared' && record.hold.holders.length !== 1) return 'two nodes have it for themselves';
    if (owner !== null && record.clean) return 'it has an owner and is clean';
    if (importer !== null && !this.nodes.has(importer)) return `its importer ${importer} is no node`;
    if (importer !== null && owner !== null && owner.node !== importer) return 'it is owned by another node than its importer';
    if (acquired !== null && owner === null) return 'it was acquired and has no owner';
    if (acquired !== null && (acquired.generation < 1 || acquired.generation >= this.counters.nextGeneration))
      return 'its generation was never given out';
    if (zeroFromBytes !== null && zeroFromBytes !== record.sizeBytes) return 'it grew before it was cleared beyond its end';
    if (kind === 'snapshot' && (owner !== null || epoch !== 0 || importer !== null || zeroFromBytes !== null || record.hold !== null))
      return 'it is a snapshot and was owned or opened';
    return generationProblem(record, this.counters.nextGeneration);
  }

  private index(volume: StoredVolume): StoredVolume {
    const { id, name } = volume.record;
    const previous = this.volumes.get(id);
    if (previous !== undefined) this.unindex(previous);
    const frozen = freeze(volume);
    this.volumes.set(id, frozen);
    this.idsByName.set(name, id);
    for (const node of holdersOf(volume.record)) {
      const held = this.heldByNode.get(node);
      if (held === undefined) this.heldByNode.set(node, new Set([id]));
      else held.add(id);
    }
    return frozen;
  }

  private unindex({ record }: StoredVolume): void {
    this.idsByName.delete(record.name);
    for (const node of holdersOf(record)) this.heldByNode.get(node)?.delete(record.id);
  }
}

function holdersOf({ owner, importer }: VolumeRecord): string[] {
  return [owner?.node, importer].filter((node) => node != null);
}

/** Freezes a record and all inside it. */
function freeze<Value extends object>(value: Value): Value {
  if (Object.isFrozen(value)) return value;
  for (const inner of Object.values(value)) if (typeof inner === 'object' && inner !== null) freeze(inner);
  return Object.freeze(value);
}
