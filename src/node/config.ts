/** `node.toml`: what one daemon is told. docs/configuration.md has the table of keys; a test keeps it equal to the schema here. */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import { z } from 'zod';
import { ArchipelagoError } from '../base/index.ts';

/** Renewals of a lease that fit into it: two may be lost before it ends. */
const RENEWALS_A_LEASE = 3;
const DEFAULT_RENEWALS = 4;
/** Two clocks that differ by more than a fiftieth are broken; by default a lease allows for a twentieth. */
const MIN_DRIFT_PART = 1 / 50;
const DEFAULT_DRIFT_PART = 1 / 20;
/** An election must outlast this many heartbeats, or the loss of one deposes a leader. */
const HEARTBEATS_AN_ELECTION = 3;

export const nodeName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, 'must be 1 to 63 letters, digits, dots, dashes or underscores');
export const tcpAddress = z.string().regex(/^\/(ip4|ip6|dns|dns4|dns6)\/[^/]+\/tcp\/\d{1,5}$/, 'must be a multiaddr as /ip4/127.0.0.1/tcp/7001');
const hostAndPort = z.string().regex(/^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$/, 'must have the form HOST:PORT');
const path = z.string().min(1);
const milliseconds = (from: number, to: number) => z.int().min(from).max(to);

export const storeSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('file'),
    directory: path.describe('Where the objects are; shared by the nodes'),
    sharedDirectory: z.boolean().default(false).describe('Several hosts share the directory: answer a write only when it is on disk'),
  }),
  z.strictObject({ kind: z.literal('memory') }),
  z.strictObject({
    kind: z.literal('rados'),
    cephConf: path.default('/etc/ceph/ceph.conf').describe("Ceph's configuration file"),
    client: z.string().min(1).default('client.admin').describe('The Ceph user'),
    mapsPool: z.string().min(1).default('maps').describe('The pool of maps, journals and headers'),
    blocksPool: z.string().min(1).default('blocks').describe('The pool of blocks'),
    namespace: z.string().min(1).optional().describe("The namespace in both pools; the cluster's id when absent, so that clusters can share pools"),
    cacheBytes: z
      .int()
      .min(0)
      .max(2 ** 40)
      .default(256 * 2 ** 20)
      .describe('Blocks of snapshots and images that are kept in memory, for all clones together'),
  }),
]);

const nbdSchema = z.strictObject({
  socket: path.default('nbd.sock').describe('The Unix socket of the NBD server'),
  listen: hostAndPort.optional().describe('HOST:PORT where NBD is served on TCP; not at all when absent'),
  insecure: z.boolean().default(false).describe('Serve NBD on TCP without TLS; needed as long as there is no TLS'),
});

const httpSchema = z.strictObject({
  socket: path.default('admin.sock').describe('The Unix socket of the admin API'),
  listen: hostAndPort.optional().describe('HOST:PORT where the admin API is served on TCP as well; not at all when absent'),
  tokenFile: path.optional().describe('The file that holds the bearer token for TCP; needed with `listen`'),
});

const raftSchema = z.strictObject({
  heartbeatMs: milliseconds(10, 5_000).default(250).describe('Between two heartbeats of a leader'),
  electionTimeoutMs: milliseconds(100, 60_000)
    .default(1_000)
    .describe('Without a heartbeat for this long, up to twice as long, a node stands for election'),
});

const leaseSchema = z.strictObject({
  durationMs: milliseconds(500, 120_000).default(2_000).describe('How long a node may serve after the last heartbeat that was answered'),
  renewMs: milliseconds(50, 40_000).optional().describe('Between two heartbeats of a node to the leader; a quarter of the lease when absent'),
  driftMs: milliseconds(10, 60_000).optional().describe('Allowance for clocks that run at different speeds; a twentieth of the lease when absent'),
});

const volumeSchema = z.strictObject({
  mergeBytesPerSecond: z
    .int()
    .min(0)
    .max(2 ** 40)
    .default(16 * 1024 * 1024)
    .describe('How much a node copies a second, for all its volumes, to complete the blocks that clones have written in part; 0: nothing'),
});

const gcSchema = z.strictObject({
  intervalMs: z
    .int()
    .min(0)
    .max(30 * 86_400_000)
    .default(600_000)
    .describe('Between two collections of what nothing refers to; one also follows each removal. 0: only `archipelago gc run` collects'),
  maxOperationsPerSecond: z
    .int()
    .min(1)
    .max(1_000_000)
    .default(1_000)
    .describe('How many pages and objects a collection reads and removes in a second'),
  memoryBytes: z
    .int()
    .min(1 << 20)
    .max(2 ** 40)
    .default(64 << 20)
    .describe('Memory for the names of what is in use; a collection that needs more goes over the maps several times'),
});

