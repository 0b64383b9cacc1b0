/**
 * Links beside a plain node:net echo, in one run and on one event loop per side: operations per second of small requests, throughput of large
 * ones. `npx node bench/net.ts [seconds per case [part of a case's name]]`; the last line is JSON.
 */
import { fork } from 'node:child_process';
import { createConnection, createServer, type Socket } from 'node:net';
import { type Clock, silentLog } from '../src/base/index.ts';
import { ephemeralIdentity, type Link, NetHost, type Peer } from '../src/net/index.ts';

interface Case {
  name: string;
  bytes: number;
  depth: number;
  unit: 'ops/s' | 'MB/s';
}

const CASES: Case[] = [
  { name: '100 B x 1', bytes: 100, depth: 1, unit: 'ops/s' },
  { name: '100 B x 64', bytes: 100, depth: 64, unit: 'ops/s' },
  { name: '4 KiB x 64', bytes: 4096, depth: 64, unit: 'ops/s' },
  { name: '1 MiB x 8', bytes: 1024 * 1024, depth: 8, unit: 'MB/s' },
];
const SECONDS = Number(process.argv[2] ?? 3);

const clock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  setTimer(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};

/** Runs `start` again for each one that is done, until the time is over. Each `start` calls `done` once. */
type Start = (payload: Uint8Array, done: () => void) => void;

function measure({ bytes, depth, unit }: Case, start: Start): Promise<number> {
  const payload = new Uint8Array(bytes).fill(7);
  return new Promise((resolve) => {
    let finished = 0;
    let running = depth;
    const began = performance.now();
    const done = () => {
      finished += 1;
      if (performance.now() - began < SECONDS * 1000) start(payload, done);
      else if (--running === 0) {
        const perSecond = finished / ((performance.now() - began) / 1000);
        resolve(unit === 'MB/s' ? (perSecond * bytes) / 1e6 : perSecond);
      }
    };
    for (let i = 0; i < depth; i++) start(payload, done);
  });
}

/** The other process: takes payloads and answers with four bytes, through a link and over a plain socket. */
async function serve(): Promise<void> {
  const host = await startHost();
  host.handle('bulk', {
    message() {},
    request: (_link, _type, _metadata, _payload, responder) => responder.reply(0, new Uint8Array(4)),
  });
  const server = createServer({ noDelay: true }, answerPlain).listen(0, '127.0.0.1', () => {
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : 0;
    process.send!({ peer: { peerId: host.peerId, name: 'server', addresses: host.addresses }, port });
  });
  process.on('message', (peer: Peer) => host.setPeers([peer]));
}

function answerPlain(socket: Socket): void {
  let left = 0;
  let header = Buffer.alloc(0);
  socket.on('data', (piece: Buffer) => {
    let at = 0;
    let answers = 0;
    while (at < piece.length) {
      if (left === 0) {
        const part = piece.subarray(at, at + 4 - header.length);
        header = Buffer.concat([header, part]);
        at += part.length;
        if (header.length < 4) break;
        left = header.readUInt32BE(0);
        header = Buffer.alloc(0);
      }
      const take = Math.min(left, piece.length - at);
      at += take;
      left -= take;
      if (left === 0) answers += 1;
    }
    if (answers > 0) socket.write(Buffer.alloc(4 * answers));
  });
  socket.on('error', () => {});
}

async function startHost(): Promise<NetHost> {
  return NetHost.start({
    identity: await ephemeralIdentity(),
    listen: ['/ip4/127.0.0.1/tcp/0'],
    clusterId: 'bench',
    purpose: 'bench',
    clock,
    log: silentLog,
  });
}

function overLink(link: Link): Start {
  const metadata = new Uint8Array(16);
  return (payload, done) => {
    const completion = {
      replied: done,
      failed(error: Error) {
        throw error;
      },
    };
    link.request(1, metadata, payload, completion);
  };
}

function overSocket(socket: Socket): Start {
  const waiting: (() => void)[] = [];
  let got = 0;
  let queued: Uint8Array[] = [];
  socket.on('data', (piece: Buffer) => {
    got += piece.length;
    while (got >= 4) {
      got -= 4;
      waiting.shift()!();
    }
  });
  const flush = () => {
    socket.cork();
    for (const chunk of queued) socket.write(chunk);
    socket.uncork();
    queued = [];
  };
  return (payload, done) => {
    const header = Buffer.allocUnsafe(4);
    header.writeUInt32BE(payload.length, 0);
    if (queued.length === 0) setImmediate(flush);
    queued.push(header, payload);
    waiting.push(done);
  };
}

async function main(): Promise<void> {
  const child = fork(import.meta.filename, ['serve']);
  const { peer, port } = await new Promise<{ peer: Peer; port: number }>((resolve) => {
    child.once('message', (message) => resolve(message as { peer: Peer; port: number }));
  });
  const host = await startHost();
  host.setPeers([peer]);
  child.send({ peerId: host.peerId, name: 'client', addresses: host.addresses });
  const link = host.link(peer.peerId, 'bulk');
  await link.waitUp(10_000);
  const socket = createConnection({ host: '127.0.0.1', port, noDelay: true });
  await new Promise((resolve) => socket.once('connect', resolve));
  const plain = overSocket(socket);
  const results: { case: string; ours: number; peer: number; ratio: number; unit: string }[] = [];
  for (const item of CASES.filter(({ name }) => name.includes(process.argv[3] ?? ''))) {
    const peerResult = await measure(item, plain);
    const cpu = process.cpuUsage();
    const ours = await measure(item, overLink(link));
    const { user, system } = process.cpuUsage(cpu);
    const operations = (ours * SECONDS) / (item.unit === 'MB/s' ? item.bytes / 1e6 : 1);
    const line = `ours ${ours.toFixed(0)} ${item.unit}, node:net ${peerResult.toFixed(0)}, ${((user + system) / operations).toFixed(1)} us CPU each at the sender`;
    process.stdout.write(`${item.name}: ${line}\n`);
    results.push({
      case: item.name,
      ours: Math.round(ours),
      peer: Math.round(peerResult),
      ratio: Number((ours / peerResult).toFixed(3)),
      unit: item.unit,
    });
  }
  socket.destroy();
  await host.stop();
  child.kill();
  process.stdout.write(`${JSON.stringify({ name: 'net', results })}\n`);
}

await (process.argv[2] === 'serve' ? serve() : main());
