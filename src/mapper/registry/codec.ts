/**
 * The bytes of commands, results and stored entries: one version byte, then UTF-8 JSON of exactly the shape below, keys in this order.
 *
 * Version 1: all of this file. A new field or command is a new version, and is proposed only once every node's program knows it.
 *
 * Only shapes are checked here, both ways, so that no node writes what another cannot read. What a name or a size may be is a rule of the
 * registry (`names.ts`): breaking it is an answer, where a wrong shape in our own log stops the node.
 */
import { z } from 'zod';
import {
  ArchipelagoError,
  assert,
  concatBytes,
  type Epoch,
  ERROR_CODES,
  type Generation,
  hex16,
  type LivenessEpoch,
  type VolumeId,
} from '../../base/index.ts';
import type { PageRef } from '../core/types.ts';
import { begunCycle, type CollectionRecord, collectionCommands, collectionRecord } from './collection-types.ts';
import { type Invitation, invitation, membershipCommands, type RemovedNode, removedNode } from './membership-types.ts';
import { hold, ownershipCommands } from './ownership-types.ts';
import type { Command, CommandResult, CommandValues, NodeRecord, Owner, VolumeRecord } from './types.ts';

const VERSION = 1;
/** No command that the rules allow is longer; a longer one is refused before it gets into a log. */
export const MAX_COMMAND_BYTES = 64 * 1024;

/** Enough for the longest type of a command, and what is around it. */
const TYPE_BYTES = 48;

/** What the current owner's `acquire` was answered, for when it asks again. */
interface Acquisition {
  readonly generation: Generation;
  readonly clean: boolean;
}

/** A volume as the registry stores it. */
export interface StoredVolume {
  readonly record: VolumeRecord;
  /** Null where there is no owner, and where the owner got the volume by a handover. */
  readonly acquired: Acquisition | null;
}

/** The next of each number to be given out. */
export interface Counters {
  readonly nextVolumeId: VolumeId;
  readonly nextGeneration: Generation;
}

/** An entry of the state that Raft's storage keeps. */
type StoredEntry =
  | { readonly kind: 'volume'; readonly volume: StoredVolume }
  | { readonly kind: 'node'; readonly node: NodeRecord }
  | { readonly kind: 'removedNode'; readonly node: RemovedNode }
  | { readonly kind: 'invitation'; readonly invitation: Invitation }
  | { readonly kind: 'collection'; readonly collection: CollectionRecord }
  | { readonly kind: 'counters'; readonly counters: Counters };

const counter = z.int().min(0);
const volumeId = counter as unknown as z.ZodType<VolumeId>;
const epoch = counter as unknown as z.ZodType<Epoch>;
const generation = counter as unknown as z.ZodType<Generation>;
const livenessEpoch = counter as unknown as z.ZodType<LivenessEpoch>;
const labels = z.record(z.string(), z.string());
const pageRef: z.ZodType<PageRef> = z.strictObject({
  generation,
  sequence: counter,
  checksum: z.int().min(0).max(0xffff_ffff),
  blocks: counter,
});
const owner: z.ZodType<Owner> = z.strictObject({ node: z.string(), epoch });

const volumeRecord: z.ZodType<VolumeRecord> = z.strictObject({
  id: volumeId,
  name: z.string(),
  kind: z.enum(['volume', 'snapshot']),
  sizeBytes: counter,
  blockSizeBytes: counter,
  originId: volumeId.nullable(),
  owner: owner.nullable(),
  epoch,
  clean: z.boolean(),
  revoked: z.boolean(),
  hold: hold.nullable(),
  fenced: z.array(z.string()),
  root: pageRef.nullable(),
  openGenerations: z.array(generation),
  reservation: z.strictObject({ generation, epoch }).nullable(),
  zeroFromBytes: counter.nullable(),
  importer: z.string().nullable(),
  labels,
  createdAt: z.string(),
});

const nodeRecord: z.ZodType<NodeRecord> = z.strictObject({
  name: z.string(),
  peerId: z.string(),
  controlAddresses: z.array(z.string()),
  dataAddresses: z.array(z.string()),
  livenessEpoch,
  alive: z.boolean(),
  version: z.string(),
});

