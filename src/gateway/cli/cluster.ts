/** `archipelago cluster …`, `node …`, `up` and `down`. What starts and stops daemons is handed in: this folder knows nothing of them. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { ClusterView } from '../admin.ts';
import { addGroup, addLeaf, type Session } from './leaf.ts';
import { printResult } from './output.ts';
import { clusterReport } from './views.ts';

const DEFAULT_DIRECTORY = './archipelago-data';

/** Where handlers put what they have to say. */
export interface CliOutput {
  /** The one result: JSON for programs, text for people. */
  result(json: unknown, text: string): void;
  /** A line for people, on standard error; silent with --json. */
  note(line: string): void;
}

/** Where the store `rados` is; null where the command line says nothing. */
export interface CephOptions {
  conf: string | null;
  user: string | null;
  mapsPool: string | null;
  blocksPool: string | null;
  namespace: string | null;
}

export interface UpOptions {
  directory: string;
  nodes: number | null;
  store: string | null;
  ceph: CephOptions;
  detach: boolean;
}

/** As commander calls the options. */
interface UpFlags {
  nodes?: number;
  data: string;
  store?: string;
  cephConf?: string;
  cephUser?: string;
  cephMapsPool?: string;
  cephBlocksPool?: string;
  cephNamespace?: string;
  detach?: true;
}

export interface JoinOptions {
  /** `-` for standard input. */
  token: string;
  name: string;
  directory: string;
  listen: string | null;
  dataListen: string | null;
  storeDirectory: string | null;
}

export interface CliHandlers {
  /** Runs one daemon until it is stopped. */
  start(configFile: string): Promise<void>;
  up(options: UpOptions, output: CliOutput): Promise<void>;
  down(directory: string, output: CliOutput): Promise<void>;
  join(options: JoinOptions, output: CliOutput): Promise<void>;
}

/** Returns the group `cluster`, which has more commands in `members.ts`. */
export function addClusterCommands(program: Command, session: Session, handlers: CliHandlers): Command {
  addStarting(program, session, handlers);
  const cluster = addGroup(program, 'cluster', 'The cluster as a whole');
  addLeaf(cluster, session, {
    usage: 'status',
    summary: 'Show nodes, leader, quorum and store',
    details: 'Answered without a quorum too.',
    examples: ['cluster status', 'cluster status --node n2 --json'],
    async run({ ask }) {
      const view = await ask<ClusterView>('GET', '/v1/cluster');
      return { json: view, text: clusterReport(view) };
    },
  });
  const node = addGroup(program, 'node', 'Single nodes');
  addLeaf<{ config: string }>(node, session, {
    usage: 'start',
    summary: 'Run one daemon in the foreground',
    details: 'For systemd and containers. SIGTERM hands its volumes over to other nodes and stops it.',
    options: [new Option('--config <file>', 'its node.toml; see docs/configuration.md').makeOptionMandatory()],
    examples: ['node start --config /etc/archipelago/node.toml'],
    local: true,
    async run({ options }) {
      await handlers.start(options.config);
      return null;
    },
  });
  addLeaf(node, session, {
    usage: 'drain <node>',
    summary: 'Hand all volumes of a node over to the others',
    examples: ['node drain n2'],
    async run({ args, ask }) {
      const view = await ask<{ node: string; moved: number }>('POST', '/v1/node/drain', { node: args[0]! });
      return { json: view, text: `Moved ${view.moved} volume${view.moved === 1 ? '' : 's'} off ${view.node}.` };
    },
  });
  return cluster;
}

export const dataOption = () => new Option('--data <dir>', 'the directory of the cluster').default(DEFAULT_DIRECTORY);

function addStarting(program: Command, session: Session, handlers: CliHandlers): void {
  addLeaf<UpFlags>(program, session, {
    usage: 'up',
    summary: 'Start a cluster on this host, or go on with one',
    details: 'Makes the directory at the first time. Without --detach it runs until Ctrl-C.',
    options: [
      new Option('--nodes <count>', '1, 3, 5 or 7 (default: 3)').argParser(wholeNumber),
      dataOption(),
      new Option('--store <kind>', 'file, memory (one node only) or rados (default: file)').choices(['file', 'memory', 'rados']),
      new Option('--ceph-conf <file>', "Ceph's configuration, for --store rados"),
      new Option('--ceph-user <name>', 'the Ceph user, as client.NAME (default: client.admin)'),
      new Option('--ceph-maps-pool <pool>', 'the pool of maps and journals (default: maps)'),
      new Option('--ceph-blocks-pool <pool>', 'the pool of blocks (default: blocks)'),
      new Option('--ceph-namespace <name>', "the namespace in both pools (default: the cluster's id)"),
      new Option('--detach', 'return as soon as the cluster has a leader and every node answers'),
    ],
    examples: [
      'up',
      'up --nodes 1 --store memory',
      'up --data /srv/archipelago --detach --json',
      'up --store rados --ceph-conf /etc/ceph/ceph.conf --ceph-user client.archipelago --ceph-namespace prod',
    ],
    local: true,
    async run({ options, asJson }) {
      const { nodes = null, store = null, detach = false, data } = options;
      const { cephConf: conf = null, cephUser: user = null, cephNamespace: namespace = null } = options;
      const { cephMapsPool: mapsPool = null, cephBlocksPool: blocksPool = null } = options;
      const ceph = { conf, user, mapsPool, blocksPool, namespace };
      await handlers.up({ directory: data, nodes, store, ceph, detach }, outputFor(asJson));
      return null;
    },
  });
  addLeaf<{ data: string }>(program, session, {
    usage: 'down',
    summary: 'Stop the cluster of a directory, cleanly',
    details: 'Its data stays; `archipelago up` goes on with it.',
    options: [dataOption()],
    examples: ['down', 'down --data /srv/archipelago'],
    local: true,
    async run({ options, asJson }) {
      await handlers.down(options.data, outputFor(asJson));
      return null;
    },
  });
}

export function outputFor(asJson: boolean): CliOutput {
  return {
    result: (json, text) => printResult({ json, text }, asJson),
    note(line) {
      if (!asJson) process.stderr.write(`${line}\n`);
    },
  };
}

function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('It is not a whole number.');
  return Number(text);
}
