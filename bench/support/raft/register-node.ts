/**
 * A member of the bench's group, as a process: a `RaftNode` over links of `src/net` with its log on the disk, and registers that clients set
 * over TCP. Talks to its parent over IPC: tells its addresses, is told those of the others.
 */
import { randomBytes } from 'node:crypto';
import { createServer, type Socket } from 'node:net';
import { Prng, silentLog } from '../../../src/base/index.ts';
import { ephemeralIdentity, type Link, NetHost, type Peer } from '../../../src/net/index.ts';
import { systemClock } from '../../../src/node/clock.ts';
import { RaftNode, type StateChange, type StateMachine } from '../../../src/raft/index.ts';
import { frames, REPLY_BYTES } from './protocol.ts';

const RAFT = 1;
const NOTHING = new Uint8Array(0);
const CLUSTER_ID = 'bench';

/** Commands are what clients send: u16 length of the key, key, value. */
class Registers implements StateMachine {
  private readonly values = new Map<string, Uint8Array>();

  apply(command: Uint8Array): { result: Uint8Array; changes: StateChange[] } {
    const bytes = Buffer.from(command.buffer, command.byteOffset, command.byteLength);
    const keyEnd = 2 + bytes.readUInt16BE(0);
    const key = bytes.toString('latin1', 2, keyEnd);
    const value = command.subarray(keyEnd);
    this.values.set(key, value);
    return { result: NOTHING, changes: [{ key, value }] };
  }

  load(entries: Iterable<{ key: string; value: Uint8Array }>): void {
    this.values.clear();
    for (const { key, value } of entries) this.values.set(key, value);
  }
}

function serve(socket: Socket, raft: () => RaftNode): void {
  // The answers of a turn leave in one piece.
  let answered: number[] = [];
  const send = () => {
    const replies = Buffer.allocUnsafe(answered.length * REPLY_BYTES);
    for (const [place, number] of answered.entries()) {
      replies.writeUInt32BE(4, place * REPLY_BYTES);
      replies.writeUInt32BE(number, place * REPLY_BYTES + 4);
    }
    answered = [];
    socket.write(replies);
  };
  const answer = (number: number) => {
    if (answered.push(number) === 1) process.nextTick(send);
  };
  const refused = (error: Error) => socket.destroy(error);
  socket.on(
    'data',
    frames(
      (number, body) =>
        void raft()
          .propose(new Uint8Array(body.buffer, body.byteOffset, body.byteLength))
          .then(() => answer(number), refused),
    ),
  );
  socket.on('error', (error) => process.stderr.write(`client of a register node: ${error.message}\n`));
}

/** What a member tells of itself first. */
export interface Hello {
  readonly peerId: string;
  readonly addresses: string[];
  /** For clients. */
  readonly port: number;
}

/** What it is told then. */
export interface Start {
  readonly id: string;
  readonly directory: string;
  readonly peers: readonly Peer[];
}

async function main(): Promise<void> {
  const net = await NetHost.start({
    identity: await ephemeralIdentity(),
    listen: ['/ip4/127.0.0.1/tcp/0'],
    clusterId: CLUSTER_ID,
    purpose: 'control',
    traffic: ['control'],
    clock: systemClock,
    log: silentLog,
  });
  let raft: RaftNode | null = null;
  const server = createServer({ noDelay: true }, (socket) => serve(socket, () => raft as RaftNode));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };

  process.on('message', (message: Start | 'status') => {
    if (message === 'status') process.send!({ leads: raft?.status().role === 'leader' });
    else void start(message);
  });
  // Not by the signal itself: a profiler of the engine writes its file on a proper exit.
  for (const end of ['disconnect', 'SIGTERM'] as const) process.on(end, () => process.exit(0));

  const start = async ({ id, directory, peers }: Start) => {
    const links = new Map<string, Link>();
    const names = new Map<string, string>();
    for (const { name, peerId } of peers) {
      names.set(peerId, name);
      if (name !== id) links.set(name, net.link(peerId, 'control'));
    }
    net.handle('control', {
      message: (link, _type, _metadata, payload) => raft?.receive(names.get(link.peerId) ?? '', payload),
      request: () => undefined,
    });
    net.setPeers([...peers]);
    raft = await RaftNode.open({
      id,
      directory,
      bootstrap: peers.map(({ name }) => name),
      stateMachine: new Registers(),
      transport: {
        send: (to, frame) => void links.get(to)?.send(RAFT, NOTHING, frame),
        flush: () => {
          for (const link of links.values()) link.flush();
        },
      },
      clock: systemClock,
      log: silentLog,
      random: new Prng(randomBytes(6).readUIntBE(0, 6)),
      fatal: (error) => {
        throw error;
      },
    });
    process.send!('open');
  };
  process.send!({ peerId: net.peerId, addresses: net.addresses, port } satisfies Hello);
}

await main();
