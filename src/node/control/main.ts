/**
 * The control process: Raft and its log, the registry, the admin API and the links between control processes. It starts and watches the data
 * process. This is the one place where everything of a node is put together.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ArchipelagoError, type Log, Prng } from '../../base/index.ts';
import { type ClusterView, type HttpServer, startHttpServer } from '../../gateway/index.ts';
import type { Command, CommandValues, RegistryChange } from '../../mapper/index.ts';
import { Registry } from '../../mapper/registry/index.ts';
import { loadOrCreateIdentity } from '../../net/index.ts';
import { RaftNode } from '../../raft/index.ts';
import type { Channel } from '../channel.ts';
import { systemClock } from '../clock.ts';
import type { NodeConfig } from '../config.ts';
import { dieOnBugs, openLog } from '../log.ts';
import { DATA_REQUESTS, type DataStarted, type StartData } from '../protocol.ts';
import { DATA_PID_FILE, markRemoved, refuseRemoved, refuseWithoutLog } from '../start-checks.ts';
import { NodeAdminService, type NodeStatus } from './admin-service.ts';
import { ClusterLinks } from './cluster-links.ts';
import { CollectionSchedule } from './collecting.ts';
import { DataChild } from './data-child.ts';
import { drain, withTimeout } from './drain.ts';
import { Invitations } from './invitations.ts';
import { type Heartbeat, NodeLeases } from './leases.ts';
import { NodeLife } from './life.ts';
import { MemberOperations } from './member-operations.ts';
import { Membership } from './membership.ts';
import { nodeMetrics } from './metrics.ts';
import { proposeUntilKnown } from './proposing.ts';

/** How long a stop waits for other nodes that are stopping too. */
const DRAIN_WAIT_MS = 15_000;
const DRAIN_POLL_MS = 20;
const DRAIN_POLL_TIMEOUT_MS = 1000;

/** How long it may take to see what is committed. */
const SETTLE_TIMEOUT_MS = 2000;
/** How long one step of a clean stop may take. */
const STOP_STEP_TIMEOUT_MS = 5000;

/** How long a collection waits for a quorum before it gives up. */
const BARRIER_TIMEOUT_MS = 10_000;

type DrainState = 'serving' | 'draining' | 'drained';

const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as { version: string };

/** What a store may say of itself that no second attempt changes. */
const HOPELESS: readonly string[] = ['unsupported-version', 'corrupt', 'conflict', 'not-found'];

/** Runs one daemon until SIGTERM or SIGINT, then drains and stops it. Rejects when it cannot start. */
export async function runControlProcess(config: NodeConfig): Promise<void> {
  refuseRemoved(config);
  refuseWithoutLog(config);
  const log = openLog(config, 'control');
  const signal = new Promise<string>((resolve) => {
    for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, () => resolve(name));
  });
  const node = await ControlProcess.start(config, log);
  dieOnBugs(log);
  log.info({ signal: await signal }, 'stopping: handing volumes over');
  await node.stop();
  log.info({}, 'stopped');
  process.exit(0);
}

class ControlProcess {
  private readonly config: NodeConfig;
  private readonly log: Log;
  private readonly registry = new Registry();
  private readonly child: DataChild;
  private links!: ClusterLinks;
  private raft!: RaftNode;
  private membership!: Membership;
  private members!: MemberOperations;
  private readonly invitations: Invitations;
  private http!: HttpServer;
  private leases: NodeLeases | null = null;
  private readonly life: NodeLife;
  private storeStatus: ClusterView['store'] | null = null;
  private drainState: DrainState = 'serving';
  private readonly collecting: CollectionSchedule;

