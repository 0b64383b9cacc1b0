/** What we do inside libp2p still reaches its goal: a later version may have moved what we look for. */
import type { Socket } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { bytes, connectAll, echo, linkBetween, type Member, startMembers, stopAll, until } from './hosts.ts';

const NONE = new Uint8Array(0);

afterEach(stopAll);

/** Counts the system calls that write on the connection of a link. */
function countWrites(from: Member, to: Member): { calls: number } {
  const link = linkBetween(from, to) as unknown as { session: { channel: { connection: { maConn: { socket: Socket } } } } };
  const { _handle: handle } = link.session.channel.connection.maConn.socket as unknown as {
    _handle: Record<string, (...args: unknown[]) => unknown>;
  };
  const counter = { calls: 0 };
  for (const name of ['writev', 'writeBuffer']) {
    const original = handle[name]!;
    handle[name] = (...args) => {
      counter.calls += 1;
      return original.apply(handle, args);
    };
  }
  return counter;
}

it('sends many small frames of one turn, and a large one, in few system calls', async () => {
  const [a, b] = (await startMembers(2)) as [Member, Member];
  let received = 0;
  b.host.handle('bulk', { ...echo, message: () => (received += 1) });
  await connectAll([a, b]);
  const ofSender = countWrites(a, b);
  for (let i = 0; i < 300; i++) linkBetween(a, b).send(1, NONE, bytes(100));
  await until('all small ones', () => received === 300);
  expect(ofSender.calls).toBeLessThanOrEqual(4);
  linkBetween(a, b).send(1, NONE, bytes(1024 * 1024));
  await until('the large one', () => received === 301);
  expect(ofSender.calls).toBeLessThanOrEqual(30);
});

it('writes at once what is flushed, and the rest at the end of the turn', async () => {
  const [a, b] = (await startMembers(2)) as [Member, Member];
  let received = 0;
  b.host.handle('bulk', { ...echo, message: () => (received += 1) });
  await connectAll([a, b]);
  const link = linkBetween(a, b);
  const ofSender = countWrites(a, b);
  for (let i = 0; i < 10; i++) link.send(1, NONE, bytes(100));
  expect(ofSender.calls).toBe(0);
  link.flush();
  link.flush();
  expect(ofSender.calls).toBe(1);
  for (let i = 0; i < 10; i++) link.send(1, NONE, bytes(100));
  expect(ofSender.calls).toBe(1);
  await until('all of them', () => received === 20);
  // One more may be a keep-alive.
  expect(ofSender.calls).toBeLessThanOrEqual(3);
});

it('announces window once in a while, not for every frame that comes', async () => {
  const [a, b] = (await startMembers(2)) as [Member, Member];
  let received = 0;
  b.host.handle('bulk', { ...echo, message: () => (received += 1) });
  await connectAll([a, b]);
  const ofReceiver = countWrites(b, a);
  for (let i = 1; i <= 60; i++) {
    linkBetween(a, b).send(1, NONE, bytes(60_000));
    await until('the frame', () => received === i);
  }
  // One for each half mebibyte, which makes six. The rest are keep-alives.
  expect(ofReceiver.calls).toBeLessThanOrEqual(20);
});

it('throws nothing for a message, and tells nobody who does not listen', async () => {
  const [a, b] = (await startMembers(2)) as [Member, Member];
  let received = 0;
  b.host.handle('bulk', { ...echo, message: () => (received += 1) });
  await connectAll([a, b]);
  type Decoder = { lengthDecoder(): number; decode(piece: Uint8Array): Iterable<{ subarray(): Uint8Array }> };
  type Layer = EventTarget & { decoder: Decoder };
  const secured = ({ host }: Member, peer: Member) => {
    const link = linkBetween({ host } as Member, peer) as unknown as { session: { channel: { connection: { muxer: { maConn: Layer } } } } };
    return link.session.channel.connection.muxer.maConn;
  };
  const idle: string[] = [];
  const sending = secured(a, b);
  const { dispatchEvent } = sending;
  sending.dispatchEvent = (event) => {
    idle.push(event.type);
    return dispatchEvent.call(sending, event);
  };
  linkBetween(a, b).send(1, NONE, bytes(100));
  await until('the message', () => received === 1);
  expect(idle.filter((type) => type === 'idle')).toEqual([]);

  // The end of a piece is found without one, wherever the pieces are cut.
  const { decoder } = secured(b, a);
  decoder.lengthDecoder = () => expect.unreachable('Noise cuts its input by itself again');
  const input = Uint8Array.of(0, 1, 7, 0, 0, 0, 2, 8, 9, 0);
  const messages: number[][] = [];
  for (const byte of input) for (const message of decoder.decode(Uint8Array.of(byte))) messages.push([...message.subarray()]);
  for (const message of decoder.decode(Uint8Array.of(1, 3, 0, 1, 4))) messages.push([...message.subarray()]);
  expect(messages).toEqual([[7], [8, 9], [3], [4]]);
});
