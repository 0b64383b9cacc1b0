/** Random commands: any at all, and ones that a cluster might well propose, late and mistaken ones among them. */
import fc from 'fast-check';
import type { Registry } from '../../../src/mapper/registry/registry.ts';
import type { Command, VolumeRecord } from '../../../src/mapper/registry/types.ts';
import { creation, epoch, generation, hashOf, id, life, MIB, NOON } from './story.ts';

const counter = fc.nat({ max: 2 ** 31 - 1 });
const text = fc.string({ unit: 'binary', maxLength: 20 });
const labels = fc.dictionary(fc.string({ maxLength: 8 }), text, { noNullPrototype: true }).filter((record) => !Object.hasOwn(record, '__proto__'));
const root = fc.option(
  fc.record(
    { generation: counter.map(generation), sequence: counter, checksum: fc.nat({ max: 0xffff_ffff }), blocks: counter },
    { noNullPrototype: true },
  ),
);
const size = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => (value === 0 ? 0 : value)),
  counter.map((value) => value * 512),
);
const volume = counter.map(id);
const held = { id: volume, epoch: counter.map(epoch) };
const addresses = fc.array(text, { maxLength: 3 });
const shape = <Fields extends Record<string, fc.Arbitrary<unknown>>>(fields: Fields) => fc.record(fields, { noNullPrototype: true });

/** Any command that has the right types, most of them against the rules. */
export const anyCommand = fc.oneof(
  shape({ type: fc.constant('startNode'), name: text, peerId: text, controlAddresses: addresses, dataAddresses: addresses, version: text }),
  shape({
    type: fc.constant('create'),
    name: text,
    sizeBytes: size,
    blockSizeBytes: size,
    labels,
    importer: fc.option(shape({ node: text, livenessEpoch: counter.map(life) })),
    createdAt: text,
  }),
  shape({ type: fc.constant('finishImport'), id: volume }),
  shape({ type: fc.constant('clone'), snapshotId: volume, name: text, sizeBytes: fc.option(size), createdAt: text }),
  shape({ type: fc.constant('acquire'), id: volume, node: text, livenessEpoch: counter.map(life), epoch: counter.map(epoch) }),
  shape({ type: fc.constant('handOver'), ...held, to: text, toLivenessEpoch: counter.map(life) }),
  shape({ type: fc.constant('release'), ...held }),
  shape({ type: fc.constant('reserveGeneration'), ...held }),
  shape({ type: fc.constant('cancelReservation'), ...held, generation: counter.map(generation) }),
  shape({ type: fc.constant('snapshot'), ...held, generation: counter.map(generation), name: text, root, createdAt: text }),
  shape({ type: fc.constant('requestCollection') }),
  shape({ type: fc.constant('beginCollection'), node: text, livenessEpoch: counter.map(life), startedAt: text }),
  shape({
    type: fc.constant('finishCollection'),
    cycle: counter,
    finishedAt: text,
    freedObjects: counter,
    freedBytes: counter,
    error: fc.option(shape({ code: fc.constantFrom('io-error', 'corrupt'), message: text, hint: fc.option(text) })),
  }),
  shape({ type: fc.constant('resize'), ...held, sizeBytes: size, shrink: fc.boolean() }),
  shape({ type: fc.constant('clearZeroFrom'), ...held, zeroFromBytes: size }),
  shape({ type: fc.constant('rename'), id: volume, name: text }),
  shape({
    type: fc.constant('label'),
    id: volume,
    labels: fc.dictionary(
      fc.string({ minLength: 1, maxLength: 8 }).map((key) => `k${key}`),
      fc.option(text),
      { noNullPrototype: true },
    ),
  }),
  shape({ type: fc.constant('remove'), ...held }),
  shape({ type: fc.constant('invite'), invitation: shape({ id: text, secretHash: text, expiresAtMs: counter }), nowMs: counter }),
  shape({
    type: fc.constant('redeem'),
    invitationId: text,
    secretHash: text,
    nowMs: counter,
    name: text,
    peerId: text,
    controlAddresses: addresses,
    dataAddresses: addresses,
    version: text,
  }),
  shape({ type: fc.constant('removeNode'), name: text, peerId: text, controlAddresses: addresses, force: fc.boolean() }),
  shape({ type: fc.constant('expireNode'), node: text, livenessEpoch: counter.map(life), term: counter }),
  shape({ type: fc.constant('reviveNode'), node: text, livenessEpoch: counter.map(life) }),
  shape({ type: fc.constant('releaseUnclean'), ...held }),
  shape({ type: fc.constant('open'), id: volume, node: text, livenessEpoch: counter.map(life), shared: fc.boolean() }),
  shape({ type: fc.constant('close'), id: volume, node: text }),
  shape({ type: fc.constant('lock'), id: volume, node: text, livenessEpoch: counter.map(life) }),
  shape({ type: fc.constant('unlock'), id: volume, node: text }),
  shape({ type: fc.constant('revoke'), id: volume, holder: text }),
  shape({ type: fc.constant('grant'), ...held, term: counter }),
) as fc.Arbitrary<Command>;