  private constructor(config: NodeConfig, log: Log) {
    this.config = config;
    this.log = log;
    this.invitations = new Invitations({
      config,
      raft: () => this.raft ?? null,
      registry: this.registry,
      links: () => this.links,
      membership: () => this.membership ?? null,
      clock: systemClock,
    });
    this.child = new DataChild({
      pidFile: join(config.dataDirectory, DATA_PID_FILE),
      clock: systemClock,
      log,
      methods: {
        propose: (command) => this.raftPropose(command as Command),
        barrier: () => this.raft.readBarrier({ timeoutMs: BARRIER_TIMEOUT_MS }),
      },
      started: (channel) => this.activate(channel),
    });
    this.life = new NodeLife({
      node: config.name,
      registry: this.registry,
      log,
      leases: () => this.leases,
      propose: (command) => this.raftPropose(command),
      restartData: () => this.child.restart(),
    });
    this.collecting = this.makeSchedule();
  }

  /** Runs in the data process of whichever node leads. */
  private makeSchedule(): CollectionSchedule {
    const { config, registry, child, log } = this;
    return new CollectionSchedule({
      node: config.name,
      config: config.gc,
      registry,
      livenessEpoch: () => this.life.livenessEpoch,
      request: (method, parameters) => child.request(method, parameters),
      propose: (command) => this.raftPropose(command),
      clock: systemClock,
      log,
    });
  }

  static async start(config: NodeConfig, log: Log): Promise<ControlProcess> {
    const node = new ControlProcess(config, log);
    try {
      await ControlProcess.assemble(node, config, log);
      return node;
    } catch (error) {
      // What is there already would keep the process alive, and whoever started it waiting.
      node.membership?.stop();
      await node.raft?.stop();
      await node.links?.stop();
      throw error;
    }
  }

  private static async assemble(node: ControlProcess, config: NodeConfig, log: Log): Promise<void> {
    const identity = await loadOrCreateIdentity(config.identityFile);
    node.links = await ClusterLinks.start({
      config,
      identity,
      clock: systemClock,
      log,
      raftFrame: (from, frame) => node.raft?.receive(from, frame),
      serve: (method, parameters) => node.serve(method, parameters),
      guests: node.invitations,
    });
    // Holds the lock of `raft/`: from here on this is the only control process of the node.
    node.raft = await RaftNode.open({
      id: config.name,
      directory: config.raftDirectory,
      bootstrap: (config.bootstrap?.members ?? []).map(({ name }) => name),
      stateMachine: node.registry,
      transport: node.links,
      clock: systemClock,
      log,
      random: new Prng(randomBytes(6).readUIntBE(0, 6)),
      tickMs: config.raft.heartbeatMs,
      heartbeatTicks: 1,
      electionTicks: Math.round(config.raft.electionTimeoutMs / config.raft.heartbeatMs),
      onLeaderChange: (leader, term) => {
        log.info({ leader, term }, 'leader');
        node.membership?.kick();
        node.collecting.leaderChanged(leader === config.name);
        node.leases?.leaderChanged();
      },
      onApplied: (index) => node.leases?.applied(index),
      fatal: (error) => {
        log.error({ error: error.message }, 'stopping: the log of this node cannot be trusted any more');
        process.exit(1);
      },
    });
    node.startMembership();
    node.leases = node.makeLeases();
    node.registry.onChange((change) => node.registryChanged(change));
    await node.serveHttp();
    // Not awaited: it needs a quorum, and the admin API answers without one.
    void node.child.start().catch((error: unknown) => log.error({ error: String(error) }, 'the data process is not in use yet'));
  }

  private startMembership(): void {
    const { config, raft, registry, links, log } = this;
    const first = (config.bootstrap ?? config.join)?.members ?? [];
    const shared = { self: config.name, raft, registry, links, clock: systemClock };
    this.membership = new Membership({
      ...shared,
      clusterId: config.clusterId,
      firstMembers: first.map(({ name, peerId, control }) => ({ name, peerId, controlAddresses: [control] })),
      log,
      onRemoved: (toldBy) => this.endRemoved(toldBy),
    });
    this.members = new MemberOperations({ ...shared, membership: this.membership });
  }

