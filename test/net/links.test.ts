/** Links between real hosts: what goes in at one end comes out at the other. */
import { afterEach, expect, it } from 'vitest';
import { ArchipelagoError } from '../../src/base/index.ts';
import type { Completion, Handler, Responder } from '../../src/net/index.ts';
import { bytes, connectAll, echo, linkBetween, type Member, startMembers, stopAll, until } from './hosts.ts';

const NONE = new Uint8Array(0);
const MIB = 1024 * 1024;

afterEach(stopAll);

async function pair(handler: Handler): Promise<[Member, Member]> {
  const [a, b] = (await startMembers(2)) as [Member, Member];
  for (const { host } of [a, b]) host.handle('bulk', handler);
  await connectAll([a, b]);
  return [a, b];
}

const same = (left: Uint8Array, right: Uint8Array) => Buffer.compare(left, right) === 0;

it('carries requests and replies in both directions between three hosts', async () => {
  const members = await startMembers(3);
  for (const { host } of members) {
    host.handle('bulk', echo);
    host.handle('control', echo);
  }
  await connectAll(members);
  for (const from of members) {
    for (const to of members) {
      if (from === to) continue;
      for (const traffic of ['control', 'bulk'] as const) {
        const reply = await linkBetween(from, to, traffic).call(7, bytes(30), bytes(5000), { timeoutMs: 5000 });
        expect(reply.status).toBe(7);
        expect(same(reply.metadata, bytes(30)) && same(reply.payload, bytes(5000))).toBe(true);
      }
    }
  }
});

it('answers thousands of small requests that were sent in one turn, each with its own reply', async () => {
  const [a, b] = await pair(echo);
  const link = linkBetween(a, b);
  const count = 5000;
  const replies = new Map<number, number>();
  let sent = 0;
  const sendSome = () => {
    while (sent < count && link.canRequest(4, 4)) {
      const number = sent++;
      const payload = new Uint8Array(Uint32Array.of(number).buffer);
      const completion: Completion = {
        replied: (status, _metadata, reply) => replies.set(number, new Uint32Array(reply.slice().buffer)[0]! + status),
        failed: (error) => expect.unreachable(error.message),
      };
      link.request(1, NONE, payload, completion, 4);
    }
  };
  link.onWritable(sendSome);
  sendSome();
  expect(sent).toBe(1024);
  await until('all replies', () => replies.size === count);
  for (const [number, value] of replies) expect(value).toBe(number + 1);
  expect(link.outstandingRequests).toBe(0);
});

it('carries 8 MiB payloads both ways at once, with small frames in between', async () => {
  const [a, b] = await pair(echo);
  const large = bytes(8 * MIB, 3);
  const calls: Promise<boolean>[] = [];
  for (const link of [linkBetween(a, b), linkBetween(b, a)]) {
    for (let i = 0; i < 4; i++) {
      calls.push(link.call(1, bytes(i * 7), large, { timeoutMs: 30_000, replyBytes: large.byteLength }).then((reply) => same(reply.payload, large)));
      calls.push(link.call(2, NONE, bytes(i), { timeoutMs: 30_000 }).then((reply) => same(reply.payload, bytes(i))));
    }
  }
  expect(await Promise.all(calls)).toEqual(calls.map(() => true));
});

it('delivers messages in the order of sending, whatever their sizes', async () => {
  const got: { type: number; size: number }[] = [];
  const [a, b] = await pair({ ...echo, message: (_link, type, _metadata, payload) => got.push({ type, size: payload.byteLength }) });
  const sizes = [0, 1, 16 * 1024, 16 * 1024 + 1, 100_000, 3, 2 * MIB, 0, 65_507, 65_508, 17];
  sizes.forEach((size, type) => {
    expect(linkBetween(a, b).send(type, bytes(type), bytes(size))).toBe(true);
  });
  await until('all messages', () => got.length === sizes.length);
  expect(got).toEqual(sizes.map((size, type) => ({ type, size })));
});

it('lets a handler answer later, in any order, and fail with a coded error', async () => {
  const waiting: Responder[] = [];
  const [a, b] = await pair({
    message() {},
    request(_link, type, _metadata, _payload, responder) {
      if (type === 9) throw new ArchipelagoError('stale-epoch', 'another owner', { hint: 'ask again' });
      waiting.push(responder);
    },
  });
  const link = linkBetween(a, b);
  const first = link.call(1, NONE, null, { timeoutMs: 5000 });
  const second = link.call(2, NONE, null, { timeoutMs: 5000 });
  await until('both requests', () => waiting.length === 2);
  waiting[1]!.reply(22, NONE);
  expect((await second).status).toBe(22);
  waiting[0]!.fail(new ArchipelagoError('no-space', 'the store is full'));
  await expect(first).rejects.toMatchObject({ code: 'no-space', message: 'the store is full' });
  await expect(link.call(9, NONE, null, { timeoutMs: 5000 })).rejects.toMatchObject({ code: 'stale-epoch', hint: 'ask again' });
});

it('turns a reply above what the requester allowed into an error, and goes on', async () => {
  const [a, b] = await pair({ ...echo, request: (_link, type, _metadata, _payload, responder) => responder.reply(0, NONE, bytes(type)) });
  const link = linkBetween(a, b);
  await expect(link.call(101, NONE, null, { timeoutMs: 5000, replyBytes: 100 })).rejects.toMatchObject({ code: 'internal' });
  expect((await link.call(100, NONE, null, { timeoutMs: 5000, replyBytes: 100 })).payload.byteLength).toBe(100);
});

it('times out a call whose outcome is then unknown, and ignores the late reply', async () => {
  const waiting: Responder[] = [];
  const [a, b] = await pair({ message() {}, request: (_link, _type, _metadata, _payload, responder) => waiting.push(responder) });
  const link = linkBetween(a, b);
  await expect(link.call(1, NONE, null, { timeoutMs: 30 })).rejects.toMatchObject({ code: 'timeout' });
  expect(link.outstandingRequests).toBe(1);
  await until('the request', () => waiting.length === 1);
  waiting[0]!.reply(0, NONE);
  await until('the place is free', () => link.outstandingRequests === 0);
});

it('lets the receiver keep and change what it got: no later frame touches it', async () => {
  const kept: Uint8Array[] = [];
  const [a, b] = await pair({
    ...echo,
    message(_link, _type, metadata, payload) {
      kept.push(metadata, payload);
      payload.fill(0xee);
    },
  });
  for (let i = 0; i < 50; i++) linkBetween(a, b).send(1, bytes(20, i), bytes(3000, i));
  await linkBetween(a, b).call(1, NONE, bytes(200_000), { timeoutMs: 5000, replyBytes: 200_000 });
  expect(kept.length).toBe(100);
  for (let i = 0; i < 50; i++) {
    expect(same(kept[2 * i]!, bytes(20, i))).toBe(true);
    expect(kept[2 * i + 1]!.every((byte) => byte === 0xee)).toBe(true);
  }
});

it('refuses at the sender what the peer would not take', async () => {
  const [a, b] = await pair(echo);
  const link = linkBetween(a, b);
  expect(() => link.send(1, new Uint8Array(65 * 1024))).toThrow(/too large/);
  await expect(link.call(1, NONE, new Uint8Array(34 * MIB), { timeoutMs: 1000 })).rejects.toMatchObject({ code: 'invalid-argument' });
  expect(link.connected).toBe(true);
});
