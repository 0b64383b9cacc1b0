/** Which node the CLI talks to. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { ArchipelagoError, type Clock } from '../../base/index.ts';
import { AdminClient } from '../http/client.ts';

/** A node that does not answer this soon is passed over for the next one. */
const PROBE_TIMEOUT_MS = 1_500;
const SYSTEM_DIRECTORY = '/run/archipelago';
const DEFAULT_DIRECTORY = 'archipelago-data';

export interface LocateOptions {
  socket?: string | undefined;
  node?: string | undefined;
}

interface Candidate {
  name: string | null;
  socketPath: string;
}

export interface Surroundings {
  env: Readonly<Record<string, string | undefined>>;
  cwd: string;
  /** Other than /run/archipelago in tests. */
  systemDirectory?: string;
}

export async function connect(options: LocateOptions, clock: Clock, around: Surroundings): Promise<AdminClient> {
  const candidates = locate(options, around);
  const clients = candidates.map(({ socketPath }) => new AdminClient(socketPath, clock));
  // With one there is nothing to choose, and its own failure tells more than a probe.
  if (clients.length === 1) return clients[0]!;
  for (const client of clients) if (await client.answers(PROBE_TIMEOUT_MS)) return client;
  const tried = candidates.map(({ socketPath }) => socketPath).join(', ');
  throw new ArchipelagoError('unavailable', `no node answers; tried ${tried}`, { hint: 'start them with `archipelago up`' });
}

/** The nodes in question, at least one. */
export function locate({ socket, node }: LocateOptions, { env, cwd, systemDirectory = SYSTEM_DIRECTORY }: Surroundings): Candidate[] {
  const given = socket ?? (env['ARCHIPELAGO_SOCKET'] || undefined);
  if (given !== undefined) {
    const socketPath = resolve(cwd, given);
    // A socket lies in DIR/<name>/, so DIR knows its neighbours.
    return node === undefined ? [{ name: null, socketPath }] : named(node, nodesIn(dirname(dirname(socketPath))), dirname(dirname(socketPath)));
  }
  for (const directory of [join(cwd, DEFAULT_DIRECTORY), systemDirectory]) {
    const nodes = nodesIn(directory);
    if (nodes.length > 0) return node === undefined ? nodes : named(node, nodes, directory);
  }
  throw new ArchipelagoError('unavailable', `found no running node: neither ./${DEFAULT_DIRECTORY} nor ${systemDirectory} has one`, {
    hint: 'start a cluster with `archipelago up`, or name the socket of a node with --socket',
  });
}

function named(node: string, nodes: readonly Candidate[], directory: string): Candidate[] {
  const found = nodes.find(({ name }) => name === node);
  if (found !== undefined) return [found];
  const known = nodes.map(({ name }) => name).join(', ');
  throw new ArchipelagoError('not-found', `${directory} has no node '${node}'`, {
    hint: known === '' ? 'name its socket with --socket' : `it has ${known}`,
  });
}

/** From cluster.json, else from the sockets that lie there. */
function nodesIn(directory: string): Candidate[] {
  const file = join(directory, 'cluster.json');
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EACCES') throw new ArchipelagoError('forbidden', `no permission to read ${file}`, { cause: error });
    return socketsIn(directory);
  }
  try {
    const { nodes } = JSON.parse(text) as { nodes: { name: string; adminSocket: string }[] };
    return nodes.map(({ name, adminSocket }) => ({ name, socketPath: adminSocket }));
  } catch (error) {
    throw new ArchipelagoError('corrupt', `${file} is not what \`archipelago up\` writes`, { cause: error });
  }
}

/** A packaged daemon has its socket in the directory itself or in one of its own name. */
function socketsIn(directory: string): Candidate[] {
  const listing = (path: string) => {
    try {
      return readdirSync(path, { withFileTypes: true });
    } catch {
      // Not there, or not for us: no node to be found here.
      return [];
    }
  };
  const entries = listing(directory);
  if (entries.some((entry) => entry.name === 'admin.sock')) return [{ name: null, socketPath: join(directory, 'admin.sock') }];
  return entries
    .filter((entry) => entry.isDirectory() && listing(join(directory, entry.name)).some((inner) => inner.isSocket() && inner.name === 'admin.sock'))
    .map(({ name }) => ({ name, socketPath: join(directory, name, 'admin.sock') }));
}
