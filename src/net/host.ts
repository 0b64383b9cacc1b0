/** The network of one process: who may connect, one link per peer and class of traffic, and the clock that watches them. */
import { ArchipelagoError, assert, type Clock, type Log, type Timer } from '../base/index.ts';
import { Channel } from './channel.ts';
import { cut } from './cut.ts';
import { Dialer, RefusedError } from './dialer.ts';
import { ASK, type Asked, ask, Guests } from './guests.ts';
import { type Hello, OUR_WIRE_VERSIONS, refuse, shakeAsDialer, shakeAsListener } from './handshake.ts';
import type { Node, Opened } from './libp2p-node.ts';
import { type LinkContext, PeerLink } from './link.ts';
import {
  checkLimits,
  checkTiming,
  DEFAULT_LIMITS,
  DEFAULT_TIMING,
  type Handler,
  type Limits,
  type Link,
  type NetOptions,
  type Peer,
  type Timing,
  TRAFFIC_CLASSES,
  type Traffic,
} from './types.ts';

/** A refused peer has this long to read why. */
const REFUSAL_LINGER_MS = 1000;

interface KnownPeer {
  links: Record<Traffic, PeerLink>;
  allowed: boolean;
  dialer: Dialer | null;
}

export class NetHost implements LinkContext {
  readonly peerId: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: Limits;
  readonly timing: Timing;
  private readonly traffic: readonly Traffic[];
  private readonly protocolPrefix: string;
  private readonly hello: Hello;
  private readonly purpose: string;
  private readonly guests: Guests | null;
  private readonly handlers = new Map<Traffic, Handler>();
  /** Peers of the list, former ones, and those that somebody asked a link for: a link lives as long as the host. */
  private readonly known = new Map<string, KnownPeer>();
  /** Channels whose handshake runs, or whose refusal is on its way. */
  private readonly handshakes = new Set<Channel>();
  private node: Node | null = null;
  private timer: Timer | null = null;
  private stopping: Promise<void> | null = null;

  private constructor(options: NetOptions) {
    this.peerId = options.identity.peerId;
    this.clock = options.clock;
    this.log = options.log.child({ host: options.purpose });
    this.limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.timing = { ...DEFAULT_TIMING, ...options.timing };
    checkLimits(this.limits);
    checkTiming(this.timing);
    this.traffic = options.traffic ?? TRAFFIC_CLASSES;
    this.purpose = options.purpose;
    this.protocolPrefix = `/archipelago/${options.purpose}/`;
    this.guests = options.guests
      ? new Guests({ service: options.guests, isMember: (peerId) => this.isAllowed(peerId), clock: this.clock, log: this.log })
      : null;
    const { maxPayloadBytes, maxMetadataBytes, maxOutstandingRequests, maxOutstandingBytes } = this.limits;
    this.hello = {
      cluster: options.clusterId,
      versions: options.wireVersions ?? OUR_WIRE_VERSIONS,
      limits: { maxPayloadBytes, maxMetadataBytes, maxOutstandingRequests, maxOutstandingBytes },
    };
  }

  /** Listens. Nobody may connect before `setPeers`, so handlers are set in between. */
  static async start(options: NetOptions): Promise<NetHost> {
    const host = new NetHost(options);
    const { startNode } = await import('./libp2p-node.ts');
    host.node = await startNode({
      identity: options.identity,
      listen: options.listen,
      clock: options.clock,
      isAllowed: (peerId) => host.isAllowed(peerId) || (host.stopping === null && (host.guests?.admits(peerId) ?? false)),
      denied: (peerId) => host.log.warn({ peerId }, 'refused a connection: the PeerId is not in the list of peers'),
      opened: (connection) => host.guests?.opened(connection),
      protocols: [...host.traffic, ...(host.guests === null ? [] : [ASK])].map((last) => host.protocolPrefix + last),
      accept: (protocol, opened) => {
        const last = protocol.slice(host.protocolPrefix.length);
        if (last === ASK) host.guests?.accept(opened);
        else host.accept(last as Traffic, opened);
      },
    });
    host.scheduleTick();
    return host;
  }

