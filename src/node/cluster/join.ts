/**
 * `archipelago cluster join`: makes the directory of a new node and has the cluster take it in. No daemon runs meanwhile. Whatever happens in
 * between, the same command can be given again: until node.toml is there, nothing but the identity is, and the cluster knows that.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { stringify } from 'smol-toml';
import { ArchipelagoError, type Clock } from '../../base/index.ts';
import { checkFileStore } from '../../blocker/index.ts';
import { type CliOutput, checkSocketPath, type JoinOptions } from '../../gateway/index.ts';
import { askAsGuest, type Identity, loadOrCreateIdentity } from '../../net/index.ts';
import { type FirstMember, nodeName, parseConfig, tcpAddress } from '../config.ts';
import { askToJoin, decodeToken, type Joined, type Token } from '../joining.ts';
import { sleep } from './daemons.ts';
import { type DirectoryFile, nodeNames, nodePaths, readDirectoryFile, writeAtomically, writeDirectoryFile } from './layout.ts';
import { lockDirectory } from './lock.ts';
import { freePorts } from './ports.ts';

const LOOPBACK = '127.0.0.1';
const ASK_TIMEOUT_MS = 15_000;
/** Members may just elect a leader. */
const JOIN_TIMEOUT_MS = 30_000;
const RETRY_MS = 500;
const LAST_PORT = 65_535;
/** Tells a refusal that no other member would take back. */
const FINAL = ['exists', 'conflict', 'removed', 'invalid-argument', 'unsupported-version', 'not-found'];

export interface JoinEnvironment {
  clock: Clock;
  /** The program's. */
  version: string;
}

interface Addresses {
  control: string;
  data: string;
}

export async function joinCommand(options: JoinOptions, output: CliOutput, environment: JoinEnvironment): Promise<void> {
  const text = options.token === '-' ? readFileSync(0, 'utf8') : options.token;
  const token = decodeToken(text);
  checkName(options.name);
  const directory = resolve(options.directory);
  const paths = nodePaths(directory, options.name);
  for (const socket of ['admin.sock', 'nbd.sock']) checkSocketPath(join(paths.directory, socket));
  const store = await storeFor(token, options.storeDirectory);
  mkdirSync(directory, { recursive: true });
  const unlock = await lockDirectory(directory);
  try {
    const shape = readDirectoryFile(directory);
    if (shape !== null) checkCluster(directory, shape, token, options.name);
    refuseUsed(paths.directory);
    mkdirSync(paths.directory, { recursive: true, mode: 0o750 });
    const addresses = await addressesFor(options, token);
    const identity = await loadOrCreateIdentity(paths.identity);
    const self: FirstMember = { name: options.name, peerId: identity.peerId, ...addresses };
    const file = (joined: Joined) => nodeToml(paths.config, self, token, store, joined);
    // What the file will say is checked before the cluster is asked, so that the node is not a member that cannot be started.
    parseConfig(file({ members: [self], raft: {}, lease: {} }), paths.config);
    const joined = await askMembers(token, identity, self, environment);
    writeAtomically(paths.config, file(joined));
    if (shape !== null) writeDirectoryFile(directory, { ...shape, joined: [...shape.joined, options.name] });
    const members = joined.members.map(({ name }) => name).sort();
    const json = { name: options.name, peerId: identity.peerId, directory: paths.directory, config: paths.config, members };
    output.result(json, describe(options.name, paths.config, members, shape === null ? null : directory));
  } finally {
    await unlock();
  }
}

function checkName(name: string): void {
  const result = nodeName.safeParse(name);
  if (!result.success) throw new ArchipelagoError('invalid-argument', `the node name '${name}' ${result.error.issues[0]?.message}`);
}

/** The directory of a cluster made by `up` takes nodes of that cluster only. */
function checkCluster(directory: string, shape: DirectoryFile, token: Token, name: string): void {
  if (shape.clusterId !== token.cluster) {
    throw new ArchipelagoError('conflict', `${directory} belongs to another cluster than the token`, { hint: 'use another --data directory' });
  }
  if ([...nodeNames(shape.nodes), ...shape.joined].includes(name)) {
    throw new ArchipelagoError('exists', `${directory} has a node ${name} already`, { hint: 'choose another --name' });
  }
}

/** Only the identity may be there, of a join that did not come to its end. */
function refuseUsed(home: string): void {
  const found = existsSync(home) ? readdirSync(home).filter((entry) => entry !== 'identity.key') : [];
  if (found.length === 0) return;
  throw new ArchipelagoError('conflict', `${home} is not empty: it has ${found.slice(0, 3).join(', ')}`, {
    hint: 'a node that joins begins with nothing; choose another --name or --data',
  });
}

/** A directory that is no store of the cluster would be made one, and every block in it would be missing: it has to be there. */
async function storeFor(token: Token, given: string | null): Promise<Token['store']> {
  if (token.store.kind !== 'file') {
    if (given !== null) throw new ArchipelagoError('invalid-argument', `--store-directory is for the store file, not ${token.store.kind}`);
    return token.store;
  }
  const directory = given === null ? token.store.directory : resolve(given);
  try {
    await checkFileStore(directory, token.cluster);
  } catch (error) {
    if (!(error instanceof ArchipelagoError)) throw error;
    const hint = 'the node needs the store of the cluster; say with --store-directory where it is on this host';
    throw new ArchipelagoError(error.code, error.message, { cause: error, hint });
  }
  return { ...token.store, directory };
}