export const memberSchema = z.strictObject({
  name: nodeName.describe('A member'),
  peerId: z.string().min(1).describe('Its PeerId'),
  control: tcpAddress.describe('The address of its control process'),
  data: tcpAddress.describe('The address of its data process'),
});

export type FirstMember = z.output<typeof memberSchema>;

const membersSchema = z.strictObject({ members: z.array(memberSchema).min(1) });

export const nodeFileSchema = z.strictObject({
  name: nodeName.describe('The name of this node in the cluster'),
  clusterId: z
    .string()
    .regex(/^[0-9a-f]{32}$/, 'must be 32 hexadecimal digits')
    .describe('Nodes and stores of another cluster are refused'),
  dataDirectory: path
    .default('.')
    .describe("Where this node keeps its own, relative to the file's directory; all other paths are relative to this one"),
  listen: tcpAddress.describe('The address of the control process, for other nodes'),
  dataListen: tcpAddress.describe('The address of the data process, for other nodes'),
  logLevel: z.enum(['debug', 'info', 'warn', 'error']).default('info').describe('What is logged, and all that is graver'),
  store: storeSchema.describe('`file`, `memory` (one node only) or `rados`'),
  nbd: nbdSchema.prefault({}),
  http: httpSchema.prefault({}),
  raft: raftSchema.prefault({}),
  lease: leaseSchema.prefault({}),
  ioTimeoutMs: milliseconds(1_000, 86_400_000).default(300_000).describe('How long I/O waits for an owner or a quorum before it fails'),
  volume: volumeSchema.prefault({}),
  gc: gcSchema.prefault({}),
  bootstrap: membersSchema.optional().describe('The first members; read only while `raft/` is empty'),
  join: membersSchema
    .optional()
    .describe('Instead of `bootstrap` on a node that has joined: whom to find the cluster by, until `raft/` knows better'),
});

type NodeFile = z.output<typeof nodeFileSchema>;

export interface HostPort {
  host: string;
  port: number;
}

/** The file with all paths absolute, addresses taken apart and relations checked. */
export interface NodeConfig extends Omit<NodeFile, 'nbd' | 'http' | 'bootstrap' | 'join' | 'lease'> {
  /** The file that this was read from. */
  file: string;
  identityFile: string;
  raftDirectory: string;
  lease: { durationMs: number; renewMs: number; driftMs: number };
  nbd: { socket: string; listen: HostPort | null; insecure: boolean };
  http: { socket: string; listen: HostPort | null; tokenFile: string | null };
  bootstrap: NodeFile['bootstrap'] | null;
  join: NodeFile['join'] | null;
}

export function loadConfig(file: string): NodeConfig {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw ArchipelagoError.from(error, `cannot read ${file}`);
    const hint = '`archipelago up` writes one for each node';
    throw new ArchipelagoError('not-found', `there is no configuration file ${file}`, { cause: error, hint });
  }
  return parseConfig(text, resolve(file));
}

/** `file` is what messages name, and where relative paths begin. */
export function parseConfig(text: string, file: string): NodeConfig {
  const invalid = (message: string, cause?: unknown) =>
    new ArchipelagoError('invalid-argument', `${file}: ${message}`, { hint: 'see docs/configuration.md', cause });
  let table: unknown;
  try {
    table = parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    throw invalid(`not valid TOML at line ${error.line}, column ${error.column}: ${error.message.split('\n')[0]}`, error);
  }
  const result = nodeFileSchema.safeParse(table);
  if (!result.success) throw invalid(result.error.issues.map((issue) => describeIssue(issue, table)).join('; '));
  const problem = relationProblem(result.data);
  if (problem !== null) throw invalid(problem);
  return resolved(result.data, resolve(file));
}

function resolved(given: NodeFile, file: string): NodeConfig {
  const home = resolve(dirname(file), given.dataDirectory);
  const absolute = (each: string) => resolve(home, each);
  const store = given.store.kind === 'file' ? { ...given.store, directory: absolute(given.store.directory) } : given.store;
  return {
    ...given,
    file,
    dataDirectory: home,
    identityFile: absolute('identity.key'),
    raftDirectory: absolute('raft'),
    store: store.kind === 'rados' ? { ...store, cephConf: absolute(store.cephConf) } : store,
    nbd: { socket: absolute(given.nbd.socket), listen: hostPort(given.nbd.listen), insecure: given.nbd.insecure },
    http: {
      socket: absolute(given.http.socket),
      listen: hostPort(given.http.listen),
      tokenFile: given.http.tokenFile === undefined ? null : absolute(given.http.tokenFile),
    },
    lease: derivedLease(given.lease),
    bootstrap: given.bootstrap ?? null,
    join: given.join ?? null,
  };
}

