/** Who may join, who has left for good, and what becomes of a removed node's volumes: each command and refusal as a short story. */
import { describe, expect, it } from 'vitest';
import type { Command } from '../../../src/mapper/registry/types.ts';
import { epoch, hashOf, id, life, ownedDisk, Story } from './story.ts';

const HOUR_MS = 3_600_000;
const EXPIRES_MS = 1_000_000 + HOUR_MS;

const invitation = (name: string, expiresAtMs = EXPIRES_MS, nowMs = 1_000_000) =>
  ({ type: 'invite', invitation: { id: name, secretHash: hashOf(name), expiresAtMs }, nowMs }) as const;

const joining = (name: string, fields: Partial<Extract<Command, { type: 'redeem' }>> = {}) =>
  ({
    type: 'redeem',
    invitationId: 'first',
    secretHash: hashOf('first'),
    nowMs: 1_000_001,
    name,
    peerId: `peer${name}`,
    controlAddresses: [`/dns4/${name}/tcp/1`],
    dataAddresses: [`/dns4/${name}/tcp/2`],
    version: '1.0.0',
    ...fields,
  }) as const;

const removal = (name: string, force = false) => ({ type: 'removeNode', name, peerId: `peer${name}`, controlAddresses: [], force }) as const;

function invited(): Story {
  const story = ownedDisk();
  story.do(invitation('first'));
  return story;
}

describe('invite', () => {
  it('opens an invitation until its time; what has expired goes with the next one', () => {
    const story = invited();
    expect(story.registry.openInvitations(EXPIRES_MS - 1)).toEqual([{ id: 'first', secretHash: hashOf('first'), expiresAtMs: EXPIRES_MS }]);
    expect(story.registry.openInvitations(EXPIRES_MS)).toEqual([]);
    expect(story.stored.has('i/first')).toBe(true);
    story.do(invitation('second', EXPIRES_MS + 1, EXPIRES_MS));
    expect([...story.stored.keys()].filter((key) => key.startsWith('i/'))).toEqual(['i/second']);
    expect(story.reload().openInvitations(0)).toEqual(story.registry.openInvitations(0));
  });

  it('is answered again the same, and refused for the id of another', () => {
    const story = invited();
    story.do(invitation('first'));
    expect(story.registry.openInvitations(0)).toHaveLength(1);
    story.refuse({ ...invitation('first'), invitation: { id: 'first', secretHash: hashOf('x'), expiresAtMs: EXPIRES_MS } }, 'exists');
  });

  it('refuses what is malformed, over before it began, or too many', () => {
    const story = new Story();
    story.refuse(invitation('a/b'), 'invalid-argument');
    story.refuse({ ...invitation('a'), invitation: { id: 'a', secretHash: 'abc', expiresAtMs: EXPIRES_MS } }, 'invalid-argument');
    story.refuse(invitation('a', 1_000_000), 'invalid-argument', /expired/);
    for (let number = 0; number < 32; number++) story.do(invitation(`i${number}`));
    story.refuse(invitation('more'), 'conflict', /32 invitations are open/);
    story.do(invitation('later', EXPIRES_MS * 2, EXPIRES_MS));
  });
});

describe('redeem', () => {
  it('makes a node that was never started, and uses the invitation up', () => {
    const story = invited();
    const node = {
      name: 'c',
      peerId: 'peerc',
      controlAddresses: ['/dns4/c/tcp/1'],
      dataAddresses: ['/dns4/c/tcp/2'],
      livenessEpoch: 0,
      alive: false,
      version: '1.0.0',
    };
    expect(story.do(joining('c'))).toEqual(node);
    expect(story.registry.node('c')).toEqual(node);
    expect(story.registry.openInvitations(0)).toEqual([]);
    expect(story.startNode('c')).toBe(1);
    story.refuse(joining('d'), 'forbidden', /was used/);
  });

  it('is answered again the same to the same node, with its newest addresses, until that was started', () => {
    const story = invited();
    story.do(joining('c'));
    // The reply was lost; the second attempt found other ports.
    expect(story.do(joining('c', { controlAddresses: ['/dns4/c/tcp/9'] }))).toMatchObject({ controlAddresses: ['/dns4/c/tcp/9'], livenessEpoch: 0 });
    story.startNode('c');
    story.refuse(joining('c'), 'exists', /there is a node "c"/);
  });

  it('refuses a wrong secret, an unknown invitation, and one that has expired', () => {
    const story = invited();
    story.refuse(joining('c', { secretHash: hashOf('guess') }), 'forbidden', /no such invitation/);
    story.refuse(joining('c', { invitationId: 'other' }), 'forbidden', /no such invitation/);
    story.refuse(joining('c', { nowMs: EXPIRES_MS }), 'forbidden', /has expired/);
    story.refuse(joining('c', { secretHash: 'x' }), 'invalid-argument');
    story.do(joining('c', { nowMs: EXPIRES_MS - 1 }));
  });

  it('refuses a name or an identity that somebody has, and leaves the invitation open', () => {
    const story = invited();
    story.refuse(joining('a', { peerId: 'peerx' }), 'exists', /there is a node "a"/);
    story.refuse(joining('c', { peerId: 'peera' }), 'exists', /belongs to node "a"/);
    story.refuse(joining('c d'), 'invalid-argument');
    expect(story.registry.openInvitations(0)).toHaveLength(1);
  });

  it('never takes a removed name or identity back', () => {
    const story = invited();
    story.startNode('c');
    story.do(removal('c'));
    story.refuse(joining('c', { peerId: 'peernew' }), 'removed', /its name is not used again/);
    story.refuse(joining('d', { peerId: 'peerc' }), 'removed', /belonged to node "c"/);
    story.do(joining('d'));
  });
});