  /** At once: nobody here may serve anything any more, and nobody would take what is left. The data process ends with this one. */
  private endRemoved(toldBy: string): void {
    const { message, hint } = markRemoved(this.config);
    this.log.error({ toldBy, hint }, `stopping: ${message}`);
    process.exit(1);
  }

  private async serveHttp(): Promise<void> {
    const { config, raft, registry, links, log } = this;
    const service = new NodeAdminService({
      config,
      clock: systemClock,
      raft,
      registry,
      links,
      invitations: this.invitations,
      members: this.members,
      livenessEpoch: () => this.life.livenessEpoch,
      serve: (method, parameters) => this.serve(method, parameters),
    });
    const { socket: socketPath, listen, tokenFile } = config.http;
    const tcp = listen && tokenFile ? { ...listen, token: readFileSync(tokenFile, 'utf8').trim() } : null;
    const metrics = nodeMetrics(registry, this.collecting);
    this.http = await startHttpServer({ service, socketPath, tcp, metrics, isReady: () => this.ready, log, version });
  }

  /** Serves, and may answer for what it owns. */
  private get ready(): boolean {
    return this.child.channel !== null && this.leases?.valid === true;
  }

  private makeLeases(): NodeLeases {
    const { config, log, raft, registry } = this;
    const { durationMs, renewMs, driftMs } = config.lease;
    return new NodeLeases({
      node: config.name,
      timing: { leaseMs: durationMs, driftMs },
      renewMs,
      clock: systemClock,
      log,
      raft,
      registry,
      send: (leader, heartbeat) => this.links.call(leader, 'heartbeat', heartbeat, durationMs),
      askData: () => this.life.askData(),
      onDeadline: (livenessEpoch, deadlineMs) => this.life.tellDeadline(livenessEpoch, deadlineMs),
    });
  }

  /** From the first start of any of the first members on. A later one that finds none has lost its way there, and must not make another. */
  private get storeExists(): boolean {
    return this.config.join !== null || this.registry.node(this.config.name) !== null;
  }

  // ---- the data process ----

  /** Brings a new data process into use: what its predecessor owned is void as soon as the registry says so. */
  private async activate(channel: Channel): Promise<void> {
    this.life.end();
    const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    const { config } = this;
    const started = await channel
      .request<DataStarted>('start', { config, bootId, storeExists: this.storeExists } satisfies StartData)
      .catch((error: unknown) => {
        const { code, message } = ArchipelagoError.from(error, 'starting the data process');
        // Another data process would be refused as well.
        if (!HOPELESS.includes(code)) throw error;
        this.log.error({ code, error: message }, 'stopping: the store cannot be used');
        process.exit(1);
      });
    this.storeStatus = started.store;
    await this.life.begin(channel, {
      type: 'startNode',
      name: config.name,
      peerId: this.links.ownPeerId,
      controlAddresses: this.links.addresses,
      dataAddresses: started.addresses,
      version,
    });
  }

  private registryChanged(change: RegistryChange): void {
    this.life.registryChanged(change);
    if (change.kind === 'collection') this.collecting.changed();
    if (change.kind === 'node' || change.kind === 'nodeRemoved' || change.kind === 'reset') this.membershipChanged();
  }

  private membershipChanged(): void {
    this.membership.refreshLinks();
    this.membership.kick();
  }

  private raftPropose<Type extends Command['type']>(command: Extract<Command, { type: Type }>): Promise<CommandValues[Type]> {
    return proposeUntilKnown<Type>(this.raft, systemClock, command);
  }

  // ---- requests, of this node's admin API and of other nodes ----