function derivedLease({ durationMs, renewMs, driftMs }: NodeFile['lease']): NodeConfig['lease'] {
  return {
    durationMs,
    renewMs: renewMs ?? Math.round(durationMs / DEFAULT_RENEWALS),
    driftMs: driftMs ?? Math.round(durationMs * DEFAULT_DRIFT_PART),
  };
}

function hostPort(text: string | undefined): HostPort | null {
  if (text === undefined) return null;
  const at = text.lastIndexOf(':');
  return { host: text.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(text.slice(at + 1)) };
}

/** What single keys cannot tell. */
function relationProblem({ raft, lease, nbd, http, bootstrap, join, name, listen, dataListen, store }: NodeFile): string | null {
  const ports = [listen, dataListen].map((address) => Number(address.slice(address.lastIndexOf('/') + 1)));
  for (const port of [...ports, hostPort(nbd.listen)?.port ?? 0, hostPort(http.listen)?.port ?? 0]) {
    if (port > 65_535) return `there is no port ${port}`;
  }
  if (listen === dataListen && ports[0] !== 0) return "'listen' and 'dataListen' must differ";
  if (raft.electionTimeoutMs < HEARTBEATS_AN_ELECTION * raft.heartbeatMs) {
    return `'raft.electionTimeoutMs' must be at least ${HEARTBEATS_AN_ELECTION} times 'raft.heartbeatMs'`;
  }
  const { durationMs, renewMs, driftMs } = derivedLease(lease);
  if (durationMs < RENEWALS_A_LEASE * renewMs) return `'lease.durationMs' must be at least ${RENEWALS_A_LEASE} times 'lease.renewMs'`;
  if (driftMs >= durationMs) return "'lease.driftMs' must be less than 'lease.durationMs'";
  if (driftMs < durationMs * MIN_DRIFT_PART) return `'lease.driftMs' must be at least a ${1 / MIN_DRIFT_PART}th of 'lease.durationMs'`;
  if (nbd.listen !== undefined && !nbd.insecure) return "'nbd.listen' needs TLS, which is not there yet, or 'nbd.insecure = true'";
  if (http.listen !== undefined && http.tokenFile === undefined) return "'http.listen' needs 'http.tokenFile'";
  if (bootstrap !== undefined && join !== undefined) return "'bootstrap' is for the first members and 'join' for later ones: a node has one of them";
  const table = bootstrap === undefined ? 'join' : 'bootstrap';
  const names = (bootstrap ?? join)?.members.map((member) => member.name);
  if (names === undefined) return null;
  if (new Set(names).size < names.length) return `'${table}.members' has a name twice`;
  if (!names.includes(name)) return `'${table}.members' lacks this node, '${name}'`;
  if (store.kind === 'memory' && names.length > 1) return "the store 'memory' takes one node only";
  return null;
}

function describeIssue(issue: z.core.$ZodIssue, table: unknown): string {
  const where = issue.path.map(String).join('.');
  if (issue.code === 'unrecognized_keys') {
    const unknown = issue.keys.map((key) => `'${where === '' ? key : `${where}.${key}`}'`).join(', ');
    const known = knownKeys(issue.path, table).join(', ');
    return `unknown key ${unknown}; ${where === '' ? 'the file' : `'${where}'`} may have ${known}`;
  }
  if (issue.code === 'invalid_type' && valueAt(table, issue.path) === undefined) return `the key '${where}' is missing`;
  return `'${where}': ${issue.message}`;
}

function valueAt(table: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((value, key) => (value as Record<PropertyKey, unknown> | undefined)?.[key], table);
}

/** The keys of the table at `path`, found by walking the schema along it. */
function knownKeys(path: readonly PropertyKey[], table: unknown): string[] {
  let schema: z.core.$ZodType = nodeFileSchema;
  let value = table;
  for (const key of path) {
    schema = memberOf(schema, key, value);
    value = valueAt(value, [key]);
  }
  const object = plain(schema, value);
  return object instanceof z.ZodObject ? Object.keys(object.shape) : [];
}

function memberOf(schema: z.core.$ZodType, key: PropertyKey, value: unknown): z.core.$ZodType {
  const object = plain(schema, value);
  if (object instanceof z.ZodObject) return object.shape[String(key)] as z.core.$ZodType;
  if (object instanceof z.ZodArray) return object.element as z.core.$ZodType;
  return object;
}

/** Without defaults and options; of a union the member of the value's kind. */
function plain(schema: z.core.$ZodType, value: unknown): z.core.$ZodType {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault) return plain(schema.unwrap(), value);
  if (schema instanceof z.ZodDiscriminatedUnion) {
    const kind = valueAt(value, ['kind']);
    return plain(schema.options.find((option) => (option as z.ZodObject).shape['kind']?.safeParse(kind).success) ?? schema.options[0]!, value);
  }
  return schema;
}