async function addressesFor({ listen, dataListen }: JoinOptions, token: Token): Promise<Addresses> {
  if (listen !== null) {
    const control = checkedAddress(listen, '--listen');
    return { control, data: dataListen === null ? nextPort(control) : checkedAddress(dataListen, '--data-listen') };
  }
  if (dataListen !== null) throw new ArchipelagoError('invalid-argument', '--data-listen needs --listen');
  const isLocal = token.members.every(({ addresses }) => addresses.every((address) => address.startsWith(`/ip4/${LOOPBACK}/`)));
  if (!isLocal) {
    const hint = 'for example --listen /ip4/10.0.0.4/tcp/7001';
    throw new ArchipelagoError('invalid-argument', 'the cluster spans hosts: say with --listen where this node can be reached', { hint });
  }
  const [control, data] = await freePorts(2, LOOPBACK);
  return { control: `/ip4/${LOOPBACK}/tcp/${control}`, data: `/ip4/${LOOPBACK}/tcp/${data}` };
}

function checkedAddress(address: string, option: string): string {
  const hint = 'it is what other nodes dial, for example /ip4/10.0.0.4/tcp/7001';
  const result = tcpAddress.safeParse(address);
  if (!result.success) throw new ArchipelagoError('invalid-argument', `${option} ${address} ${result.error.issues[0]?.message}`, { hint });
  if (/^\/(ip4\/0\.0\.0\.0|ip6\/::)\//.test(address) || portOf(address) === 0) {
    throw new ArchipelagoError('invalid-argument', `${option} ${address} is no address that others could dial`, { hint });
  }
  return address;
}

function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf('/') + 1));
}

function nextPort(address: string): string {
  const port = portOf(address) + 1;
  if (port > LAST_PORT) throw new ArchipelagoError('invalid-argument', 'there is no port after that of --listen', { hint: 'give --data-listen' });
  return `${address.slice(0, address.lastIndexOf('/'))}/${port}`;
}

/** One member after another, until one has taken this node in or has said no for all. */
async function askMembers(token: Token, identity: Identity, self: FirstMember, { clock, version }: JoinEnvironment): Promise<Joined> {
  const { cluster, invitation, secret, members } = token;
  const { name, control, data } = self;
  const question = { ask: 'join', cluster, invitation, secret, name, control, data, version } as const;
  const deadlineMs = clock.nowMs() + JOIN_TIMEOUT_MS;
  for (;;) {
    const failures: ArchipelagoError[] = [];
    for (const { peerId, addresses } of members) {
      try {
        const ask = (bytes: Uint8Array) => askAsGuest(identity, 'control', { peerId, addresses, question: bytes, timeoutMs: ASK_TIMEOUT_MS }, clock);
        return await askToJoin(ask, question);
      } catch (error) {
        const failure = ArchipelagoError.from(error, 'joining');
        if (FINAL.includes(failure.code) || failure.code === 'internal') throw failure;
        failures.push(failure);
      }
    }
    // Whoever invited is the first in the token, and knows of the invitation if it is still good.
    const refused = failures.find(({ code }) => code === 'forbidden');
    if (refused !== undefined) throw notLetIn(refused, token);
    if (clock.nowMs() >= deadlineMs) throw nobodyAnswered(failures, members.length);
    await sleep(clock, RETRY_MS);
  }
}

function notLetIn(refused: ArchipelagoError, { expiresAt }: Token): ArchipelagoError {
  if (refused.hint !== null) return refused;
  return new ArchipelagoError('forbidden', `the cluster lets nobody in: the token was used, or has expired (it was good until ${expiresAt})`, {
    cause: refused,
    hint: 'make another one with `archipelago cluster invite`',
  });
}

function nobodyAnswered(failures: readonly ArchipelagoError[], count: number): ArchipelagoError {
  const [first] = failures;
  return new ArchipelagoError('unavailable', `none of ${count} members could take this node in: ${first?.message}`, {
    cause: first,
    hint: 'see that a majority of the nodes runs and can be reached from here; then give the same command again',
  });
}

function nodeToml(path: string, self: FirstMember, token: Token, store: Token['store'], joined: Joined): string {
  const home = resolve(path, '..');
  const inside = store.kind === 'file' && store.directory.startsWith(`${resolve(home, '..')}/`);
  const content = {
    name: self.name,
    clusterId: token.cluster,
    listen: self.control,
    dataListen: self.data,
    store: inside ? { ...store, directory: relative(home, store.directory) } : store,
    raft: joined.raft,
    lease: joined.lease,
    join: { members: joined.members },
  };
  return `# Written by \`archipelago cluster join\`; all keys are explained in docs/configuration.md.\n\n${stringify(content)}`;
}

function describe(name: string, config: string, members: readonly string[], upDirectory: string | null): string {
  const isDefault = upDirectory !== null && resolve('archipelago-data') === upDirectory;
  const start =
    upDirectory === null ? `archipelago node start --config ${config}` : `archipelago up${isDefault ? '' : ` --data ${upDirectory}`} --detach`;
  return [
    `${name} is a member of the cluster, with ${members.filter((each) => each !== name).join(', ')}.`,
    'It is a learner until it has caught up, and votes when the number of members allows.',
    '',
    'What to type next:',
    `  ${start}`,
    '  archipelago cluster status',
  ].join('\n');
}
