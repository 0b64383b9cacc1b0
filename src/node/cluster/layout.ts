/**
 * What `up` keeps in a data directory, and where.
 *
 *   DIR/archipelago.json   what the directory was made for; written last, so that its presence says that everything else is there
 *   DIR/cluster.json       the running cluster, for the CLI and for scripts; absent while nothing runs
 *   DIR/store/             the `file` store
 *   DIR/<name>/            one node: node.toml, identity.key, raft/, admin.sock, nbd.sock, node.log, node.pid; `removed` once it was removed
 */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { ArchipelagoError } from '../../base/index.ts';

export const STORE_KINDS = ['file', 'memory', 'rados'] as const;
export type StoreKind = (typeof STORE_KINDS)[number];
export const NODE_COUNTS = [1, 3, 5, 7];

const FORMAT_VERSION = 1;

const directorySchema = z.strictObject({
  formatVersion: z.number(),
  clusterId: z.string(),
  /** Of the first `up`: n1, n2 and so on. Some may have been removed since. */
  nodes: z.number(),
  store: z.enum(STORE_KINDS),
  /** Nodes that joined later and live in this directory too. */
  joined: z.array(z.string()).default([]),
  /** False until the first volume was made; a removed one is not made again. */
  firstVolumeMade: z.boolean(),
});

/** The content of `archipelago.json`. */
export type DirectoryFile = z.output<typeof directorySchema>;

/** A line of `cluster.json`, as the interface fixes it. */
export interface RunningNode {
  name: string;
  peerId: string;
  pid: number;
  adminSocket: string;
  nbdSocket: string;
  httpUrl: string | null;
  listen: string;
}

export interface ClusterFile {
  nodes: RunningNode[];
}

export interface NodePaths {
  name: string;
  directory: string;
  config: string;
  identity: string;
  log: string;
  pid: string;
}

export function nodeNames(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `n${index + 1}`);
}

/** The nodes of a directory that are members still, as far as their own directories tell: one that was removed has a mark, or is deleted by now. */
export function presentNodes(directory: string, { nodes, joined }: Pick<DirectoryFile, 'nodes' | 'joined'>): NodePaths[] {
  return [...nodeNames(nodes), ...joined]
    .map((name) => nodePaths(directory, name))
    .filter((paths) => existsSync(paths.directory) && !wasRemoved(paths.directory));
}

export function nodePaths(directory: string, name: string): NodePaths {
  const home = join(directory, name);
  const inside = (file: string) => join(home, file);
  return { name, directory: home, config: inside('node.toml'), identity: inside('identity.key'), log: inside('node.log'), pid: inside('node.pid') };
}

export const storeDirectory = (directory: string) => join(directory, 'store');

const directoryFile = (directory: string) => join(directory, 'archipelago.json');
const clusterFile = (directory: string) => join(directory, 'cluster.json');

const REMOVED_FILE = 'removed';

/** Whether the node of this directory has learnt that it was removed from its cluster. */
export function wasRemoved(home: string): boolean {
  return existsSync(join(home, REMOVED_FILE));
}

/** Keeps the node from being started again, also where no member can be asked. `text` is for people. */
export function markRemoved(home: string, text: string): void {
  writeAtomically(join(home, REMOVED_FILE), text);
}

/** Null when `up` never finished setting this directory up. */
export function readDirectoryFile(directory: string): DirectoryFile | null {
  const path = directoryFile(directory);
  if (!existsSync(path)) return null;
  const corrupt = (why: string, cause?: unknown) =>
    new ArchipelagoError('corrupt', `${path}: ${why}`, { cause, hint: 'restore the file, or use another --data directory' });
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw corrupt('not valid JSON', error);
  }
  const version = (value as { formatVersion?: unknown } | null)?.formatVersion;
  if (typeof version === 'number' && version > FORMAT_VERSION) {
    const hint = 'use the newer archipelago that made it';
    throw new ArchipelagoError('unsupported-version', `${path} has format ${version}; this program knows ${FORMAT_VERSION}`, { hint });
  }
  const result = directorySchema.safeParse(value);
  if (!result.success) throw corrupt(z.prettifyError(result.error));
  return result.data;
}

export function writeDirectoryFile(directory: string, content: Omit<DirectoryFile, 'formatVersion'>): void {
  writeAtomically(directoryFile(directory), `${JSON.stringify({ formatVersion: FORMAT_VERSION, ...content }, null, 2)}\n`);
}

export function writeClusterFile(directory: string, cluster: ClusterFile): void {
  writeAtomically(clusterFile(directory), `${JSON.stringify(cluster, null, 2)}\n`);
}

export function removeClusterFile(directory: string): void {
  rmSync(clusterFile(directory), { force: true });
}

/** Readers see the old content or the new, also after a power failure. */
export function writeAtomically(path: string, content: string): void {
  mkdirSync(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}.new`;
  const file = openSync(temporary, 'w');
  try {
    writeFileSync(file, content);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(temporary, path);
  const directory = openSync(dirname(path), 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}
