/** A small vocabulary for tests of the registry: commands go in as bytes, as Raft would apply them, and come back as values or refusals. */
import { createHash } from 'node:crypto';
import { expect } from 'vitest';
import type { Epoch, ErrorCode, Generation, LivenessEpoch, VolumeId } from '../../../src/base/index.ts';
import { decodeResult, encodeCommand } from '../../../src/mapper/registry/codec.ts';
import { Registry } from '../../../src/mapper/registry/registry.ts';
import type { RegistryChange } from '../../../src/mapper/registry/state.ts';
import type { Command, CommandResult, CommandValues, VolumeRecord } from '../../../src/mapper/registry/types.ts';

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
export const NOON = '2026-01-31T12:00:00.000Z';

/** A hash as an invitation's secret has it. */
export const hashOf = (text: string) => createHash('sha256').update(text).digest('hex');

export const id = (value: number) => value as VolumeId;
export const epoch = (value: number) => value as Epoch;
export const life = (value: number) => value as LivenessEpoch;
export const generation = (value: number) => value as Generation;

type CommandOf<Type extends Command['type']> = Extract<Command, { type: Type }>;

export class Story {
  readonly registry = new Registry();
  /** What Raft's storage would hold. */
  readonly stored = new Map<string, Uint8Array>();
  readonly events: RegistryChange[] = [];
  private index = 0;
  /** Of the entries that come. */
  term = 1;

  constructor() {
    this.registry.onChange((change) => this.events.push(change));
  }

  apply<Type extends Command['type']>(command: CommandOf<Type>): CommandResult<CommandValues[Type]> {
    const { result, changes } = this.registry.apply(encodeCommand(command), ++this.index, this.term);
    expect(new Set(changes.map(({ key }) => key)).size).toBe(changes.length);
    for (const { key, value } of changes) {
      if (value === null) this.stored.delete(key);
      else this.stored.set(key, value);
    }
    const decoded = decodeResult<Type>(command.type, result);
    if ('error' in decoded) expect(changes).toEqual([]);
    return decoded;
  }

  /** Applies a command that has to succeed. */
  do<Type extends Command['type']>(command: CommandOf<Type>): CommandValues[Type] {
    const result = this.apply<Type>(command);
    if ('error' in result) throw new Error(`${command.type} was refused: ${result.error.code}: ${result.error.message}`);
    return result.ok;
  }

  /** Applies a command that has to be refused, with this code and nothing changed. */
  refuse(command: Command, code: ErrorCode, message?: RegExp): void {
    const before = snapshotOf(this.registry);
    const result = this.apply(command);
    if (!('error' in result)) throw new Error(`${command.type} was not refused`);
    expect(result.error).toMatchObject({ code, message: expect.stringMatching(message ?? /./) });
    expect(snapshotOf(this.registry)).toEqual(before);
  }

  startNode(name: string, peerId = `peer${name}`): LivenessEpoch {
    return this.do({
      type: 'startNode',
      name,
      peerId,
      controlAddresses: [`/dns4/${name}/tcp/1`],
      dataAddresses: [`/dns4/${name}/tcp/2`],
      version: '1.0.0',
    }).livenessEpoch;
  }

  create(name: string, fields: Partial<CommandOf<'create'>> = {}): VolumeRecord {
    return this.do(creation(name, fields));
  }

  /** What a node does that looked at the record just now. */
  acquire(volume: VolumeId, node: string): CommandValues['acquire'] {
    return this.do({ type: 'acquire', id: volume, node, livenessEpoch: this.lifeOf(node), epoch: this.volume(volume).epoch });
  }

  handOver(volume: VolumeId, to: string): VolumeRecord {
    return this.do({ type: 'handOver', id: volume, epoch: this.volume(volume).epoch, to, toLivenessEpoch: this.lifeOf(to) });
  }

  release(volume: VolumeId): VolumeRecord {
    return this.do({ type: 'release', id: volume, epoch: this.volume(volume).epoch });
  }

  reserve(volume: VolumeId): Generation {
    return this.do({ type: 'reserveGeneration', id: volume, epoch: this.volume(volume).epoch });
  }

  snapshot(volume: VolumeId, name: string): VolumeRecord {
    const held = { id: volume, epoch: this.volume(volume).epoch };
    return this.do({ type: 'snapshot', ...held, generation: this.reserve(volume), name, root: null, createdAt: NOON });
  }

  resize(volume: VolumeId, sizeBytes: number, shrink = false): VolumeRecord {
    return this.do({ type: 'resize', id: volume, epoch: this.volume(volume).epoch, sizeBytes, shrink });
  }

  volume(volume: VolumeId): VolumeRecord {
    const record = this.registry.byId(volume);
    if (record === null) throw new Error(`no volume ${volume}`);
    return record;
  }

  lifeOf(node: string): LivenessEpoch {
    return this.registry.node(node)?.livenessEpoch ?? life(0);
  }

  /** Another registry, made of what this one has stored. */
  reload(): Registry {
    const registry = new Registry();
    registry.load(Array.from(this.stored, ([key, value]) => ({ key, value })).reverse());
    return registry;
  }
}

export function creation(name: string, fields: Partial<CommandOf<'create'>> = {}): CommandOf<'create'> {
  return { type: 'create', name, sizeBytes: GIB, blockSizeBytes: 4 * MIB, labels: {}, importer: null, createdAt: NOON, ...fields };
}

/** All that queries can see. */
export function snapshotOf(registry: Registry): unknown {
  const volumes = [...registry.volumes()];
  const nodes = registry.nodes();
  const removed = registry.removedNodes();
  const invitations = registry.openInvitations(0);
  const held = nodes.map(({ name }) => [name, registry.heldBy(name).map((record) => record.id)]);
  for (const record of volumes) expect(registry.byId(record.id)).toBe(record);
  const collection = registry.collection();
  return JSON.parse(
    JSON.stringify({ volumes, nodes, removed: sortedBy(removed, 'name'), invitations: sortedBy(invitations, 'id'), held, collection }),
  );
}

/** A registry that has loaded its state has it in another order. */
function sortedBy<Key extends string>(values: readonly { readonly [K in Key]: string }[], key: Key): unknown[] {
  return [...values].sort((a, b) => (a[key] < b[key] ? -1 : 1));
}

/** Nodes a and b; volume 1 `disk`, owned by a under epoch 1; snapshot 2 `base` of it; generation 3 reserved for another. */
export function ownedDisk(): Story {
  const story = new Story();
  story.startNode('a');
  story.startNode('b');
  story.create('disk');
  story.acquire(id(1), 'a');
  story.snapshot(id(1), 'base');
  story.reserve(id(1));
  return story;
}
