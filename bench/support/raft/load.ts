/**
 * The client process of the bench: some clients, each with one put under way at a time, spread over some connections. Run for each measurement
 * anew; tells its parent what it measured.
 */
import { createConnection, type Socket } from 'node:net';
import { EtcdClient } from './etcd.ts';
import { encodePut, frames } from './protocol.ts';

export interface Load {
  readonly system: 'ours' | 'etcd';
  /** Of the leader: a port, or a URL. */
  readonly target: string;
  readonly clients: number;
  readonly connections: number;
  readonly seconds: number;
  readonly valueBytes: number;
}

export interface Measured {
  readonly commitsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly cpuUsPerCommit: number;
}

/** Before it counts: connections, and the engine's compilers on both ends. */
const WARM_UP_SECONDS = 1;
/** Each client goes round so many keys of its own. */
const KEYS = 1000;

type Put = (key: string, value: Uint8Array, done: (error: Error | null) => void) => void;

function registerConnection(port: number): Promise<Put> {
  const waiting = new Map<number, (error: Error | null) => void>();
  let next = 0;
  return new Promise((resolve, reject) => {
    const socket: Socket = createConnection({ host: '127.0.0.1', port, noDelay: true });
    let corked = false;
    const uncork = () => {
      corked = false;
      socket.uncork();
    };
    socket.on('error', reject);
    socket.on('close', () => {
      for (const done of waiting.values()) done(new Error('the register service closed the connection'));
    });
    socket.on(
      'data',
      frames((number) => {
        const done = waiting.get(number);
        waiting.delete(number);
        done!(null);
      }),
    );
    socket.on('connect', () =>
      resolve((key, value, done) => {
        const number = next++;
        waiting.set(number, done);
        if (!corked) {
          corked = true;
          socket.cork();
          process.nextTick(uncork);
        }
        socket.write(encodePut(number, key, value));
      }),
    );
  });
}

async function connections({ system, target, connections: count }: Load): Promise<Put[]> {
  if (system === 'ours') return Promise.all(Array.from({ length: count }, () => registerConnection(Number(target))));
  const clients = Array.from({ length: count }, () => new EtcdClient(target));
  return clients.map((client) => (key, value, done) => client.put(key, value, done));
}

async function measure(load: Load): Promise<Measured> {
  const puts = await connections(load);
  const value = new Uint8Array(load.valueBytes).fill(0x61);
  const beganMs = performance.now() + WARM_UP_SECONDS * 1000;
  const endMs = beganMs + load.seconds * 1000;
  const latencies: number[] = [];
  let cpu: NodeJS.CpuUsage | null = null;
  let running = load.clients;
  await new Promise<void>((resolve, reject) => {
    const client = (name: number, put: Put) => {
      let sentMs = 0;
      let round = 0;
      const send = () => {
        sentMs = performance.now();
        put(`client-${name}-${round++ % KEYS}`, value, done);
      };
      const done = (error: Error | null) => {
        if (error !== null) return reject(error);
        const now = performance.now();
        if (now >= beganMs && now < endMs) {
          cpu ??= process.cpuUsage();
          latencies.push(now - sentMs);
        }
        if (now < endMs) send();
        else if (--running === 0) resolve();
      };
      send();
    };
    for (let name = 0; name < load.clients; name++) client(name, puts[name % puts.length]!);
  });
  const { user, system } = process.cpuUsage(cpu ?? undefined);
  latencies.sort((a, b) => a - b);
  const at = (part: number) => latencies[Math.floor(latencies.length * part)] ?? Number.NaN;
  return {
    commitsPerSecond: latencies.length / load.seconds,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    cpuUsPerCommit: (user + system) / latencies.length,
  };
}

process.once('message', (load: Load) => {
  void measure(load).then((measured) => {
    process.send!(measured);
    process.disconnect();
    process.exit(0);
  });
});
