/** Makes the files of a new cluster: identities, ports, a random cluster id, and a node.toml for each node. */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { stringify } from 'smol-toml';
import { ArchipelagoError } from '../../base/index.ts';
import type { CephOptions } from '../../gateway/index.ts';
import type { NodeConfig } from '../config.ts';
import {
  type DirectoryFile,
  nodeNames,
  nodePaths,
  readDirectoryFile,
  type StoreKind,
  storeDirectory,
  writeAtomically,
  writeDirectoryFile,
} from './layout.ts';
import { freePorts } from './ports.ts';

const HOST = '127.0.0.1';

export interface ClusterShape {
  nodes: number;
  store: StoreKind;
  /** Only for the store `rados`. What is null is left to the defaults of `node.toml`. */
  ceph: CephOptions;
}

/** What the command line says; null where it says nothing. */
export interface WantedShape {
  nodes: number | null;
  store: StoreKind | null;
  ceph: CephOptions;
}

const DEFAULT_NODES = 3;
const DEFAULT_STORE = 'file';

/** What the options of Ceph are called on the command line and in `node.toml`. */
const CEPH_KEYS = {
  conf: { option: '--ceph-conf', key: 'cephConf' },
  user: { option: '--ceph-user', key: 'client' },
  mapsPool: { option: '--ceph-maps-pool', key: 'mapsPool' },
  blocksPool: { option: '--ceph-blocks-pool', key: 'blocksPool' },
  namespace: { option: '--ceph-namespace', key: 'namespace' },
} as const satisfies Record<keyof CephOptions, { option: string; key: string }>;

/** Makes the key of a node where there is none; resolves to its PeerId. */
export type MakeIdentity = (path: string) => Promise<string>;

/** Sets the directory up where that has not been done, and refuses one that was made for something else. */
export async function prepareDirectory(directory: string, wanted: WantedShape, makeIdentity: MakeIdentity): Promise<DirectoryFile> {
  const existing = readDirectoryFile(directory);
  if (existing === null) return createDirectory(directory, newShape(wanted), makeIdentity);
  if (wanted.nodes !== null && wanted.nodes !== existing.nodes) throw differs(directory, '--nodes', existing.nodes, wanted.nodes);
  if (wanted.store !== null && wanted.store !== existing.store) throw differs(directory, '--store', existing.store, wanted.store);
  return existing;
}

function differs(directory: string, option: string, has: unknown, asked: unknown): ArchipelagoError {
  return new ArchipelagoError('invalid-argument', `${directory} has ${option} ${has}, not ${asked}`, {
    hint: `leave ${option} out, or use another --data directory`,
  });
}

function cephOptions(ceph: CephOptions) {
  return (Object.keys(CEPH_KEYS) as (keyof CephOptions)[]).flatMap((name) =>
    ceph[name] === null ? [] : [{ ...CEPH_KEYS[name], asked: ceph[name] }],
  );
}

/** Refuses options of Ceph other than those that the directory was made with, which is what one of its nodes has. */
export function refuseOtherCeph(directory: string, ceph: CephOptions, store: NodeConfig['store']): void {
  for (const { option, key, asked } of cephOptions(ceph)) {
    if (store.kind !== 'rados') throw notForStore(option, store.kind);
    const has = store[key] ?? 'left out';
    if (asked !== has) throw differs(directory, option, has, asked);
  }
}

function notForStore(option: string, store: string): ArchipelagoError {
  return new ArchipelagoError('invalid-argument', `the store ${store} has no ${option}`, { hint: 'add --store rados, or leave it out' });
}

function newShape(wanted: WantedShape): ClusterShape {
  const store = wanted.store ?? DEFAULT_STORE;
  const nodes = wanted.nodes ?? (store === 'memory' ? 1 : DEFAULT_NODES);
  if (store === 'memory' && nodes !== 1)
    throw new ArchipelagoError('invalid-argument', 'the store memory takes one node only', { hint: 'add --nodes 1' });
  if (store === 'rados' && wanted.ceph.conf === null) throw new ArchipelagoError('invalid-argument', 'the store rados needs --ceph-conf FILE');
  if (store !== 'rados') for (const { option } of cephOptions(wanted.ceph)) throw notForStore(option, store);
  return { nodes, store, ceph: wanted.ceph };
}

/** A set-up that was interrupted is done again; nothing ran from it, because daemons start only after `archipelago.json` was written. */
async function createDirectory(directory: string, shape: ClusterShape, makeIdentity: MakeIdentity): Promise<DirectoryFile> {
  const names = nodeNames(shape.nodes);
  refuseForeignNodes(directory);
  if (shape.store === 'file') mkdirSync(storeDirectory(directory), { recursive: true });
  const ports = await freePorts(2 * shape.nodes, HOST);
  const clusterId = randomBytes(16).toString('hex');
  const members: Member[] = [];
  for (const [index, name] of names.entries()) {
    const paths = nodePaths(directory, name);
    mkdirSync(paths.directory, { recursive: true, mode: 0o750 });
    members.push({
      name,
      peerId: await makeIdentity(paths.identity),
      control: `/ip4/${HOST}/tcp/${ports[2 * index]}`,
      data: `/ip4/${HOST}/tcp/${ports[2 * index + 1]}`,
    });
  }
  for (const member of members) writeAtomically(nodePaths(directory, member.name).config, nodeToml(directory, shape, clusterId, member, members));
  writeDirectoryFile(directory, { clusterId, nodes: shape.nodes, joined: [], store: shape.store, firstVolumeMade: false });
  return readDirectoryFile(directory)!;
}

/** State of nodes without `archipelago.json` is somebody's data, not an interrupted set-up. */
function refuseForeignNodes(directory: string): void {
  if (!existsSync(directory)) return;
  const used = readdirSync(directory).find((entry) => existsSync(join(directory, entry, 'raft')));
  if (used === undefined) return;
  throw new ArchipelagoError('conflict', `${directory} has the node ${used}, but no archipelago.json`, {
    hint: 'restore that file, or use another --data directory',
  });
}

interface Member {
  name: string;
  peerId: string;
  control: string;
  data: string;
}

function nodeToml(directory: string, shape: ClusterShape, clusterId: string, self: Member, members: readonly Member[]): string {
  const home = nodePaths(directory, self.name).directory;
  const stores = {
    file: { kind: 'file', directory: relative(home, storeDirectory(directory)) },
    memory: { kind: 'memory' },
    rados: { kind: 'rados', ...Object.fromEntries(cephOptions(shape.ceph).map(({ key, asked }) => [key, asked])) },
  };
  const content = { name: self.name, clusterId, listen: self.control, dataListen: self.data, store: stores[shape.store], bootstrap: { members } };
  return `# Written by \`archipelago up\`; all keys are explained in docs/configuration.md.\n# [bootstrap] is read only while raft/ is empty.\n\n${stringify(content)}`;
}
