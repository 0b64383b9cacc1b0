/**
 * The only file that loads libp2p, and it is imported when a host starts: commands that talk to no peer need not wait half a second for it.
 * TCP, Noise and yamux; no identify, no discovery, no auto-dial, and no connection monitor, whose ping opens a stream of 2 ms each time
 * (sessions send a small frame instead).
 */
import { noise } from '@chainsafe/libp2p-noise';
import { yamux } from '@chainsafe/libp2p-yamux';
import type { Connection, Logger, Stream } from '@libp2p/interface';
import { tcp } from '@libp2p/tcp';
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';
import { ArchipelagoError, type Clock } from '../base/index.ts';
import { cut } from './cut.ts';
import { gatherWrites, WINDOW_BYTES } from './fewer-writes.ts';
import type { Identity } from './identity.ts';
import { guardFirstBytes } from './inbound-guard.ts';
import { noiseCrypto } from './noise-crypto.ts';

/** Nothing pauses a stream of ours, so this is only a guard. It must exceed the window. */
const MAX_READ_BUFFER_BYTES = 4 * 1024 * 1024;
/** A stream that the outbox would overfill is reset; the outbox never hands over more than it takes at once. */
const MAX_WRITE_BUFFER_BYTES = 4 * 1024 * 1024;
/** Bytes in a socket's own queue before it asks us to wait. */
const SOCKET_BUFFER_BYTES = 512 * 1024;
/** A stranger that says nothing is dropped after this. */
const INBOUND_UPGRADE_TIMEOUT_MS = 3000;
/** All nodes of an embedded cluster come from one address, and all reconnect at once. */
const INBOUND_CONNECTIONS_PER_SECOND = 200;
const MAX_PENDING_INBOUND = 100;
const MAX_CONNECTIONS = 1000;
/** A connection without a stream of ours is closed after this. */
const IDLE_CONNECTION_MS = 10_000;

export interface Opened {
  stream: Stream;
  connection: Connection;
}

export interface NodeOptions {
  identity: Identity;
  listen: string[];
  clock: Clock;
  isAllowed(peerId: string): boolean;
  /** An authenticated stranger was turned away. */
  denied(peerId: string): void;
  /** Each inbound connection, once it is authenticated and let in. */
  opened(connection: Connection): void;
  /** Inbound streams of these protocols go to `accept`. */
  protocols: string[];
  accept(protocol: string, opened: Opened): void;
}

export interface Node {
  readonly addresses: string[];
  /** Opens a new connection to the peer. */
  dial(peerId: string, addresses: string[], signal: AbortSignal): Promise<Connection>;
  /** Opens a new connection to the peer, never an existing one, and a stream of the protocol on it. */
  open(peerId: string, addresses: string[], protocol: string, signal: AbortSignal): Promise<Opened>;
  /** Closes all connections to a peer. */
  drop(peerId: string): void;
  stop(): Promise<void>;
}

export async function startNode(options: NodeOptions): Promise<Node> {
  for (const address of options.listen) parseAddress(address);
  const libp2p = await createLibp2p({
    start: false,
    privateKey: options.identity.privateKey,
    logger: { forComponent: () => silentLogger },
    addresses: { listen: options.listen },
    transports: [tcp({ dialOpts: socketOptions(), listenOpts: socketOptions() })],
    connectionEncrypters: [(components) => gatherWrites(noise({ crypto: noiseCrypto })(components))],
    streamMuxers: [
      yamux({
        enableKeepAlive: false,
        maxInboundStreams: 8,
        maxOutboundStreams: 8,
        streamOptions: {
          initialStreamWindowSize: WINDOW_BYTES,
          maxStreamWindowSize: WINDOW_BYTES,
          maxReadBufferLength: MAX_READ_BUFFER_BYTES,
          maxWriteBufferLength: MAX_WRITE_BUFFER_BYTES,
        },
      }),
    ],
    connectionMonitor: { enabled: false },
    connectionManager: {
      maxConnections: MAX_CONNECTIONS,
      inboundConnectionThreshold: INBOUND_CONNECTIONS_PER_SECOND,
      maxIncomingPendingConnections: MAX_PENDING_INBOUND,
      inboundUpgradeTimeout: INBOUND_UPGRADE_TIMEOUT_MS,
    },
    connectionGater: {
      denyDialMultiaddr: () => false,
      denyInboundConnection: (connection) => {
        guardFirstBytes(connection);
        return false;
      },
      // The first hook that knows who the peer is, and that it is who it says.
      denyInboundEncryptedConnection: (peer) => {
        const allowed = options.isAllowed(peer.toString());
        if (!allowed) options.denied(peer.toString());
        return !allowed;
      },
    },
  });
  for (const protocol of options.protocols) {
    await libp2p.handle(protocol, (stream, connection) => options.accept(protocol, { stream, connection }), { maxInboundStreams: 1 });
  }
  libp2p.addEventListener('connection:open', ({ detail: connection }) => {
    closeIfUnused(connection, options.clock);
    if (connection.direction === 'inbound') options.opened(connection);
  });
  try {
    await libp2p.start();
  } catch (error) {
    throw cannotListen(options.listen, error);
  }
  return wrap(libp2p, options.clock);
}

