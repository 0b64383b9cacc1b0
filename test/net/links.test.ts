/** Links between real hosts: what goes in at one end comes out at the other. */
import { afterEach, expect, it } from 'vitest';
import type { Handler } from '../../src/net/index.ts';
import { bytes, connectAll, echo, linkBetween, startMembers, stopAll } from './hosts.ts';

const NONE = new Uint8Array(0);

afterEach(stopAll);

it('carries requests and replies in both directions', async () => {
  const members = await startMembers(2);
  const [a, b] = members as [(typeof members)[0], (typeof members)[0]];
  for (const { host } of members) host.handle('bulk', echo);
  await connectAll(members);
  for (const link of [linkBetween(a, b), linkBetween(b, a)]) {
    const reply = await link.call(7, bytes(30), bytes(5000), { timeoutMs: 5000 });
    expect(reply.status).toBe(7);
    expect(reply.metadata).toEqual(bytes(30));
    expect(Buffer.compare(reply.payload, bytes(5000))).toBe(0);
  }
});
