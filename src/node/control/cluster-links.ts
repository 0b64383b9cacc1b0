/** The control processes' links: Raft's frames, and requests of one node's admin API that another node has to serve. */
import { ArchipelagoError, type Clock, type Log } from '../../base/index.ts';
import type { NodeRecord } from '../../mapper/index.ts';
import { type GuestService, type Handler, type Identity, type Link, NetHost, type Responder } from '../../net/index.ts';
import type { RaftTransport } from '../../raft/index.ts';
import type { NodeConfig } from '../config.ts';

/** Frame types on control links. A request's payload is JSON: `{method, parameters}`, its reply's the value. */
const RAFT = 1;
const CALL = 2;
const NO_METADATA = new Uint8Array(0);
const MAX_REPLY_BYTES = 16 << 20;

/** What is known of another member; the registry's record, or the first configuration before there is one. */
export type Member = Pick<NodeRecord, 'name' | 'peerId' | 'controlAddresses'>;

export interface ClusterLinksOptions {
  readonly config: NodeConfig;
  readonly identity: Identity;
  readonly clock: Clock;
  readonly log: Log;
  readonly raftFrame: (from: string, frame: Uint8Array) => void;
  /** Serves a request of another node. */
  readonly serve: (method: string, parameters: unknown) => Promise<unknown>;
  readonly guests: GuestService;
}

export class ClusterLinks implements Handler, RaftTransport {
  private readonly options: ClusterLinksOptions;
  private readonly net: NetHost;
  private readonly links = new Map<string, Link>();
  private readonly namesByPeer = new Map<string, string>();
  private members: readonly Member[] = [];

  private constructor(options: ClusterLinksOptions, net: NetHost) {
    this.options = options;
    this.net = net;
  }

  static async start(options: ClusterLinksOptions): Promise<ClusterLinks> {
    const { config, identity, guests, clock, log } = options;
    const net = await NetHost.start({
      identity,
      listen: [config.listen],
      clusterId: config.clusterId,
      purpose: 'control',
      traffic: ['control'],
      guests,
      clock,
      log,
    });
    const links = new ClusterLinks(options, net);
    net.handle('control', links);
    return links;
  }

  get addresses(): string[] {
    return this.net.addresses;
  }

  /** From now on these are the allowed and dialled peers. */
  setMembers(members: readonly Member[]): void {
    this.members = members;
    this.namesByPeer.clear();
    this.links.clear();
    for (const { name, peerId } of members) {
      if (name === this.options.config.name) continue;
      this.namesByPeer.set(peerId, name);
      this.links.set(name, this.net.link(peerId, 'control'));
    }
    this.net.setPeers(members.map(({ name, peerId, controlAddresses }) => ({ name, peerId, addresses: [...controlAddresses] })));
  }

  get ownPeerId(): string {
    return this.net.peerId;
  }

  /** All members, this node among them, in order of their names. */
  memberNames(): string[] {
    return this.members.map(({ name }) => name).sort();
  }

  /** Throws `not-found`. */
  member(name: string): Member {
    const member = this.members.find((each) => each.name === name);
    if (!member) throw unknownNode(name);
    return member;
  }

  /** One question outside of the links, which the other side may refuse to connect. */
  ask(asked: { peerId: string; addresses: readonly string[]; question: Uint8Array; timeoutMs: number }): Promise<Uint8Array> {
    return this.net.ask(asked);
  }

  isConnected(name: string): boolean {
    return this.links.get(name)?.connected ?? false;
  }

  /** Raft's: best effort. */
  send(to: string, frame: Uint8Array): void {
    this.links.get(to)?.send(RAFT, NO_METADATA, frame);
  }

  /** Raft's: its frames leave before its disk is given work. */
  flush(): void {
    for (const link of this.links.values()) link.flush();
  }

  /** Asks another node. Rejects with its error, with `unavailable` if it was not asked, or with `timeout` if nobody knows what it has done. */
  async call<Value>(node: string, method: string, parameters: unknown, timeoutMs: number): Promise<Value> {
    const link = this.links.get(node);
    if (!link) throw unknownNode(node);
    if (!link.connected) throw new ArchipelagoError('unavailable', `node ${node} cannot be reached`, { hint: 'see `archipelago cluster status`' });
    const payload = Buffer.from(JSON.stringify({ method, parameters }));
    const reply = await link.call(CALL, NO_METADATA, payload, { timeoutMs, replyBytes: MAX_REPLY_BYTES });
    return JSON.parse(Buffer.from(reply.payload).toString()) as Value;
  }

  message(link: Link, type: number, _metadata: Uint8Array, payload: Uint8Array): void {
    const from = this.namesByPeer.get(link.peerId);
    if (type === RAFT && from !== undefined) this.options.raftFrame(from, payload);
  }

  request(_link: Link, type: number, _metadata: Uint8Array, payload: Uint8Array, responder: Responder): void {
    if (type !== CALL)
      throw new ArchipelagoError('unsupported-version', `request type ${type} is not known here`, { hint: 'run the same version on all nodes' });
    const { method, parameters } = JSON.parse(Buffer.from(payload).toString()) as { method: string; parameters: unknown };
    this.options.serve(method, parameters).then(
      (value) => responder.reply(0, NO_METADATA, Buffer.from(JSON.stringify(value ?? null))),
      (error: unknown) => responder.fail(ArchipelagoError.from(error, method)),
    );
  }

  stop(): Promise<void> {
    return this.net.stop();
  }
}

function unknownNode(name: string): ArchipelagoError {
  return new ArchipelagoError('not-found', `there is no node '${name}'`, { hint: 'list them with `archipelago cluster status`' });
}
