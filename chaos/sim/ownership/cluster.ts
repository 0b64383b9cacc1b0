/**
 * A few nodes in one process, for stories about ownership: real volumes and sessions over the simulated disk, a registry that every node sees
 * at once or when the story says so, and links that are slow, cut and restored. Time moves only when the story moves it.
 */
import { ArchipelagoError, type Clock, type LivenessEpoch, type Log, silentLog } from '../../../src/base/index.ts';
import { type Command, type CommandValues, PageCache, type VolumeRecord } from '../../../src/mapper/index.ts';
import { decodeResult, encodeCommand } from '../../../src/mapper/registry/codec.ts';
import { Registry } from '../../../src/mapper/registry/registry.ts';
import type { RegistryPort } from '../../../src/volume/context.ts';
import { Lease } from '../../../src/volume/lease.ts';
import type { MergePace } from '../../../src/volume/merge.ts';
import { Volumes } from '../../../src/volume/volumes.ts';
import { Host } from '../host.ts';
import { Scheduler } from '../scheduler.ts';
import { nextTurn } from '../turns.ts';
import { type Fence, SimDisk } from '../volume/disk.ts';
import { HeldStore } from './held-store.ts';
import { SimLink } from './link.ts';

export const BLOCK_BYTES = 64 * 1024;
export const IO_TIMEOUT_MS = 30_000;

export class Node {
  readonly name: string;
  readonly store: HeldStore;
  lease: Lease;
  readonly registry: RegistryPort;
  /** What is decided, for everybody: there is one in a story. */
  readonly decided: Registry;
  readonly links = new Map<string, SimLink>();
  readonly volumes: Volumes;
  livenessEpoch = 0 as LivenessEpoch;
  alive = true;
  readonly clock: Clock;
  /** For a planted bug: its commands are applied under whatever epoch there is. */
  unconditional = false;
  /** Registry changes that this node has not seen; null: it sees them at once. */
  behind: (() => void)[] | null = null;
  /** Errors of steps that no story expects. */
  readonly internalErrors: string[] = [];
  /** How long answers to proposals take: they come when the story takes them from here. */
  heldProposals: (() => void)[] | null = null;

  constructor(cluster: Cluster, name: string, seed: number) {
    this.name = name;
    this.clock = cluster.host.clock;
    this.store = new HeldStore(cluster.disk, seed);
    this.lease = new Lease(cluster.host.clock);
    this.lease.extend(Number.POSITIVE_INFINITY);
    const log: Log = {
      ...silentLog,
      info: (context) => {
        const { code, error } = context as { code?: string; error?: string };
        if (code === 'internal' || code === 'corrupt') this.internalErrors.push(String(error));
      },
      child: () => log,
    };
    const registry = { propose: (command) => cluster.propose(this, command) } satisfies RegistryPort;
    this.registry = registry;
    this.decided = cluster.registry;
    this.volumes = new Volumes({
      node: name,
      livenessEpoch: () => this.livenessEpoch,
      registry,
      blockStore: this.store,
      pageCache: new PageCache(),
      lease: () => this.lease,
      mergePace: cluster.options.mergePace ?? null,
      bootId: 'boot',
      clock: cluster.host.clock,
      log,
      linkTo: (peer) => this.links.get(peer) ?? null,
      ioTimeoutMs: IO_TIMEOUT_MS,
    });
    cluster.options.started?.(this);
  }

  /** Lives on under another liveness epoch, with a lease for that one. */
  begin(livenessEpoch: LivenessEpoch): void {
    this.livenessEpoch = livenessEpoch;
    this.lease = new Lease(this.clock);
    this.lease.extend(Number.POSITIVE_INFINITY);
  }
}

export interface ClusterOptions {
  readonly seed?: number;
  readonly fence?: Fence;
  readonly mergePace?: MergePace;
  /** Told of each life of a node's processes, before it knows anything. */
  readonly started?: (node: Node) => void;
}

export class Cluster {
  readonly disk: SimDisk;
  readonly options: ClusterOptions;
  readonly host = new Host('cluster', new Scheduler(), 1, () => undefined);
  readonly registry = new Registry();
  readonly nodes: Node[] = [];
  private index = 0;
  private seed: number;

  constructor(names: readonly string[], options: ClusterOptions = {}) {
    this.options = options;
    this.seed = options.seed ?? 1;
    this.disk = new SimDisk(options.fence);
    this.registry.onChange((change) => {
      for (const node of this.nodes) {
        const see = () => {
          if (!node.alive) return;
          if (change.kind === 'volume') node.volumes.update(change.volume);
          else if (change.kind === 'removed') node.volumes.remove(change.volume.id);
        };
        if (node.behind !== null) node.behind.push(see);
        else see();
      }
    });
    for (const name of names) this.startNode(name);
  }

  node(name: string): Node {
    return this.nodes.find((node) => node.name === name && node.alive) as Node;
  }