  /** Multiaddrs that peers can dial, with the ports that were really taken. */
  get addresses(): string[] {
    assert(this.node !== null, 'a host has been started');
    return this.node.addresses;
  }

  /** Replaces the peers that are allowed, and dialled by the one of both with the lower PeerId. Our own entry is ignored. */
  setPeers(peers: Peer[]): void {
    if (this.stopping !== null) return;
    const wanted = new Map(peers.filter((peer) => peer.peerId !== this.peerId).map((peer) => [peer.peerId, peer]));
    for (const [peerId, known] of this.known) {
      if (known.allowed && !wanted.has(peerId)) this.forget(peerId, known);
    }
    for (const peer of wanted.values()) {
      const known = this.know(peer.peerId);
      known.allowed = true;
      for (const traffic of TRAFFIC_CLASSES) known.links[traffic].name = peer.name;
      if (known.dialer !== null) known.dialer.setAddresses(peer.addresses);
      else if (this.peerId < peer.peerId) known.dialer = this.dialerFor(known, peer.addresses);
    }
  }

  /** The link to a peer. The same object for the same arguments, whether the peer is in the list or not. */
  link(peerId: string, traffic: Traffic): Link {
    return this.know(peerId).links[traffic];
  }

  /** Who takes what peers send on a class of traffic. Requests that come before this are refused with `unavailable`, messages dropped. */
  handle(traffic: Traffic, handler: Handler): void {
    assert(!this.handlers.has(traffic), `one handler for ${traffic} traffic`);
    this.handlers.set(traffic, handler);
  }

  /** Asks a peer, in the list or not, one question; see `guests.ts` for how this fails. */
  ask(asked: Asked): Promise<Uint8Array> {
    assert(this.node !== null, 'a host that asks has been started');
    return ask(this.node, this.purpose, asked, this.clock);
  }

  /** Closes everything; outstanding requests fail. Links stay usable objects that are never connected again. */
  stop(): Promise<void> {
    this.stopping ??= this.close();
    return this.stopping;
  }

  handler(traffic: Traffic): Handler | null {
    return this.handlers.get(traffic) ?? null;
  }

  lost(link: PeerLink): void {
    this.known.get(link.peerId)?.dialer?.lost(link);
  }

  private async close(): Promise<void> {
    this.timer?.cancel();
    const error = new ArchipelagoError('unavailable', 'this node stops');
    for (const known of this.known.values()) this.disconnect(known, error);
    for (const channel of [...this.handshakes]) channel.end(error);
    await this.node?.stop();
  }

  private isAllowed(peerId: string): boolean {
    return this.stopping === null && (this.known.get(peerId)?.allowed ?? false);
  }

  private know(peerId: string): KnownPeer {
    let known = this.known.get(peerId);
    if (known === undefined) {
      const links = { control: new PeerLink(peerId, 'control', this), bulk: new PeerLink(peerId, 'bulk', this) };
      known = { links, allowed: false, dialer: null };
      this.known.set(peerId, known);
    }
    return known;
  }

  private forget(peerId: string, known: KnownPeer): void {
    known.allowed = false;
    this.disconnect(known, new ArchipelagoError('forbidden', 'the peer was removed from the list'));
    this.node?.drop(peerId);
  }

  private disconnect(known: KnownPeer, error: ArchipelagoError): void {
    known.dialer?.stop();
    known.dialer = null;
    for (const traffic of TRAFFIC_CLASSES) {
      known.links[traffic].detach(error);
      known.links[traffic].setState({ status: 'idle', error });
    }
  }

  private dialerFor(known: KnownPeer, addresses: string[]): Dialer {
    const links = this.traffic.map((traffic) => known.links[traffic]);
    return new Dialer(links, addresses, (link, to, signal) => this.connect(link, to, signal), this.clock, this.timing);
  }

