/**
 * The data process: serves NBD, holds open volumes and their stores, and talks to other nodes' data processes. Its control process starts it,
 * tells it what the registry says, and ends it; it never outlives that one.
 */
import { type Log, noMetrics } from '../../base/index.ts';
import { type BlockStore, checkFileStore, openFileStore, openMemoryStore, openRadosStore } from '../../blocker/index.ts';
import { NbdServer } from '../../gateway/nbd/index.ts';
import { type BegunCycle, type Command, PageCache } from '../../mapper/index.ts';
import { type Link, loadOrCreateIdentity, NetHost } from '../../net/index.ts';
import { ClockedMergePace, type DiffRequest, NodeLease, type RegistryPort, Volumes } from '../../volume/index.ts';
import { Channel } from '../channel.ts';
import { systemClock } from '../clock.ts';
import type { NodeConfig } from '../config.ts';
import { dieOnBugs, openLog } from '../log.ts';
import type { Activate, DataRequests, DataStarted, LeaseNotice, LivenessNotice, RegistryNotice, RegistryTable, StartData } from '../protocol.ts';
import { Collecting } from './collecting.ts';
import { Peers } from './peers.ts';
import { Told } from './told.ts';

/** What runs after the start. */
interface DataProcess {
  readonly volumes: Volumes;
  readonly peers: Peers;
  readonly told: Told;
  readonly store: BlockStore;
  readonly collecting: Collecting;
  readonly net: NetHost;
  readonly log: Log;
  readonly config: NodeConfig;
  servers: NbdServer[];
}

let running: DataProcess | null = null;

function data(): DataProcess {
  if (!running) throw new Error('the data process was asked before it was started');
  return running;
}

const channel = new Channel(process, {
  start: (parameters) => start(parameters as StartData),
  activate: (parameters) => activate(parameters as Activate),
  table: (parameters) => data().told.table(parameters as RegistryTable),
  registry: (parameters) => data().told.registry(parameters as RegistryNotice),
  lease: (parameters) => data().told.lease(parameters as LeaseNotice),
  liveness: (parameters) => data().told.liveness(parameters as LivenessNotice),
  ping: () => null,
  snapshot: (parameters) => {
    const { id, name, volumeName } = parameters as DataRequests['snapshot'];
    return data().volumes.snapshot(id, name, volumeName);
  },
  handOver: (parameters) => {
    const { id, to } = parameters as DataRequests['handOver'];
    return data().volumes.handOver(id, data().peers.record(to));
  },
  own: (parameters) => data().volumes.own((parameters as DataRequests['own']).id),
  resize: (parameters) => {
    const { id, sizeBytes, shrink } = parameters as DataRequests['resize'];
    return data().volumes.resize(id, sizeBytes, shrink);
  },
  remove: (parameters) => data().volumes.removeVolume((parameters as DataRequests['remove']).id),
  check: (parameters) => data().volumes.check((parameters as DataRequests['check']).id),
  root: (parameters) => data().volumes.root((parameters as DataRequests['root']).id),
  diff: (parameters) => data().volumes.diff(parameters as DiffRequest),
  stats: () => data().volumes.stats(),
  storedBlocks: (parameters) => data().volumes.storedBlocks((parameters as DataRequests['storedBlocks']).ids),
  collect: (parameters) => data().collecting.collect(parameters as BegunCycle),
  stopCollecting: () => data().collecting.stop(),
  collection: () => data().collecting.progress,
  collected: () => data().store.closeIdle(),
  owned: () => data().volumes.owned(),
  release: (parameters) => data().volumes.release((parameters as DataRequests['own']).id),
  stopClients: () => stopClients(),
  close: () => close(),
});

// A control process that ends takes this one along, however it ended: nobody would renew leases or pass commands on.
process.on('disconnect', () => process.exit(0));
// Ctrl-C reaches the whole process group; the control process decides what happens then.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);

async function start({ config, bootId, storeExists }: StartData): Promise<DataStarted> {
  const log = openLog(config, 'data');
  dieOnBugs(log);
  const [store, identity] = await Promise.all([openStore(config, storeExists, log), loadOrCreateIdentity(config.identityFile)]);
  const net = await NetHost.start({
    identity,
    listen: [config.dataListen],
    clusterId: config.clusterId,
    purpose: 'data',
    traffic: ['bulk'],
    clock: systemClock,
    log,
  });
  const lease = new NodeLease(systemClock, config.ioTimeoutMs);
  const registry: RegistryPort = { propose: (command: Command) => channel.request('propose', command) };
  const mergeRate = config.volume.mergeBytesPerSecond;
  const peers = new Peers(config.name, net, (link: Link) => volumes.watchLink(link));
  const volumes = new Volumes({
    node: config.name,
    livenessEpoch: () => data().told.livenessEpoch,
    registry,
    blockStore: store,
    pageCache: new PageCache(),
    lease: () => lease.current,
    mergePace: mergeRate > 0 ? new ClockedMergePace(systemClock, mergeRate) : null,
    // What Ceph has answered is durable, whichever host a record is from. Elsewhere the hosts of the store's nodes are one.
    bootId: store.kind === 'rados' ? config.clusterId : bootId,
    clock: systemClock,
    log,
    linkTo: (node) => peers.link(node),
    ioTimeoutMs: config.ioTimeoutMs,
  });
  net.handle('bulk', volumes.sessions);
  const barrier = () => channel.request<void>('barrier', {});
  const collecting = new Collecting({ store, volumes, config: config.gc, barrier, clock: systemClock, log });
  running = { volumes, peers, told: new Told(volumes, peers, lease), store, collecting, net, log, config, servers: [] };
  return { addresses: net.addresses, store: await store.status() };
}

async function openStore(config: NodeConfig, exists: boolean, log: Log): Promise<BlockStore> {
  const { store, clusterId } = config;
  if (store.kind === 'file' && exists) await checkFileStore(store.directory, clusterId);
  if (store.kind === 'file') return openFileStore({ directory: store.directory, clusterId, clock: systemClock, log });
  if (store.kind === 'memory') return openMemoryStore();
  const { cephConf, client, mapsPool, blocksPool, cacheBytes, namespace = clusterId } = store;
  const user = client.replace(/^client\./, '');
  const shutOut = () => {
    log.error({}, 'stopping: Ceph has put this client on its blocklist (`ceph osd blocklist ls`); another data process is another client');
    process.exit(1);
  };
  const place = { confFile: cephConf, user, mapsPool, blocksPool, namespace, clusterId };
  return openRadosStore({ ...place, cacheBytes, mustExist: exists, shutOut, clock: systemClock, log });
}

async function activate({ livenessEpoch, ...table }: Activate): Promise<void> {
  const process = data();
  process.told.liveness({ livenessEpoch });
  process.told.table(table);
  const { config, volumes, log } = process;
  const options = { directory: volumes, log, metrics: noMetrics, clock: systemClock, mode: 0o660 };
  process.servers.push(await NbdServer.listen({ path: config.nbd.socket }, options));
  if (config.nbd.listen) process.servers.push(await NbdServer.listen(config.nbd.listen, options));
}

/**
 * The first step of a clean stop: what clients have under way ends, and nothing new comes in. As long as a client is attached here, this
 * process would take back every volume that is given away.
 */
async function stopClients(): Promise<void> {
  await Promise.all(data().servers.map((server) => server.close()));
}

/** The last step of a clean stop. */
async function close(): Promise<void> {
  const { net, store } = data();
  await net.stop();
  await store.close();
}