  /** Starts a node's processes, again if they have died. */
  startNode(name: string): Node {
    const node = new Node(this, name, this.seed++);
    for (const other of this.nodes) if (other.alive && other.name !== name) this.linkUp(node, other);
    this.nodes.push(node);
    const started = this.apply({ type: 'startNode', name, peerId: peerId(name), controlAddresses: [], dataAddresses: [], version: '1.0.0' });
    node.livenessEpoch = started.livenessEpoch;
    node.volumes.replaceAll([...this.registry.volumes()]);
    return node;
  }

  private linkUp(a: Node, b: Node): void {
    const [ab, ba] = [new SimLink(b.name, this.host.clock), new SimLink(a.name, this.host.clock)];
    [ab.peer, ba.peer, ab.handler, ba.handler] = [ba, ab, a.volumes.sessions, b.volumes.sessions];
    a.links.set(b.name, ab);
    b.links.set(a.name, ba);
    a.volumes.watchLink(ab);
    b.volumes.watchLink(ba);
    ab.connect();
    ba.connect();
  }

  link(from: string, to: string): SimLink {
    return this.node(from).links.get(to) as SimLink;
  }

  /** Both ends notice at once. */
  cut(a: string, b: string): void {
    this.link(a, b).disconnect();
    this.link(b, a).disconnect();
  }

  restore(a: string, b: string): void {
    this.link(a, b).connect();
    this.link(b, a).connect();
  }

  /** The node's processes die; the registry does not know yet. */
  kill(name: string): void {
    const node = this.node(name);
    node.alive = false;
    node.store.die();
    for (const [peer, link] of node.links) {
      link.connected = false;
      this.nodes
        .find((other) => other.name === peer && other.alive)
        ?.links.get(name)
        ?.disconnect();
    }
  }

  /** What the leader does when a lease has run out, as far as this registry has it. */
  voidOwnerships(name: string): void {
    this.apply({ type: 'startNode', name, peerId: peerId(name), controlAddresses: [], dataAddresses: [], version: '1.0.0' });
  }

  /** The lease of a node that lives has run out, and it has taken a new liveness epoch since. */
  expire(name: string): void {
    const node = this.node(name);
    const { livenessEpoch } = node;
    this.apply({ type: 'expireNode', node: name, livenessEpoch, term: 1 });
    node.begin(this.apply({ type: 'reviveNode', node: name, livenessEpoch }).livenessEpoch);
  }

  apply<Type extends Command['type']>(command: Extract<Command, { type: Type }>): CommandValues[Type] {
    const { result } = this.registry.apply(encodeCommand(command), ++this.index, 1);
    const decoded = decodeResult(command.type as Type, result);
    if ('error' in decoded) throw ArchipelagoError.fromBody(decoded.error);
    return decoded.ok;
  }

  propose<Type extends Command['type']>(node: Node, command: Extract<Command, { type: Type }>): Promise<CommandValues[Type]> {
    return new Promise((resolve, reject) => {
      const commit = () => {
        if (!node.alive) return;
        try {
          const value = this.apply(node.unconditional ? this.asOfNow(command) : command);
          if (node.behind !== null) node.behind.push(() => resolve(value));
          else resolve(value);
        } catch (error) {
          reject(error);
        }
      };
      if (node.heldProposals !== null) node.heldProposals.push(commit);
      else void nextTurn().then(commit);
    });
  }

  private asOfNow<Named extends Command>(command: Named): Named {
    if (!('id' in command && 'epoch' in command) || command.type === 'acquire') return command;
    return { ...command, epoch: this.registry.byId(command.id)?.epoch ?? command.epoch };
  }

  create(name: string, blocks: number): VolumeRecord {
    const createdAt = new Date(0).toISOString();
    return this.apply({ type: 'create', name, sizeBytes: blocks * BLOCK_BYTES, blockSizeBytes: BLOCK_BYTES, labels: {}, importer: null, createdAt });
  }

  record(name: string): VolumeRecord {
    return this.registry.byName(name) as VolumeRecord;
  }

  get internalErrors(): string[] {
    return this.nodes.flatMap((node) => node.internalErrors);
  }

  /** Everything moves for a while: stores, links, promises; with `ms`, time too. */
  async turns(count = 20, ms = 0): Promise<void> {
    for (let turn = 0; turn < count; turn++) {
      for (const { store } of this.nodes) for (let i = 0; i < 4; i++) store.step();
      this.advance(ms / count);
      await nextTurn();
    }
  }

  private advance(ms: number): void {
    const { scheduler } = this.host;
    const untilMs = scheduler.nowMs + ms;
    while (scheduler.step(untilMs)) {
      // All that falls due.
    }
  }

  /** Moves everything until `work` has ended. Fails when it does not within `ms` of the cluster's time. */
  async until<Result>(work: Promise<Result>, ms = 20_000): Promise<Result> {
    let ended = false;
    const end = () => {
      ended = true;
    };
    work.then(end, end);
    const deadlineMs = this.host.clock.nowMs() + ms;
    while (!ended) {
      if (this.host.clock.nowMs() > deadlineMs) throw new Error(`it has not ended after ${ms} ms`);
      await this.turns(5, 5);
    }
    return work;
  }
}

function peerId(name: string): string {
  return `12D3KooW${name.repeat(44).slice(0, 44)}`.replace(/[0OIl]/g, 'x');
}