  /** Opens a connection for a link and shakes hands on it. */
  private async connect(link: PeerLink, addresses: string[], signal: AbortSignal): Promise<void> {
    assert(this.node !== null, 'a host that dials has been started');
    const opened = await this.node.open(link.peerId, addresses, this.protocolPrefix + link.traffic, signal);
    const channel = this.track(opened);
    const onAbort = () => channel.end(new ArchipelagoError('unavailable', `no handshake with ${link.name} in time`));
    signal.addEventListener('abort', onAbort);
    try {
      await new Promise<void>((resolve, reject) => {
        shakeAsDialer(channel, this.hello, {
          agreed: (agreement) => {
            link.attach(channel, agreement);
            resolve();
          },
          failed: (error, refusedBy) => {
            if (refusedBy === 'us') this.linger(channel, error);
            else channel.end(error);
            reject(refusedBy === 'nobody' ? closedEarly(link, error) : new RefusedError(error));
          },
        });
        if (signal.aborted) onAbort();
      });
    } finally {
      signal.removeEventListener('abort', onAbort);
      this.untrack(channel);
    }
  }

  /** A peer has opened a stream. Its PeerId is authenticated and was allowed when the connection came. */
  private accept(traffic: Traffic, opened: Opened): void {
    const peerId = opened.connection.remotePeer.toString();
    if (!this.isAllowed(peerId)) {
      cut(opened.connection, new Error('the peer is not allowed'));
      return;
    }
    const link = this.know(peerId).links[traffic];
    const channel = this.track(opened);
    if (peerId > this.peerId) {
      // With two dialers, two connections would replace each other for ever.
      const error = new ArchipelagoError('forbidden', 'the node with the lower PeerId dials');
      refuse(channel, error);
      this.linger(channel, error);
      return;
    }
    const timer = this.clock.setTimer(this.timing.connectTimeoutMs, () => {
      channel.end(new ArchipelagoError('unavailable', `no handshake from ${link.name} in time`));
    });
    const over = () => {
      timer.cancel();
      this.untrack(channel);
    };
    shakeAsListener(channel, this.hello, {
      agreed: (agreement) => {
        over();
        link.attach(channel, agreement);
      },
      failed: (error, refusedBy) => {
        over();
        if (refusedBy === 'us') this.linger(channel, error);
        else channel.end(error);
        link.setState({ status: refusedBy === 'nobody' ? 'idle' : 'refused', error });
      },
    });
  }
  private track(opened: Opened): Channel {
    const channel = new Channel(opened.stream, opened.connection);
    this.handshakes.add(channel);
    return channel;
  }

  private untrack(channel: Channel): void {
    this.handshakes.delete(channel);
  }

  /** Leaves a refused peer the time to read why; it then closes by itself. */
  private linger(channel: Channel, error: ArchipelagoError): void {
    const end = () => {
      timer.cancel();
      this.handshakes.delete(channel);
      channel.end(error);
    };
    const timer = this.clock.setTimer(REFUSAL_LINGER_MS, end);
    this.handshakes.add(channel);
    channel.listen(
      () => {},
      end,
      () => {},
    );
  }

  /** One timer for all links, so that an idle host wakes as seldom as it can. */
  private scheduleTick(): void {
    const intervalMs = this.timing.keepAliveMs / 2;
    const startedMs = this.clock.nowMs();
    this.timer = this.clock.setTimer(intervalMs, () => {
      // A pause of ours is not the peer's silence: what it sent meanwhile may still wait in the socket.
      const elapsedMs = Math.min(this.clock.nowMs() - startedMs, intervalMs * 1.2);
      for (const { links } of this.known.values()) {
        for (const traffic of this.traffic) links[traffic].tick(elapsedMs);
      }
      if (this.stopping === null) this.scheduleTick();
    });
  }
}

function closedEarly(link: PeerLink, error: ArchipelagoError): ArchipelagoError {
  return new ArchipelagoError('unavailable', `${link.name} closed the connection before the handshake: ${error.message}`, {
    cause: error,
    hint: 'if this goes on, that node does not have the PeerId of this one in its list',
  });
}
