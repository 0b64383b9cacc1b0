/** Links over a network that stalls, breaks and comes back. */
import { afterEach, expect, it } from 'vitest';
import type { ArchipelagoError } from '../../src/base/index.ts';
import type { Completion, NetOptions, Responder } from '../../src/net/index.ts';
import { FaultyWire } from './faulty-wire.ts';
import { bytes, echo, linkBetween, type Member, realClock, startMembers, stopAll, until } from './hosts.ts';

const NONE = new Uint8Array(0);
const MIB = 1024 * 1024;
const proxies: FaultyWire[] = [];

afterEach(async () => {
  await stopAll();
  for (const proxy of proxies.splice(0)) await proxy.stop();
});

/** `a` reaches `b` through a proxy. Only one side dials, so that is all of their traffic. */
async function pairThroughProxy(options: Partial<NetOptions> = {}): Promise<{ a: Member; b: Member; proxy: FaultyWire }> {
  const [a, b] = (await startMembers(2, options)) as [Member, Member];
  const proxy = await FaultyWire.before(b.host.addresses[0]!);
  proxies.push(proxy);
  a.host.setPeers([{ peerId: b.host.peerId, name: 'b', addresses: [proxy.address] }]);
  b.host.setPeers([{ peerId: a.host.peerId, name: 'a', addresses: [] }]);
  return { a, b, proxy };
}

async function bothUp(a: Member, b: Member): Promise<void> {
  for (const traffic of ['control', 'bulk'] as const) {
    await linkBetween(a, b, traffic).waitUp(20_000);
    await linkBetween(b, a, traffic).waitUp(20_000);
  }
}

/** Counts what becomes of a request. */
function counting(): Completion & { replies: number; failures: ArchipelagoError[] } {
  return {
    replies: 0,
    failures: [],
    replied() {
      this.replies += 1;
    },
    failed(error) {
      this.failures.push(error);
    },
  };
}

it('fails each outstanding request once when the connection breaks, reconnects, and serves new ones', async () => {
  const { a, b, proxy } = await pairThroughProxy();
  const held: Responder[] = [];
  b.host.handle('bulk', { message() {}, request: (_l, type, _m, _p, responder) => (type === 1 ? held.push(responder) : responder.reply(2, NONE)) });
  await bothUp(a, b);
  const link = linkBetween(a, b);
  const downs: number[] = [];
  const order: string[] = [];
  link.onDown((incarnation) => {
    downs.push(incarnation);
    order.push('down');
  });
  link.onUp(() => order.push('up'));
  const requests = Array.from({ length: 20 }, counting);
  for (const request of requests) link.request(1, NONE, bytes(1000), request);
  await until('the requests are there', () => held.length === 20);

  // Asking again from within the failure must not reach the dead connection, nor vanish.
  const again = counting();
  requests[0]!.failed = (error) => {
    requests[0]!.failures.push(error);
    link.request(1, NONE, null, again);
  };
  proxy.cut();
  await until('down', () => downs.length === 1);
  await until('the repeated request failed', () => again.failures.length === 1);
  for (const { failures, replies } of requests) {
    expect(replies).toBe(0);
    // It may have been done: `unavailable` would say that it was not.
    expect(failures.map(({ code }) => code)).toEqual(['timeout']);
  }
  expect(link.outstandingRequests).toBe(0);

  await bothUp(a, b);
  expect(link.incarnation).toBe(2);
  // Answers to the old connection's requests go nowhere, not to requests of the new one with the same numbers.
  const fresh = counting();
  link.request(1, NONE, null, fresh);
  for (const responder of held.splice(0, 20)) responder.reply(99, NONE);
  expect((await link.call(2, NONE, null, { timeoutMs: 5000 })).status).toBe(2);
  expect(fresh.replies).toBe(0);
  expect(order).toEqual(['down', 'up']);
});

it('notices a silent peer in about 1.5 s, on both sides, and comes back when it does', async () => {
  const { a, b, proxy } = await pairThroughProxy();
  await bothUp(a, b);
  // Longer than the time after which silence counts: keep-alives hold an idle link up.
  await new Promise((resolve) => setTimeout(resolve, 2500));
  expect([linkBetween(a, b).incarnation, linkBetween(b, a).incarnation]).toEqual([1, 1]);
  const reasons: string[] = [];
  for (const link of [linkBetween(a, b), linkBetween(b, a)]) link.onDown((_incarnation, error) => reasons.push(error.message));
  const frozenMs = realClock.nowMs();
  proxy.freeze();
  await until('both sides are down', () => !linkBetween(a, b).connected && !linkBetween(b, a).connected);
  const tookMs = realClock.nowMs() - frozenMs;
  expect(reasons[0]).toMatch(/silent for/);
  expect(tookMs).toBeGreaterThan(900);
  expect(tookMs).toBeLessThan(3000);
  proxy.thaw();
  proxy.cut();
  await bothUp(a, b);
});