  private async serve(method: string, parameters: unknown): Promise<unknown> {
    if (method === 'status') return this.status();
    if (method === 'drain') return this.drain();
    if (method === 'drainState') return this.drainState;
    if (method === 'reaches') return this.links.isConnected((parameters as { node: string }).node);
    if (method === 'removeNode') {
      const { node, force } = parameters as { node: string; force: boolean };
      return this.members.removeForItself(node, force);
    }
    if (method === 'collectNow') return this.collecting.collectNow();
    if (method === 'settle') return this.settle();
    if (method === 'heartbeat') return this.leases?.answer(parameters as Heartbeat) ?? null;
    if (!(DATA_REQUESTS as readonly string[]).includes(method)) throw new ArchipelagoError('invalid-argument', `no node serves '${method}'`);
    return this.child.request(method, parameters);
  }

  /** Resolves when the data process has seen everything that is committed now. */
  private async settle(): Promise<void> {
    await this.raft.readBarrier({ timeoutMs: SETTLE_TIMEOUT_MS });
    // Behind the notices of what was applied: messages arrive in their order.
    await this.child.request('ping', {});
  }

  /** While the whole cluster stops, a node that has nothing to give away any more stays, so that the others keep the quorum that they need. */
  private async whenOthersDrained(): Promise<void> {
    const others = this.registry.nodes().filter(({ name }) => name !== this.config.name);
    const deadlineMs = systemClock.nowMs() + DRAIN_WAIT_MS;
    for (const { name } of others) {
      while (this.links.isConnected(name) && systemClock.nowMs() < deadlineMs) {
        if ((await this.drainStateOf(name)) !== 'draining') break;
        await new Promise<void>((resolve) => void systemClock.setTimer(DRAIN_POLL_MS, resolve));
      }
    }
  }

  private status(): NodeStatus {
    const { pid } = this.child;
    const { kind } = this.config.store;
    return {
      lease: this.ready,
      version,
      control: process.pid,
      data: pid === null ? [] : [pid],
      nbdSocket: this.config.nbd.socket,
      store: this.storeStatus ?? { kind, location: '', usedBytes: 0, availableBytes: null },
    };
  }

  private async drain(last = false): Promise<{ node: string; moved: number }> {
    const moved = await drain({ child: this.child, targets: await this.drainTargets(), last, clock: systemClock, log: this.log });
    return { node: this.config.name, moved };
  }

  /** Nodes that answer and are not stopping themselves. */
  private async drainTargets(): Promise<string[]> {
    const others = this.registry.nodes().filter(({ name }) => name !== this.config.name && this.links.isConnected(name));
    const states = await Promise.all(others.map(({ name }) => this.drainStateOf(name)));
    return others.map(({ name }) => name).filter((_, place) => states[place] === 'serving');
  }

  /** Null for a node that does not answer. */
  private async drainStateOf(name: string): Promise<DrainState | null> {
    try {
      return await this.links.call<DrainState>(name, 'drainState', {}, DRAIN_POLL_TIMEOUT_MS);
    } catch {
      // It may be gone by now; nobody waits for it or gives it anything.
      return null;
    }
  }

  /** A clean stop: nothing is owned any more when it ends, as far as a quorum allows. */
  async stop(): Promise<void> {
    this.collecting.stop();
    if (this.child.channel !== null) {
      this.drainState = 'draining';
      await this.lastRequest('stopClients', 'clients were cut off');
      await this.drain(true);
      this.drainState = 'drained';
      await this.whenOthersDrained();
      await this.lastRequest('close', 'the data process is ended as it is');
    }
    this.membership.stop();
    this.leases?.stop();
    await this.child.stop();
    await this.http.close();
    await this.raft.stop();
    await this.links.stop();
  }

  /** A request whose failure stops nothing: what is held for want of an owner or a quorum may take longer than anybody waits. */
  private async lastRequest(method: string, otherwise: string): Promise<void> {
    try {
      await withTimeout(this.child.request(method, {}), STOP_STEP_TIMEOUT_MS, systemClock);
    } catch (error) {
      this.log.warn({ error: String(error) }, otherwise);
    }
  }
}