describe('removeNode', () => {
  it('takes a node out for good, and tells listeners', () => {
    const story = ownedDisk();
    story.events.length = 0;
    expect(story.do(removal('b'))).toEqual({ name: 'b', peerId: 'peerb', controlAddresses: ['/dns4/b/tcp/1'] });
    expect(story.events).toEqual([{ kind: 'nodeRemoved', name: 'b' }]);
    expect(story.registry.nodes().map(({ name }) => name)).toEqual(['a']);
    expect([...story.stored.keys()].sort()).toEqual(['c', 'n/a', 'r/b', 'v/0000000000000001', 'v/0000000000000002']);
    expect(story.reload().removedNodes()).toEqual(story.registry.removedNodes());
    // Its start was under way, or it begins again without knowing.
    const start = { type: 'startNode', name: 'b', peerId: 'peerb', controlAddresses: [], dataAddresses: [], version: '1' } as const;
    story.refuse(start, 'removed');
    story.refuse({ ...start, name: 'z' }, 'removed', /belonged to node "b"/);
    story.refuse({ type: 'acquire', id: id(1), node: 'b', livenessEpoch: life(1), epoch: epoch(1) }, 'not-found');
  });

  it('is refused while the node holds a volume, even one that it got after it was drained', () => {
    const story = ownedDisk();
    story.refuse(removal('a'), 'in-use', /holds 1 volume$/);
    story.handOver(id(1), 'b');
    story.do(removal('a'));
    expect(story.volume(id(1))).toMatchObject({ owner: { node: 'b', epoch: 2 } });
  });

  it('waits until a node that holds something has expired, with force too', () => {
    const story = ownedDisk();
    story.refuse(removal('a', true), 'in-use', /its lease is not over/);
    story.do({ type: 'expireNode', node: 'a', livenessEpoch: life(1), term: 1 });
    story.do(removal('a'));
    expect(story.acquire(id(1), 'b')).toMatchObject({ clean: false, record: { epoch: 2 } });
  });

  it('with force voids what an expired node held: no owner, not clean, its imports gone', () => {
    const story = ownedDisk();
    story.create('half', { importer: { node: 'a', livenessEpoch: life(1) } });
    story.refuse(removal('a'), 'in-use', /holds 2 volumes/);
    story.do({ type: 'expireNode', node: 'a', livenessEpoch: life(1), term: 1 });
    story.refuse(removal('a'), 'in-use', /holds 1 volume/);
    story.do(removal('a', true));
    expect(story.volume(id(1))).toMatchObject({ owner: null, epoch: 1, clean: false });
    expect(story.registry.byName('half')).toBeNull();
    expect(story.acquire(id(1), 'b')).toMatchObject({ clean: false, record: { epoch: 2 } });
  });

  it('is answered the same again, whatever is asked the second time', () => {
    const story = ownedDisk();
    const removed = story.do(removal('b'));
    expect(story.do({ ...removal('b', true), peerId: 'other' })).toEqual(removed);
  });

  it('takes out a first member that never started, as the sender knows it', () => {
    const story = ownedDisk();
    const gone = { type: 'removeNode', name: 'c', peerId: 'peerc', controlAddresses: ['/dns4/c/tcp/7'], force: false } as const;
    expect(story.do(gone)).toEqual({ name: 'c', peerId: 'peerc', controlAddresses: ['/dns4/c/tcp/7'] });
    const start = { type: 'startNode', name: 'c', peerId: 'peerc', controlAddresses: [], dataAddresses: [], version: '1' } as const;
    story.refuse(start, 'removed');
  });

  it('leaves the last node, and refuses names that are none', () => {
    const story = ownedDisk();
    story.do(removal('b'));
    story.refuse(removal('a', true), 'conflict', /the last one/);
    story.refuse(removal('b c'), 'invalid-argument');
  });

  it('leaves no node twice: a state that has it both ways is corrupt', () => {
    const story = ownedDisk();
    const node = story.stored.get('n/b');
    story.do(removal('b'));
    story.stored.set('n/b', node ?? Buffer.of());
    expect(() => story.reload()).toThrow(expect.objectContaining({ code: 'corrupt', message: expect.stringContaining('node b') }));
  });
});