it('does not take its own pauses for the peer’s silence', async () => {
  // A paused process sees only that much time has passed when it looks again. Ten pauses of ten seconds meet the links in all phases.
  let pausedMs = 0;
  const { a, b } = await pairThroughProxy({ clock: { ...realClock, nowMs: () => realClock.nowMs() + pausedMs } });
  await bothUp(a, b);
  for (let i = 0; i < 10; i++) {
    pausedMs += 10_000;
    await new Promise((resolve) => setTimeout(resolve, 130));
  }
  for (const traffic of ['control', 'bulk'] as const) {
    expect(linkBetween(a, b, traffic).incarnation).toBe(1);
    expect(linkBetween(b, a, traffic).connected).toBe(true);
  }
});

it('bounds the memory of a sender whose peer does not read, drops messages there, and goes on afterwards', async () => {
  const limits = { maxQueuedBytes: 4 * MIB, maxPayloadBytes: 8 * MIB, maxOutstandingBytes: 16 * MIB };
  const { a, b, proxy } = await pairThroughProxy({ limits, timing: { deadPeerMs: 60_000 } });
  let received = 0;
  b.host.handle('bulk', { ...echo, message: () => (received += 1) });
  await bothUp(a, b);
  const link = linkBetween(a, b);
  proxy.freeze();
  let accepted = 0;
  // Let the network's own buffers fill as well: until the queue has been full for a while.
  for (let refused = 0; refused < 20; ) {
    if (link.send(1, NONE, bytes(256 * 1024))) accepted += 1;
    else refused += 1;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  expect(link.writable).toBe(false);
  expect(link.queuedBytes).toBeLessThan(4 * MIB + 256 * 1024 + 100);
  const requests: (Completion & { replies: number; failures: ArchipelagoError[] })[] = [];
  for (let i = 0; i < 100; i++) {
    const request = counting();
    requests.push(request);
    link.request(1, NONE, bytes(MIB), request, MIB);
  }
  expect(link.outstandingRequests).toBe(8);
  await until('the rest was refused', () => requests.filter(({ failures }) => failures.length === 1).length === 92);
  let writable = 0;
  link.onWritable(() => (writable += 1));
  proxy.thaw();
  await until('the requests are answered', () => requests.filter(({ replies }) => replies === 1).length === 8, 30_000);
  expect(received).toBe(accepted);
  expect(writable).toBeGreaterThan(0);
  expect(link.writable).toBe(true);
  expect(link.incarnation).toBe(1);
});

it('closes the connection of a peer that asks for more than it was allowed', async () => {
  const { a, b } = await pairThroughProxy({ limits: { maxOutstandingRequests: 4 } });
  b.host.handle('bulk', { message() {}, request() {} });
  await bothUp(a, b);
  const link = linkBetween(a, b);
  const reasons: string[] = [];
  linkBetween(b, a).onDown((_incarnation, error) => reasons.push(error.message));
  // A sender that does not count.
  const session = (link as unknown as { session: { maxRequests: number } }).session;
  session.maxRequests = 100;
  for (let i = 0; i < 5; i++) link.request(1, NONE, null, counting());
  await until('the connection is closed', () => reasons.length === 1);
  expect(reasons[0]).toMatch(/more requests than it was allowed/);
});

it('closes the connection of a peer that sends an oversize frame', async () => {
  const limits = { maxPayloadBytes: MIB };
  const { a, b } = await pairThroughProxy({ limits });
  let received = 0;
  b.host.handle('bulk', { ...echo, message: () => (received += 1) });
  await bothUp(a, b);
  const reasons: string[] = [];
  linkBetween(b, a).onDown((_incarnation, error) => reasons.push(error.message));
  const session = (linkBetween(a, b) as unknown as { session: { maxPayloadBytes: number } }).session;
  session.maxPayloadBytes = 4 * MIB;
  linkBetween(a, b).send(1, NONE, bytes(2 * MIB));
  await until('the connection is closed', () => reasons.length === 1);
  expect(reasons[0]).toMatch(/exceeds the limit/);
  expect(received).toBe(0);
  await bothUp(a, b);
});

it('backs off while the peer is away', async () => {
  const { a, b, proxy } = await pairThroughProxy({ timing: { minBackoffMs: 50, maxBackoffMs: 400 } });
  proxy.refuseNew(true);
  await until('a few attempts', () => proxy.accepted >= 3);
  const before = proxy.accepted;
  await new Promise((resolve) => setTimeout(resolve, 1300));
  expect(proxy.accepted - before).toBeLessThanOrEqual(6);
  expect(linkBetween(a, b).state).toMatchObject({ status: 'connecting', error: { code: 'unavailable' } });
  proxy.refuseNew(false);
  await bothUp(a, b);
});