/** What somebody means to do, before it is known to what. The numbers choose among what there is. */
export interface Intent {
  readonly type: Command['type'];
  readonly volume: number;
  readonly node: number;
  readonly name: number;
  readonly size: number;
  /** Added to the epochs that are right: mostly 0. */
  readonly epochError: number;
  readonly livenessError: number;
  readonly flag: boolean;
}

const NODES = ['a', 'b', 'c', 'd', 'e'];
const NAMES = ['v', 'w', 'x', 'y', 'z', 'é', 'bad/name'];
const mostlyZero = fc.oneof({ weight: 6, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constantFrom(-1, 1, -2) });
/** A removed node never comes back, so that too many removals leave nobody to do anything. */
const TYPES: [Command['type'], number][] = [
  ['startNode', 4],
  ['create', 12],
  ['finishImport', 4],
  ['clone', 24],
  ['acquire', 40],
  ['handOver', 20],
  ['release', 8],
  ['reserveGeneration', 30],
  ['cancelReservation', 4],
  ['requestCollection', 3],
  ['beginCollection', 6],
  ['finishCollection', 6],
  ['snapshot', 36],
  ['resize', 12],
  ['clearZeroFrom', 10],
  ['rename', 8],
  ['label', 4],
  ['remove', 5],
  ['invite', 5],
  ['redeem', 14],
  ['removeNode', 3],
  ['expireNode', 3],
  ['reviveNode', 10],
  ['releaseUnclean', 8],
  ['open', 14],
  ['close', 8],
  ['lock', 12],
  ['unlock', 10],
  ['revoke', 14],
  ['grant', 24],
];

export const intents: fc.Arbitrary<Intent[]> = fc.noBias(
  fc.array(
    fc.record({
      type: fc.oneof(...TYPES.map(([type, weight]) => ({ weight, arbitrary: fc.constant(type) }))),
      volume: fc.nat({ max: 12 }),
      node: fc.nat({ max: NODES.length - 1 }),
      name: fc.nat({ max: NAMES.length - 1 }),
      size: fc.integer({ min: 1, max: 4 }),
      epochError: mostlyZero,
      livenessError: mostlyZero,
      flag: fc.boolean(),
    }),
    // Short ones get nowhere: an ownership, say, takes a node, a volume and an acquisition first.
    { minLength: 20, maxLength: 80, size: 'max' },
  ),
);

