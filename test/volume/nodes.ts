/**
 * A few nodes in one process, for stories about ownership: real volumes and sessions over the simulated disk, a registry that every node sees
 * at once or when the story says so, and links that are slow, cut and restored. Time moves only when the story moves it.
 */

import { ManualClock } from '../../chaos/sim/manual-clock.ts';
import { SimDisk } from '../../chaos/sim/volume/disk.ts';
import { SimStore } from '../../chaos/sim/volume/store.ts';
import { ArchipelagoError, type LivenessEpoch, type Log, silentLog } from '../../src/base/index.ts';
import { type Command, type CommandValues, PageCache, type VolumeRecord } from '../../src/mapper/index.ts';
import { decodeResult, encodeCommand } from '../../src/mapper/registry/codec.ts';
import { Registry } from '../../src/mapper/registry/registry.ts';
import type { CallOptions, Completion, Handler, Link, LinkState, Reply, Responder } from '../../src/net/index.ts';
import type { RegistryPort } from '../../src/volume/context.ts';
import { type Device, IO_FLUSH, IO_READ, IO_WRITE, type IoKind, VolumeIo } from '../../src/volume/device.ts';
import { Lease } from '../../src/volume/lease.ts';
import { Volumes } from '../../src/volume/volumes.ts';

export const BLOCK_BYTES = 64 * 1024;
export const IO_TIMEOUT_MS = 30_000;
const NOTHING = new Uint8Array(0);

interface Outstanding {
  readonly completion: Completion;
  readonly bytes: number;
}

/** One direction's view of a link between two nodes. */
export class SimLink implements Link {
  readonly traffic = 'bulk';
  readonly peerId: string;
  readonly name: string;
  incarnation = 0;
  connected = false;
  /** The other end. */
  peer: SimLink | null = null;
  handler: Handler | null = null;
  /** Frames that have not arrived: each ends up at the peer when `deliver` runs. Null: they arrive at the next turn. */
  slow: (() => void)[] | null = null;
  maxRequests = 64;
  /** Requests by type, for stories that count. */
  readonly sent = new Map<number, number>();
  private readonly clock: ManualClock;
  private outstanding = new Set<Outstanding>();
  private readonly up = new Set<(incarnation: number) => void>();
  private readonly down = new Set<(incarnation: number, error: ArchipelagoError) => void>();
  private readonly writableAgain = new Set<() => void>();

  constructor(peerId: string, clock: ManualClock) {
    this.peerId = peerId;
    this.name = peerId;
    this.clock = clock;
  }

  get state(): LinkState {
    return { status: this.connected ? 'connected' : 'idle', error: null };
  }

  get writable(): boolean {
    return this.connected && this.outstanding.size < this.maxRequests;
  }

  get queuedBytes(): number {
    return 0;
  }

  get outstandingRequests(): number {
    return this.outstanding.size;
  }

  canRequest(): boolean {
    return this.writable;
  }

  send(): boolean {
    return false;
  }

  flush(): void {}

  /** Lets what was held back arrive. */
  deliver(count = Number.POSITIVE_INFINITY): void {
    for (let i = 0; i < count && this.slow !== null && this.slow.length > 0; i++) this.slow.shift()?.();
  }

  private carry(frame: () => void): void {
    const { incarnation } = this;
    const arrive = () => {
      if (this.connected && this.incarnation === incarnation) frame();
    };
    if (this.slow !== null) this.slow.push(arrive);
    else setImmediate(arrive);
  }

  request(type: number, metadata: Uint8Array, payload: Uint8Array | null, completion: Completion): void {
    this.sent.set(type, (this.sent.get(type) ?? 0) + 1);
    if (!this.writable) {
      queueMicrotask(() => completion.failed(new ArchipelagoError('unavailable', `no connection to ${this.name}`)));
      return;
    }
    const entry = { completion, bytes: payload?.byteLength ?? 0 };
    this.outstanding.add(entry);
    const copy = payload?.slice() ?? NOTHING;
    const { peer } = this;
    const answer = (how: (completion: Completion) => void) => {
      peer?.carry(() => {
        if (!this.outstanding.delete(entry)) return;
        how(completion);
        for (const listener of [...this.writableAgain]) listener();
      });
    };
    const responder: Responder = {
      replyBytes: 1 << 25,
      reply: (status, replyMetadata, replyPayload = NOTHING) => answer((to) => to.replied(status, replyMetadata.slice(), replyPayload.slice())),
      fail: (error) => answer((to) => to.failed(error)),
    };
    this.carry(() => {
      try {
        peer?.handler?.request(peer, type, metadata.slice(), copy, responder);
      } catch (error) {
        responder.fail(ArchipelagoError.from(error, 'handler'));
      }
    });
  }