/** A multiaddr that TCP can use; `invalid-argument` for anything else. */
function parseAddress(address: string): Multiaddr {
  try {
    return multiaddr(address.split('/p2p/')[0]!);
  } catch (error) {
    throw notAnAddress(address, error);
  }
}

function cannotListen(addresses: string[], cause: unknown): ArchipelagoError {
  return new ArchipelagoError('unavailable', `cannot listen on ${addresses.join(', ')}: ${(cause as Error).message}`, { cause });
}

function notAnAddress(address: string, cause: unknown): ArchipelagoError {
  return new ArchipelagoError('invalid-argument', `'${address}' is not a multiaddr`, { cause, hint: 'for example /ip4/10.0.0.1/tcp/9100' });
}

function wrap(libp2p: Awaited<ReturnType<typeof createLibp2p>>, clock: Clock): Node {
  /** By peer: the dial that is under way. Each is bounded in time by its signal, and so is the wait for it. */
  const dials = new Map<string, Promise<unknown>>();
  /**
   * libp2p joins a dial to a peer that it is already dialling, whatever `force` says, and gives both the same connection: who is done first would
   * close it under the other. A link's dial and a question can come at the same time, so they take turns.
   */
  const dial = async (peerId: string, addresses: string[], signal: AbortSignal): Promise<Connection> => {
    for (let before = dials.get(peerId); before !== undefined; before = dials.get(peerId)) await before;
    signal.throwIfAborted();
    const targets = addresses.map((address) => parseAddress(address).encapsulate(`/p2p/${peerId}`));
    const dialled = libp2p.dial(targets, { force: true, signal });
    // However it ended. A turn later, since libp2p forgets a dial only after it has told its end.
    const over = dialled.catch(() => undefined).then(() => new Promise<void>((resolve) => void clock.setTimer(0, resolve)));
    dials.set(
      peerId,
      over.then(() => dials.delete(peerId)),
    );
    return dialled;
  };
  return {
    dial,
    get addresses() {
      return libp2p.getMultiaddrs().map((address) => address.toString().split('/p2p/')[0]!);
    },
    async open(peerId, addresses, protocol, signal) {
      const connection = await dial(peerId, addresses, signal);
      try {
        // Dials take turns, so this is a bug of ours.
        if (connection.streams.length > 0) throw new ArchipelagoError('internal', 'the dial gave a connection that is in use');
        return { connection, stream: await connection.newStream(protocol, { signal }) };
      } catch (error) {
        if (connection.streams.length === 0) cut(connection, error as Error);
        throw error;
      }
    },
    drop(peerId) {
      for (const connection of libp2p.getConnections()) {
        if (connection.remotePeer.toString() === peerId) cut(connection, new Error('the peer is no longer allowed'));
      }
    },
    async stop() {
      for (const connection of libp2p.getConnections()) cut(connection, new Error('the node stops'));
      await libp2p.stop();
    },
  };
}

/** libp2p hands these to node:net, though its types do not list them all. */
function socketOptions(): { noDelay: boolean } {
  const options = { noDelay: true, highWaterMark: SOCKET_BUFFER_BYTES, writableHighWaterMark: SOCKET_BUFFER_BYTES };
  return options;
}

function closeIfUnused(connection: Connection, clock: Clock): void {
  const timer = clock.setTimer(IDLE_CONNECTION_MS, () => {
    if (connection.streams.length === 0) cut(connection, new Error('nothing was opened on the connection'));
  });
  connection.addEventListener('close', () => timer.cancel());
}

/** libp2p logs several times per frame; even a disabled logger of its own costs more than this. Errors reach us as errors. */
const silentLogger: Logger = Object.assign(() => {}, {
  error() {},
  trace() {},
  enabled: false,
  newScope: () => silentLogger,
});