const command: z.ZodType<Command> = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('startNode'),
    name: z.string(),
    peerId: z.string(),
    controlAddresses: z.array(z.string()),
    dataAddresses: z.array(z.string()),
    version: z.string(),
  }),
  z.strictObject({
    type: z.literal('create'),
    name: z.string(),
    sizeBytes: z.number(),
    blockSizeBytes: z.number(),
    labels,
    importer: z.strictObject({ node: z.string(), livenessEpoch }).nullable(),
    createdAt: z.string(),
  }),
  z.strictObject({ type: z.literal('finishImport'), id: volumeId }),
  z.strictObject({ type: z.literal('clone'), snapshotId: volumeId, name: z.string(), sizeBytes: z.number().nullable(), createdAt: z.string() }),
  z.strictObject({ type: z.literal('acquire'), id: volumeId, node: z.string(), livenessEpoch, epoch }),
  z.strictObject({ type: z.literal('handOver'), id: volumeId, epoch, to: z.string(), toLivenessEpoch: livenessEpoch }),
  z.strictObject({ type: z.literal('release'), id: volumeId, epoch }),
  z.strictObject({ type: z.literal('reserveGeneration'), id: volumeId, epoch }),
  z.strictObject({ type: z.literal('cancelReservation'), id: volumeId, epoch, generation }),
  z.strictObject({ type: z.literal('snapshot'), id: volumeId, epoch, generation, name: z.string(), root: pageRef.nullable(), createdAt: z.string() }),
  z.strictObject({ type: z.literal('resize'), id: volumeId, epoch, sizeBytes: z.number(), shrink: z.boolean() }),
  z.strictObject({ type: z.literal('clearZeroFrom'), id: volumeId, epoch, zeroFromBytes: z.number() }),
  z.strictObject({ type: z.literal('rename'), id: volumeId, name: z.string() }),
  z.strictObject({ type: z.literal('label'), id: volumeId, labels: z.record(z.string(), z.string().nullable()) }),
  z.strictObject({ type: z.literal('remove'), id: volumeId, epoch }),
  ...membershipCommands,
  ...collectionCommands,
  ...ownershipCommands,
]);

const acquisition: z.ZodType<Acquisition> = z.strictObject({ generation, clean: z.boolean() });

const VALUES: { readonly [Type in Command['type']]: z.ZodType<CommandValues[Type]> } = {
  startNode: nodeRecord,
  create: volumeRecord,
  finishImport: volumeRecord,
  clone: volumeRecord,
  acquire: z.strictObject({ record: volumeRecord, generation, clean: z.boolean() }),
  handOver: volumeRecord,
  release: volumeRecord,
  reserveGeneration: generation,
  cancelReservation: volumeRecord,
  snapshot: volumeRecord,
  resize: volumeRecord,
  clearZeroFrom: volumeRecord,
  rename: volumeRecord,
  label: volumeRecord,
  remove: volumeRecord,
  invite: invitation,
  redeem: nodeRecord,
  removeNode: removedNode,
  requestCollection: counter,
  beginCollection: begunCycle,
  finishCollection: collectionRecord,
  expireNode: nodeRecord,
  reviveNode: nodeRecord,
  releaseUnclean: volumeRecord,
  open: volumeRecord,
  close: volumeRecord,
  lock: volumeRecord,
  unlock: volumeRecord,
  revoke: volumeRecord,
  grant: volumeRecord,
};

/** An error code of a newer program reads as `internal`, as everywhere. */
const failure = z.strictObject({
  error: z.strictObject({ code: z.enum(ERROR_CODES).catch('internal'), message: z.string(), hint: z.string().nullable() }),
});

const results = new Map(Object.entries(VALUES).map(([type, value]) => [type, z.union([z.strictObject({ ok: value }), failure])]));

const storedVolume: z.ZodType<StoredVolume> = z.strictObject({ record: volumeRecord, acquired: acquisition.nullable() });
const counters: z.ZodType<Counters> = z.strictObject({ nextVolumeId: volumeId, nextGeneration: generation });

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Throws `invalid-argument` where a field has the wrong type, as a size that is no number. */
export function encodeCommand(value: Command): Uint8Array {
  const checked = command.safeParse(value);
  if (!checked.success) throw new ArchipelagoError('invalid-argument', `malformed command: ${firstIssue(checked.error)}`, { cause: checked.error });
  const bytes = pack(checked.data);
  if (bytes.byteLength > MAX_COMMAND_BYTES) {
    throw new ArchipelagoError('invalid-argument', `a command of ${bytes.byteLength} bytes is too long; the limit is ${MAX_COMMAND_BYTES}`);
  }
  return bytes;
}

/** Throws `unsupported-version` or `corrupt`. Whoever takes a command from a peer calls this before proposing it. */
export function decodeCommand(bytes: Uint8Array): Command {
  if (bytes.byteLength > MAX_COMMAND_BYTES) throw corrupt('command', `${bytes.byteLength} bytes are too long`);
  return unpack(command, bytes, 'command');
}

