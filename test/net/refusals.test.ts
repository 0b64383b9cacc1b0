/** Who is not let in, and what an operator then reads. */
import { connect } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import type { NetOptions } from '../../src/net/index.ts';
import { connectAll, echo, introduce, linkBetween, type Member, startMember, startMembers, stopAll, until } from './hosts.ts';

const NONE = new Uint8Array(0);

afterEach(stopAll);

/** Two hosts that differ, in an order in which the first dials. */
async function dialerAndListener(ofDialer: Partial<NetOptions>, ofListener: Partial<NetOptions>): Promise<[Member, Member]> {
  for (;;) {
    const dialer = await startMember(ofDialer);
    const listener = await startMember(ofListener);
    if (dialer.host.peerId < listener.host.peerId) return [dialer, listener];
    await dialer.host.stop();
    await listener.host.stop();
  }
}

it('refuses a PeerId that is not in the list', async () => {
  const [stranger, member] = await dialerAndListener({}, {});
  stranger.host.setPeers([{ peerId: member.host.peerId, name: 'member', addresses: member.host.addresses }]);
  await until('the member has refused', () => member.lines.some(({ message }) => message.includes('not in the list')));
  await until('the stranger knows', () => linkBetween(stranger, member, 'control').state.error !== null);
  expect(linkBetween(stranger, member, 'control').connected).toBe(false);
  expect(linkBetween(member, stranger, 'control').connected).toBe(false);
  expect(linkBetween(stranger, member, 'control').state.error?.code).toBe('unavailable');
  expect(member.lines.find(({ message }) => message.includes('not in the list'))?.context['peerId']).toBe(stranger.host.peerId);
});

it('refuses another cluster, and both sides say so', async () => {
  const [a, b] = await dialerAndListener({ clusterId: 'red' }, { clusterId: 'blue' });
  introduce([a, b]);
  await until('both know', () => [linkBetween(a, b, 'control'), linkBetween(b, a, 'control')].every(({ state }) => state.status === 'refused'));
  for (const link of [linkBetween(a, b, 'control'), linkBetween(b, a, 'control')]) {
    expect(link.connected).toBe(false);
    expect(link.state.error).toMatchObject({ code: 'forbidden', message: "peer of cluster 'red' at a node of cluster 'blue'" });
  }
  expect(a.lines.some(({ level, message }) => level === 'warn' && message.includes("cluster 'blue'"))).toBe(true);
});

it('refuses a wire version that it does not speak, and takes the newest that both do', async () => {
  const [a, b] = await dialerAndListener({ wireVersions: { oldest: 2, newest: 3 } }, {});
  introduce([a, b]);
  await until('refused', () => linkBetween(a, b, 'control').state.status === 'refused');
  expect(linkBetween(a, b, 'control').state.error).toMatchObject({ code: 'unsupported-version', message: 'wire versions 2 to 3 meet 1 to 1' });
  const [c, d] = await dialerAndListener({ wireVersions: { oldest: 1, newest: 7 } }, {});
  await connectAll([c, d]);
  expect(c.lines.find(({ message }) => message === 'link up')?.context['wireVersion']).toBe(1);
});

it('does not connect hosts of different purposes', async () => {
  const [a, b] = await dialerAndListener({ purpose: 'control' }, { purpose: 'data' });
  introduce([a, b]);
  await until('an error', () => linkBetween(a, b, 'control').state.error !== null);
  expect(linkBetween(a, b, 'control').state.error?.message).toMatch(/another purpose/);
});

it('goes on when the list changes: the removed lose their links, the added connect', async () => {
  const [a, b, c] = (await startMembers(3)) as [Member, Member, Member];
  for (const { host } of [a, b, c]) host.handle('bulk', echo);
  await connectAll([a, b]);
  const lost: string[] = [];
  linkBetween(a, b).onDown((_incarnation, error) => lost.push(error.code));
  introduce([a, c]);
  await until('a and b are apart', () => !linkBetween(a, b).connected && !linkBetween(b, a).connected);
  expect(lost).toEqual(['forbidden']);
  await linkBetween(a, c).waitUp(10_000);
  expect((await linkBetween(a, c).call(3, NONE, null, { timeoutMs: 5000 })).status).toBe(3);
  introduce([a, b, c]);
  await connectAll([a, b, c]);
  expect((await linkBetween(a, b).call(4, NONE, null, { timeoutMs: 5000 })).status).toBe(4);
});

it('survives garbage on its port without a pause', async () => {
  const [a, b] = (await startMembers(2)) as [Member, Member];
  b.host.handle('bulk', echo);
  await connectAll([a, b]);
  const port = Number(b.host.addresses[0]!.split('/').at(-1));
  const greeting = Buffer.from('\x13/multistream/1.0.0\n');
  const endless = Buffer.alloc(200_000, 0xff);
  const garbage = [
    Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    greeting,
    Buffer.alloc(100_000),
    endless,
    Buffer.concat([greeting, endless]),
    Buffer.alloc(0),
  ];
  const noiseOfNobody = Buffer.concat([greeting, Buffer.from('\x07/noise\n'), endless]);
  let longestMs = 0;
  let lastMs = performance.now();
  const watch = setInterval(() => {
    longestMs = Math.max(longestMs, performance.now() - lastMs);
    lastMs = performance.now();
  }, 5);
  let closed = 0;
  const sockets = [...garbage, noiseOfNobody].map((piece) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(piece));
    return socket
      .on('error', () => {})
      .on('close', () => (closed += 1))
      .resume();
  });
  // Whoever says nothing, or nothing more, is put out after three seconds; the others at once.
  await until('all are closed', () => closed === sockets.length);
  clearInterval(watch);
  expect(longestMs).toBeLessThan(1000);
  expect((await linkBetween(a, b).call(3, NONE, null, { timeoutMs: 5000 })).status).toBe(3);
  expect(linkBetween(a, b).incarnation).toBe(1);
});

it('refuses a listening address that is none, and a port that is taken', async () => {
  await expect(startMember({ listen: ['127.0.0.1:9100'] })).rejects.toMatchObject({ code: 'invalid-argument' });
  const a = await startMember();
  await expect(startMember({ listen: [a.host.addresses[0]!] })).rejects.toMatchObject({ code: 'unavailable' });
});
