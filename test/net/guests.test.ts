/** Hosts that are in no list: what they may ask, and that they can do nothing else. */
import { connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { ArchipelagoError } from '../../src/base/index.ts';
import { askAsGuest, ephemeralIdentity, type GuestService, type Identity } from '../../src/net/index.ts';
import { connectAll, introduce, linkBetween, type Member, realClock, startMember, startMembers, stopAll, until } from './hosts.ts';

afterEach(stopAll);

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();
const bytesOf = (string: string) => Buffer.from(string);

/** Echoes, and remembers who asked. */
class Door implements GuestService {
  open = true;
  readonly asked: string[] = [];
  admits = () => this.open;
  async answer(peerId: string, question: Uint8Array): Promise<Uint8Array> {
    this.asked.push(peerId);
    if (text(question) === 'refuse') throw new ArchipelagoError('exists', 'the name is taken', { hint: 'another' });
    if (text(question) === 'never') return new Promise(() => undefined);
    return bytesOf(`${text(question)} to you`);
  }
}

async function member(door: Door): Promise<Member> {
  return startMember({ guests: door, purpose: 'control' });
}

async function ask(host: Member, question: string, fields: { identity?: Identity; peerId?: string; timeoutMs?: number } = {}): Promise<string> {
  const identity = fields.identity ?? (await ephemeralIdentity());
  const { peerId = host.host.peerId, timeoutMs = 5000 } = fields;
  const asked = { peerId, addresses: host.host.addresses, question: bytesOf(question), timeoutMs };
  return text(await askAsGuest(identity, 'control', asked, realClock));
}

describe('a stranger', () => {
  it('gets an answer, and is known by its PeerId', async () => {
    const door = new Door();
    const identity = await ephemeralIdentity();
    expect(await ask(await member(door), 'hello', { identity })).toBe('hello to you');
    expect(door.asked).toEqual([identity.peerId]);
  });

  it('is told the refusal as it was given', async () => {
    await expect(ask(await member(new Door()), 'refuse')).rejects.toMatchObject({ code: 'exists', message: 'the name is taken', hint: 'another' });
  });

  it('is turned away while the door is closed, and where there is none', async () => {
    const door = new Door();
    door.open = false;
    await expect(ask(await member(door), 'hello')).rejects.toMatchObject({ code: 'forbidden', message: expect.stringContaining('no stranger') });
    await expect(ask(await startMember({ purpose: 'control' }), 'hello')).rejects.toMatchObject({ code: 'forbidden' });
    expect(door.asked).toEqual([]);
  });

  it('tells nothing to a host with another identity than it expects', async () => {
    const door = new Door();
    const { peerId } = await ephemeralIdentity();
    await expect(ask(await member(door), 'a secret', { peerId })).rejects.toMatchObject({ code: 'unavailable' });
    expect(door.asked).toEqual([]);
  });

  it('has no link, though the door is open', async () => {
    const host = await member(new Door());
    let stranger = await startMember({ purpose: 'control' });
    while (stranger.host.peerId > host.host.peerId) stranger = await startMember({ purpose: 'control' });
    stranger.host.setPeers([{ peerId: host.host.peerId, name: 'host', addresses: host.host.addresses }]);
    await until('the stranger was turned away', () => linkBetween(stranger, host, 'control').state.error !== null);
    expect(linkBetween(stranger, host, 'control').connected).toBe(false);
    expect(linkBetween(host, stranger, 'control').connected).toBe(false);
  });

  it('asks no long question', async () => {
    const door = new Door();
    await expect(ask(await member(door), 'x'.repeat(4097))).rejects.toMatchObject({ code: 'unavailable' });
    expect(door.asked).toEqual([]);
    expect(await ask(await member(door), 'x'.repeat(4096))).toHaveLength(4096 + ' to you'.length);
  });

  it('waits no longer than it wants', async () => {
    await expect(ask(await member(new Door()), 'never', { timeoutMs: 300 })).rejects.toMatchObject({ code: 'timeout' });
  });

  it('is one of four at a time', async () => {
    const door = new Door();
    const host = await member(door);
    const waiting = Array.from({ length: 4 }, () => ask(host, 'never', { timeoutMs: 4000 }).catch((error: ArchipelagoError) => error.code));
    await until('four have asked', () => door.asked.length === 4);
    await expect(ask(host, 'hello')).rejects.toMatchObject({ code: expect.stringMatching(/forbidden|unavailable/) });
    expect(door.asked).toHaveLength(4);
    expect(await Promise.all(waiting)).toEqual(['timeout', 'timeout', 'timeout', 'timeout']);
    // Their places are free again.
    expect(await ask(host, 'hello')).toBe('hello to you');
  });

  it('that only connects is no reason to turn members away', async () => {
    const door = new Door();
    const [a, b] = (await startMembers(2, { guests: door, purpose: 'control' })) as [Member, Member];
    const sockets = Array.from({ length: 8 }, () => connect(Number(b.host.addresses[0]!.split('/').at(-1)), '127.0.0.1').on('error', () => {}));
    await connectAll([a, b]);
    for (const socket of sockets) socket.destroy();
  });
});

it('a member asks beside its links, open door or not', async () => {
  const door = new Door();
  door.open = false;
  const [a, b] = (await startMembers(2, { guests: door, purpose: 'control' })) as [Member, Member];
  introduce([a, b]);
  await connectAll([a, b]);
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    const asked = { peerId: to.host.peerId, addresses: to.host.addresses, question: bytesOf('hello'), timeoutMs: 5000 };
    expect(text(await from.host.ask(asked))).toBe('hello to you');
  }
  expect(linkBetween(a, b, 'control').connected).toBe(true);
  expect(linkBetween(a, b, 'control').incarnation).toBe(1);
});

it('a member may ask while its link is being dialled: neither takes the other’s connection', async () => {
  const [a, b] = (await startMembers(2, { guests: new Door(), purpose: 'control' })) as [Member, Member];
  const asked = { peerId: b.host.peerId, addresses: b.host.addresses, question: bytesOf('hello'), timeoutMs: 5000 };
  // One before the link's dial, one with it, one behind it.
  const answers = [a.host.ask(asked)];
  introduce([a, b]);
  answers.push(a.host.ask(asked), a.host.ask(asked));
  expect((await Promise.all(answers)).map(text)).toEqual(Array(3).fill('hello to you'));
  await linkBetween(a, b, 'control').waitUp(10_000);
  await linkBetween(a, b, 'bulk').waitUp(10_000);
  expect(a.lines.filter(({ level }) => level === 'warn')).toEqual([]);
  expect(linkBetween(a, b, 'control').incarnation).toBe(1);
});
