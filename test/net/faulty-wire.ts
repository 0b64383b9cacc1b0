/** A TCP proxy that stands for the network between two hosts: it can stop carrying bytes, cut connections, and take no new ones. */
import { connect, createServer, type Server, type Socket } from 'node:net';

export class FaultyWire {
  private readonly server: Server;
  private readonly targetPort: number;
  private readonly sockets = new Set<Socket>();
  private frozen = false;
  private closedToNew = false;
  /** Connections that were ever taken. */
  accepted = 0;

  private constructor(targetPort: number) {
    this.targetPort = targetPort;
    this.server = createServer((client) => this.carry(client));
  }

  /** Stands before a host's multiaddr. */
  static async before(address: string): Promise<FaultyWire> {
    const proxy = new FaultyWire(Number(address.split('/').at(-1)));
    await new Promise<void>((resolve) => proxy.server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get address(): string {
    const address = this.server.address();
    return `/ip4/127.0.0.1/tcp/${typeof address === 'object' ? address?.port : 0}`;
  }

  /** Nothing gets through, and nobody is told. */
  freeze(): void {
    this.frozen = true;
    for (const socket of this.sockets) socket.pause();
  }

  thaw(): void {
    this.frozen = false;
    for (const socket of this.sockets) socket.resume();
  }

  /** Closes what is open. */
  cut(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  refuseNew(refuse: boolean): void {
    this.closedToNew = refuse;
  }

  async stop(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private carry(client: Socket): void {
    this.accepted += 1;
    if (this.closedToNew) {
      client.destroy();
      return;
    }
    const target = connect(this.targetPort, '127.0.0.1');
    this.join(client, target);
    this.join(target, client);
  }

  private join(from: Socket, to: Socket): void {
    this.sockets.add(from);
    from.setNoDelay(true);
    from.on('data', (piece) => {
      if (!to.write(piece)) from.pause();
    });
    to.on('drain', () => {
      if (!this.frozen) from.resume();
    });
    from.on('error', () => {});
    from.on('close', () => {
      this.sockets.delete(from);
      to.destroy();
    });
    if (this.frozen) from.pause();
  }
}