/** What kind of command this is; empty for what is none. Looks at its first bytes alone. */
export function typeOfCommand(bytes: Uint8Array): string {
  // The type is the first key of every command.
  const start = String.fromCharCode(...bytes.subarray(1, 1 + TYPE_BYTES));
  return /^\{"type":"(\w+)"/.exec(start)?.[1] ?? '';
}

export function encodeResult<Type extends Command['type']>(type: Type, result: CommandResult<CommandValues[Type]>): Uint8Array {
  return packChecked(resultSchema(type), result, `result of ${type}`);
}

/** Throws `unsupported-version` or `corrupt`; a refusal is a result like any other. */
export function decodeResult<Type extends Command['type']>(type: Type, bytes: Uint8Array): CommandResult<CommandValues[Type]> {
  return unpack(resultSchema(type), bytes, `result of ${type}`);
}

export const COUNTERS_KEY = 'c';
export const COLLECTION_KEY = 'g';

/** Keys sort volumes by id. */
export function volumeKey(id: VolumeId): string {
  return `v/${hex16(id)}`;
}

export function nodeKey(name: string): string {
  return `n/${name}`;
}

export function removedNodeKey(name: string): string {
  return `r/${name}`;
}

export function invitationKey(id: string): string {
  return `i/${id}`;
}

export function encodeVolume(volume: StoredVolume): Uint8Array {
  return packChecked(storedVolume, volume, 'volume record');
}

export function encodeNode(node: NodeRecord): Uint8Array {
  return packChecked(nodeRecord, node, 'node record');
}

export function encodeRemovedNode(node: RemovedNode): Uint8Array {
  return packChecked(removedNode, node, 'record of a removed node');
}

export function encodeInvitation(value: Invitation): Uint8Array {
  return packChecked(invitation, value, 'invitation');
}

export function encodeCollection(value: CollectionRecord): Uint8Array {
  return packChecked(collectionRecord, value, 'collection record');
}

export function encodeCounters(value: Counters): Uint8Array {
  return packChecked(counters, value, 'counters');
}

/** Throws `corrupt` also for a key that is not its value's. */
export function decodeEntry(key: string, value: Uint8Array): StoredEntry {
  const what = `registry entry ${JSON.stringify(key)}`;
  if (key.startsWith('v/')) {
    const volume = unpack(storedVolume, value, what);
    if (volumeKey(volume.record.id) !== key) throw corrupt(what, `it holds volume ${volume.record.id}`);
    return { kind: 'volume', volume };
  }
  if (key.startsWith('n/')) {
    const node = unpack(nodeRecord, value, what);
    if (nodeKey(node.name) !== key) throw corrupt(what, `it holds node ${JSON.stringify(node.name)}`);
    return { kind: 'node', node };
  }
  if (key.startsWith('r/')) {
    const node = unpack(removedNode, value, what);
    if (removedNodeKey(node.name) !== key) throw corrupt(what, `it holds removed node ${JSON.stringify(node.name)}`);
    return { kind: 'removedNode', node };
  }
  if (key.startsWith('i/')) {
    const stored = unpack(invitation, value, what);
    if (invitationKey(stored.id) !== key) throw corrupt(what, `it holds invitation ${JSON.stringify(stored.id)}`);
    return { kind: 'invitation', invitation: stored };
  }
  if (key === COLLECTION_KEY) return { kind: 'collection', collection: unpack(collectionRecord, value, what) };
  if (key === COUNTERS_KEY) return { kind: 'counters', counters: unpack(counters, value, what) };
  throw corrupt(what, 'unknown kind of key');
}

function resultSchema<Type extends Command['type']>(type: Type): z.ZodType<CommandResult<CommandValues[Type]>> {
  const schema = results.get(type);
  assert(schema !== undefined, `${type} has a result`);
  return schema as unknown as z.ZodType<CommandResult<CommandValues[Type]>>;
}

function pack(value: unknown): Uint8Array {
  return concatBytes([Uint8Array.of(VERSION), encoder.encode(JSON.stringify(value))]);
}

/** Writes what the schema makes of the value: its keys in the schema's order, so that equal values have equal bytes on all nodes. */
function packChecked(schema: z.ZodType, value: unknown, what: string): Uint8Array {
  const checked = schema.safeParse(value);
  assert(checked.success, `${what} to encode is malformed: ${checked.success ? '' : firstIssue(checked.error)}`);
  return pack(checked.data);
}

function unpack<Value>(schema: z.ZodType<Value>, bytes: Uint8Array, what: string): Value {
  const version = bytes[0];
  if (version === undefined) throw corrupt(what, 'it is empty');
  if (version > VERSION) {
    throw new ArchipelagoError('unsupported-version', `${what} has format version ${version}; this program knows up to ${VERSION}`, {
      hint: 'upgrade this node to the version of the others',
    });
  }
  if (version !== VERSION) throw corrupt(what, `there is no format version ${version}`);
  let json: unknown;
  try {
    json = JSON.parse(decoder.decode(bytes.subarray(1)));
  } catch (error) {
    throw corrupt(what, 'it is not JSON', error);
  }
  const checked = schema.safeParse(json);
  if (!checked.success) throw corrupt(what, firstIssue(checked.error), checked.error);
  return checked.data;
}

function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0];
  return issue === undefined ? 'malformed' : `${issue.path.join('.') || 'value'}: ${issue.message}`;
}

function corrupt(what: string, why: string, cause?: unknown): ArchipelagoError {
  return new ArchipelagoError('corrupt', `${what} cannot be read: ${why}`, { cause });
}