  call(type: number, metadata: Uint8Array, payload: Uint8Array | null, { timeoutMs }: CallOptions): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const timer = this.clock.setTimer(timeoutMs, () => reject(new ArchipelagoError('timeout', `no answer from ${this.name}`)));
      this.request(type, metadata, payload, {
        replied: (status, replyMetadata, replyPayload) => {
          timer.cancel();
          resolve({ status, metadata: replyMetadata, payload: replyPayload });
        },
        failed: (error) => {
          timer.cancel();
          reject(error);
        },
      });
    });
  }

  waitUp(timeoutMs: number): Promise<void> {
    if (this.connected) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const timer = this.clock.setTimer(timeoutMs, () => reject(new ArchipelagoError('timeout', `no connection to ${this.name}`)));
      const end = this.onUp(() => {
        end();
        timer.cancel();
        resolve();
      });
    });
  }

  onUp(listener: (incarnation: number) => void): () => void {
    this.up.add(listener);
    return () => this.up.delete(listener);
  }

  onDown(listener: (incarnation: number, error: ArchipelagoError) => void): () => void {
    this.down.add(listener);
    return () => this.down.delete(listener);
  }

  onWritable(listener: () => void): () => void {
    this.writableAgain.add(listener);
    return () => this.writableAgain.delete(listener);
  }

  connect(): void {
    this.connected = true;
    this.incarnation++;
    for (const listener of [...this.up]) listener(this.incarnation);
  }

  /** This end notices that the connection is gone. */
  disconnect(): void {
    if (!this.connected) return;
    this.connected = false;
    this.slow &&= [];
    const error = new ArchipelagoError('unavailable', `the connection to ${this.name} is gone`);
    const lost = [...this.outstanding];
    this.outstanding = new Set();
    for (const { completion } of lost) completion.failed(error);
    for (const listener of [...this.down]) listener(this.incarnation, error);
  }
}

export class Node {
  readonly name: string;
  readonly store: SimStore;
  lease: Lease;
  readonly links = new Map<string, SimLink>();
  readonly volumes: Volumes;
  livenessEpoch = 0 as LivenessEpoch;
  alive = true;
  /** Registry changes that this node has not seen; null: it sees them at once. */
  behind: (() => void)[] | null = null;
  /** Errors of steps that no story expects. */
  readonly internalErrors: string[] = [];
  /** How long answers to proposals take: they come when the story takes them from here. */
  heldProposals: (() => void)[] | null = null;

  constructor(cluster: Cluster, name: string, seed: number) {
    this.name = name;
    this.store = new SimStore(cluster.disk, seed);
    this.lease = new Lease(cluster.clock);
    this.lease.extend(Number.POSITIVE_INFINITY);
    const log: Log = {
      ...silentLog,
      info: (context) => {
        const { code, error } = context as { code?: string; error?: string };
        if (code === 'internal' || code === 'corrupt') this.internalErrors.push(String(error));
      },
      child: () => log,
    };
    const registry: RegistryPort = { propose: (command) => cluster.propose(this, command) };
    this.volumes = new Volumes({
      node: name,
      livenessEpoch: () => this.livenessEpoch,
      registry,
      blockStore: this.store,
      pageCache: new PageCache(),
      lease: () => this.lease,
      mergePace: null,
      bootId: 'boot',
      clock: cluster.clock,
      log,
      linkTo: (peer) => this.links.get(peer) ?? null,
      ioTimeoutMs: IO_TIMEOUT_MS,
    });
  }
}

export class Cluster {
  readonly disk = new SimDisk();
  readonly clock = new ManualClock();
  readonly registry = new Registry();
  readonly nodes: Node[] = [];
  private index = 0;
  private seed: number;

  constructor(names: readonly string[], seed = 1) {
    this.seed = seed;
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
    const [ab, ba] = [new SimLink(b.name, this.clock), new SimLink(a.name, this.clock)];
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
    node.livenessEpoch = this.apply({ type: 'reviveNode', node: name, livenessEpoch }).livenessEpoch;
    node.lease = new Lease(this.clock);
    node.lease.extend(Number.POSITIVE_INFINITY);
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
          const value = this.apply(command);
          if (node.behind !== null) node.behind.push(() => resolve(value));
          else resolve(value);
        } catch (error) {
          reject(error);
        }
      };
      if (node.heldProposals !== null) node.heldProposals.push(commit);
      else setImmediate(commit);
    });
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
      if (ms > 0) this.clock.advance(ms / count);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Moves everything until `work` has ended. Fails when it does not within `ms` of the cluster's time. */
  async until<Result>(work: Promise<Result>, ms = 20_000): Promise<Result> {
    let ended = false;
    const end = () => {
      ended = true;
    };
    work.then(end, end);
    const deadlineMs = this.clock.nowMs() + ms;
    while (!ended) {
      if (this.clock.nowMs() > deadlineMs) throw new Error(`it has not ended after ${ms} ms`);
      await this.turns(5, 5);
    }
    return work;
  }
}

function peerId(name: string): string {
  return `12D3KooW${name.repeat(44).slice(0, 44)}`.replace(/[0OIl]/g, 'x');
}

class NodeIo extends VolumeIo {
  private readonly finished: (error: ArchipelagoError | null) => void;

  constructor(finished: (error: ArchipelagoError | null) => void) {
    super();
    this.finished = finished;
  }

  override done(error: ArchipelagoError | null): void {
    this.finished(error);
  }
}

/** Submits one I/O. */
function submit(device: Device, kind: IoKind, offset: number, data: Uint8Array, fua = false): Promise<void> {
  return new Promise((resolve, reject) => {
    const io = new NodeIo((error) => (error ? reject(error) : resolve()));
    io.kind = kind;
    io.offset = offset;
    io.length = data.byteLength;
    io.data = data;
    io.fua = fua;
    device.submit(io);
  });
}

export function write(device: Device, offset: number, value: number, length = 512): Promise<void> {
  return submit(device, IO_WRITE, offset, new Uint8Array(length).fill(value));
}

export function flush(device: Device): Promise<void> {
  return submit(device, IO_FLUSH, 0, NOTHING);
}

export async function read(device: Device, offset: number, length = 512): Promise<number> {
  const data = new Uint8Array(length).fill(0xee);
  await submit(device, IO_READ, offset, data);
  const [value] = data;
  if (data.some((byte) => byte !== value)) throw new Error('what was read is torn');
  return value as number;
}