/** The command that the intent comes to in the registry's present state. */
export function commandFor(intent: Intent, registry: Registry): Command {
  const { type, flag } = intent;
  const records = [...registry.volumes()].sort((a, b) => a.id - b.id);
  // What few volumes are in the state for is not left to chance alone.
  const fit = records.find((record) => isFor(type, record));
  // Now and then one that is not there.
  const target = fit ?? records[intent.volume % (records.length + 1)];
  const volume = target?.id ?? id(999);
  const held = { id: volume, epoch: epoch(Math.max(0, (target?.epoch ?? 0) + intent.epochError)) };
  const node = NODES[intent.node] ?? 'a';
  const livenessEpoch = life(Math.max(0, (registry.node(node)?.livenessEpoch ?? 0) + intent.livenessError));
  const name = NAMES[intent.name] ?? 'v';
  const sizeBytes = intent.size * MIB;
  switch (type) {
    case 'startNode':
      return {
        type,
        name: node,
        peerId: intent.epochError === 0 ? `peer${node}` : 'stranger',
        controlAddresses: [],
        dataAddresses: ['/ip4/1'],
        version: '1',
      };
    case 'create':
      return creation(name, { sizeBytes, importer: flag ? { node, livenessEpoch } : null, labels: flag ? { b: '1', a: '2' } : {} });
    case 'finishImport':
      return { type, id: volume };
    case 'clone': {
      const snapshots = records.filter(({ kind }) => kind === 'snapshot');
      return {
        type,
        snapshotId: snapshots[intent.volume % (snapshots.length + 1)]?.id ?? volume,
        name,
        sizeBytes: flag ? null : sizeBytes,
        createdAt: NOON,
      };
    }
    case 'acquire':
      return { type, node, livenessEpoch, ...held };
    case 'handOver':
      return { type, ...held, to: node, toLivenessEpoch: livenessEpoch };
    case 'release':
    case 'releaseUnclean':
    case 'reserveGeneration':
    case 'remove':
      return { type, ...held };
    case 'snapshot':
      return {
        type,
        ...held,
        generation: generation(target?.reservation?.generation ?? 1),
        name,
        root: flag ? { generation: generation(1), sequence: 1, checksum: 1, blocks: intent.size } : null,
        createdAt: NOON,
      };
    case 'cancelReservation':
      return { type, ...held, generation: generation(target?.reservation?.generation ?? 1) };
    case 'requestCollection':
      return { type };
    case 'beginCollection':
      return { type, node, livenessEpoch, startedAt: NOON };
    case 'finishCollection':
      return { type, cycle: registry.collection().cycle, finishedAt: NOON, freedObjects: intent.size, freedBytes: intent.size * 512, error: null };
    case 'resize':
      return { type, ...held, sizeBytes, shrink: flag };
    case 'clearZeroFrom':
      return { type, ...held, zeroFromBytes: flag ? sizeBytes : (target?.zeroFromBytes ?? 0) };
    case 'expireNode':
      return { type, node, livenessEpoch, term: intent.size === 1 ? 2 : 1 };
    case 'reviveNode':
      return { type, node, livenessEpoch };
    case 'open':
      return { type, id: volume, node, livenessEpoch, shared: flag };
    case 'lock': {
      // As often as not by the owner, since only then a broken lock has to be followed by more.
      const by = (flag ? target?.owner?.node : null) ?? node;
      return { type, id: volume, node: by, livenessEpoch: by === node ? livenessEpoch : life(registry.node(by)?.livenessEpoch ?? 0) };
    }
    case 'close':
    case 'unlock':
      return { type, id: volume, node: (flag ? target?.hold?.holders[0]?.node : null) ?? node };
    case 'revoke':
      return { type, id: volume, holder: target?.hold?.holders[0]?.node ?? node };
    case 'grant':
      return { type, ...held, term: intent.size === 1 ? 2 : 1 };
    case 'rename':
      return { type, id: volume, name };
    case 'invite':
      return { type, invitation: { id: `i${intent.size}`, secretHash: hashOf(`i${intent.size}`), expiresAtMs: 1000 + intent.volume }, nowMs: 1000 };
    case 'redeem':
      return {
        type,
        invitationId: `i${intent.size}`,
        secretHash: hashOf(intent.epochError === 0 ? `i${intent.size}` : 'guess'),
        nowMs: 1000 + (flag ? 0 : intent.volume),
        name: node,
        peerId: intent.livenessError === 0 ? `peer${node}` : 'peera',
        controlAddresses: [],
        dataAddresses: [],
        version: '1',
      };
    case 'removeNode':
      return { type, name: node, peerId: `peer${node}`, controlAddresses: [], force: flag };
    case 'label':
      return { type, id: volume, labels: flag ? { a: 'x', c: `${intent.size}` } : { a: null } };
  }
}

function isFor(type: Command['type'], { hold, revoked, kind, owner }: VolumeRecord): boolean {
  if (type === 'revoke' || type === 'unlock') return hold?.mode === 'locked';
  if (type === 'close') return hold !== null && hold.mode !== 'locked';
  if (type === 'lock') return kind === 'volume' && owner !== null && hold === null;
  return type === 'grant' && revoked;
}
