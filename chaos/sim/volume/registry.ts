/** The registry as the owners of a simulated world use it. Commands take effect at once; what is late or lost is the stories' business. */
import { ArchipelagoError, type Epoch, type Generation, type VolumeId } from '../../../src/base/index.ts';
import type { Command, CommandValues, PageRef, VolumeRecord } from '../../../src/mapper/index.ts';
import { decodeResult, encodeCommand } from '../../../src/mapper/registry/codec.ts';
import { Registry } from '../../../src/mapper/registry/registry.ts';

const CREATED_AT = new Date(0).toISOString();
/** Where collectors run; it never dies. */
const COLLECTING_NODE = 'collector';

export class WorldRegistry {
  private readonly registry = new Registry();
  private index = 0;
  private names = 0;

  constructor() {
    this.start(COLLECTING_NODE);
  }

  create(sizeBytes: number, blockSizeBytes: number): VolumeRecord {
    const createdAt = CREATED_AT;
    const record = this.apply({ type: 'create', name: this.name(), sizeBytes, blockSizeBytes, labels: {}, importer: null, createdAt });
    this.startNodesOf(record.id);
    return record;
  }

  clone(snapshotId: VolumeId): VolumeRecord {
    const record = this.apply({ type: 'clone', snapshotId, name: this.name(), sizeBytes: null, createdAt: CREATED_AT });
    this.startNodesOf(record.id);
    return record;
  }

  remove(id: VolumeId): void {
    this.apply({ type: 'remove', id, epoch: this.record(id).epoch });
  }

  record(id: VolumeId): VolumeRecord {
    const record = this.registry.byId(id);
    if (record === null) throw new Error(`volume ${id} was removed`);
    return record;
  }

  records(): VolumeRecord[] {
    return [...this.registry.volumes()];
  }

  acquire(id: VolumeId): { epoch: Epoch; generation: Generation } {
    const node = nodesOf(id)[0];
    const livenessEpoch = this.registry.node(node)?.livenessEpoch;
    if (livenessEpoch === undefined) throw new Error(`there is no node ${node}`);
    const { record, generation } = this.apply({ type: 'acquire', id, node, livenessEpoch, epoch: this.record(id).epoch });
    return { epoch: record.epoch, generation };
  }

  handOver(id: VolumeId): Epoch {
    const { owner, epoch } = this.record(id);
    const to = nodesOf(id).find((node) => node !== owner?.node) as string;
    const toLivenessEpoch = this.registry.node(to)?.livenessEpoch;
    if (toLivenessEpoch === undefined) throw new Error(`there is no node ${to}`);
    return this.apply({ type: 'handOver', id, epoch, to, toLivenessEpoch }).epoch;
  }

  release(id: VolumeId): void {
    this.apply({ type: 'release', id, epoch: this.record(id).epoch });
  }

  reserve(id: VolumeId): Generation {
    return this.apply({ type: 'reserveGeneration', id, epoch: this.record(id).epoch });
  }

  cancel(id: VolumeId, generation: Generation): void {
    this.apply({ type: 'cancelReservation', id, epoch: this.record(id).epoch, generation });
  }

  snapshot(id: VolumeId, generation: Generation, root: PageRef | null): VolumeId {
    const { epoch } = this.record(id);
    return this.apply({ type: 'snapshot', id, epoch, generation, name: this.name(), root, createdAt: CREATED_AT }).id;
  }

  /** The owner of a volume has died. Each has nodes of its own. */
  void(id: VolumeId): void {
    const { owner } = this.record(id);
    if (owner) this.start(owner.node);
  }

  beginCollection(): CommandValues['beginCollection'] {
    const livenessEpoch = this.registry.node(COLLECTING_NODE)?.livenessEpoch;
    if (livenessEpoch === undefined) throw new Error('the collecting node was started');
    return this.apply({ type: 'beginCollection', node: COLLECTING_NODE, livenessEpoch, startedAt: CREATED_AT });
  }

  private startNodesOf(id: VolumeId): void {
    for (const node of nodesOf(id)) this.start(node);
  }

  private start(name: string): void {
    this.apply({ type: 'startNode', name, peerId: `peer${name}`, controlAddresses: [], dataAddresses: [], version: '1' });
  }

  private name(): string {
    return `name${++this.names}`;
  }

  private apply<Type extends Command['type']>(command: Extract<Command, { type: Type }>): CommandValues[Type] {
    const { result } = this.registry.apply(encodeCommand(command), ++this.index, 1);
    const decoded = decodeResult(command.type as Type, result);
    if ('error' in decoded) throw ArchipelagoError.fromBody(decoded.error);
    return decoded.ok;
  }
}

function nodesOf(id: VolumeId): [string, string] {
  return [`a${id}`, `b${id}`];
}
