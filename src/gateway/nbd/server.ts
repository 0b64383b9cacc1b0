/** The NBD server: accepts clients on a Unix socket or TCP port and serves them devices from a directory. */
import { chmodSync, rmSync } from 'node:fs';
import { connect, createServer, type ListenOptions, type Server, type Socket } from 'node:net';
import { ArchipelagoError, type Clock, type Log, type Metrics, noMetrics } from '../../base/index.ts';
import type { DeviceDirectory } from '../../volume/index.ts';
import { adopt } from './adopt.ts';
import { BufferPool } from './buffers.ts';
import { Connection } from './connection.ts';
import type { TransmissionLimits } from './transmission.ts';

/** What sockaddr_un holds. */
const MAX_SOCKET_PATH_BYTES = 107;
const MAX_FREE_BUFFER_BYTES = 32 * 1024 * 1024;

export type NbdAddress = { readonly path: string } | { readonly host: string; readonly port: number };

export interface NbdServerOptions {
  readonly directory: DeviceDirectory;
  readonly log: Log;
  readonly metrics?: Metrics;
  /** Mode of a Unix socket. */
  readonly mode?: number;
  readonly maxConnections?: number;
  /** What one connection may have under way. */
  readonly limits?: Partial<TransmissionLimits>;
  /** With a clock, clients that do not finish their handshake in time are sent away. */
  readonly clock?: Clock;
  readonly handshakeTimeoutMs?: number;
  /** Runs a callback at the end of the turn; `setImmediate` gathers more replies into one write than the default, `process.nextTick`. */
  readonly defer?: (callback: () => void) => void;
}

export class NbdServer {
  private readonly server: Server;
  private readonly options: NbdServerOptions;
  private readonly pool = new BufferPool(MAX_FREE_BUFFER_BYTES);
  private readonly connections = new Set<Connection>();
  private readonly limits: TransmissionLimits;
  private nextConnection = 1;
  private whenEmpty: (() => void) | null = null;

  /** Use `listen`. */
  private constructor(options: NbdServerOptions) {
    this.options = options;
    this.limits = { maxRequests: 256, maxBytes: 64 * 1024 * 1024, ...options.limits };
    this.server = createServer({ pauseOnConnect: true }, (socket) => this.accept(socket));
  }

  /** Starts to serve. A socket file that nobody listens on any more is replaced. */
  static async listen(address: NbdAddress, options: NbdServerOptions): Promise<NbdServer> {
    const server = new NbdServer(options);
    if ('path' in address) await server.bindPath(address.path);
    else await server.bind({ host: address.host, port: address.port }, `${address.host}:${address.port}`);
    server.server.on('error', (error) => options.log.error({ reason: error.message }, 'accepting an NBD client failed'));
    return server;
  }

  /** Clients in the transmission phase. */
  get clients(): number {
    let count = 0;
    for (const connection of this.connections) if (connection.attached) count++;
    return count;
  }

  /** Buffers that connections have; none when no client is left. */
  get buffersInUse(): number {
    return this.pool.taken;
  }

  /** The TCP port, chosen by the system if 0 was asked for; null for a Unix socket. */
  get port(): number | null {
    const address = this.server.address();
    return address === null || typeof address === 'string' ? null : address.port;
  }

  /**
   * Stops accepting, lets the requests under way end and their replies leave, closes all sockets and devices. When `signal` aborts, the
   * sockets are closed at once; what the devices have is still waited for.
   */
  async close(options: { signal?: AbortSignal } = {}): Promise<void> {
    const { signal } = options;
    this.server.close();
    for (const connection of this.connections) connection.stop();
    if (this.connections.size === 0) return;
    const destroyAll = (): void => {
      for (const connection of this.connections) connection.destroy();
    };
    if (signal?.aborted === true) destroyAll();
    else signal?.addEventListener('abort', destroyAll, { once: true });
    await new Promise<void>((resolve) => {
      this.whenEmpty = resolve;
    });
    signal?.removeEventListener('abort', destroyAll);
  }

  private async bindPath(path: string): Promise<void> {
    if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) {
      throw new ArchipelagoError('invalid-argument', `the socket path is longer than ${MAX_SOCKET_PATH_BYTES} bytes: ${path}`, {
        hint: 'choose a data directory with a shorter path',
      });
    }
    try {
      await this.bind({ path }, path);
    } catch (error) {
      if (await isServed(path)) throw error;
      rmSync(path, { force: true });
      await this.bind({ path }, path);
    }
    // Until here the socket lets in less than its mode says, never more: connecting needs write permission.
    chmodSync(path, this.options.mode ?? 0o660);
  }

  private bind(address: ListenOptions, where: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const failed = (error: NodeJS.ErrnoException): void => {
        const taken = error.code === 'EADDRINUSE';
        reject(
          new ArchipelagoError(taken ? 'exists' : 'io-error', `cannot serve NBD on ${where}: ${taken ? 'the address is in use' : error.message}`, {
            cause: error,
          }),
        );
      };
      this.server.once('error', failed);
      this.server.listen(address, () => {
        this.server.removeListener('error', failed);
        resolve();
      });
    });
  }

  private accept(accepted: Socket): void {
    const { directory, log, clock } = this.options;
    const maxConnections = this.options.maxConnections ?? 1024;
    if (this.connections.size >= maxConnections) {
      log.warn({ maxConnections }, 'refused an NBD client: too many are connected');
      accepted.destroy();
      return;
    }
    const connection = new Connection({
      directory,
      log: log.child({ client: this.nextConnection++, ...(accepted.remoteAddress === undefined ? {} : { from: accepted.remoteAddress }) }),
      pool: this.pool,
      limits: this.limits,
      defer: this.options.defer ?? process.nextTick,
      clock: clock ?? null,
      handshakeTimeoutMs: this.options.handshakeTimeoutMs ?? 30_000,
      closed: (closed) => this.forget(closed),
    });
    this.connections.add(connection);
    this.gauge().set(this.connections.size);
    connection.open(adopt(accepted, connection));
  }

  private forget(connection: Connection): void {
    this.connections.delete(connection);
    this.gauge().set(this.connections.size);
    if (this.connections.size === 0) this.whenEmpty?.();
  }

  private gauge() {
    return (this.options.metrics ?? noMetrics).gauge('archipelago_nbd_connections', 'NBD clients that are connected');
  }
}

/** Whether somebody accepts connections on a Unix socket. */
function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
  });
}
