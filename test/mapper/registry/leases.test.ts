/** Ownerships that end without their owner: expiry, revocation, a store that failed. */
import { describe, expect, it } from 'vitest';
import { epoch, id, life, ownedDisk } from './story.ts';

const expiry = { type: 'expireNode', node: 'a', livenessEpoch: life(1), term: 1 } as const;

describe('expireNode', () => {
  it('voids everything the node owns in one entry, for a takeover that fences', () => {
    const story = ownedDisk();
    story.create('second');
    story.acquire(id(3), 'a');
    story.create('other');
    story.acquire(id(4), 'b');
    expect(story.do(expiry)).toMatchObject({ name: 'a', livenessEpoch: 1, alive: false });
    for (const volume of [1, 3]) expect(story.volume(id(volume))).toMatchObject({ owner: null, clean: false, epoch: 1 });
    expect(story.volume(id(4)).owner?.node).toBe('b');
    expect(story.acquire(id(1), 'b')).toMatchObject({ clean: false, record: { epoch: 2 } });
  });

  it('takes nothing from a node that has come back since', () => {
    const story = ownedDisk();
    story.startNode('a');
    story.acquire(id(1), 'a');
    story.refuse(expiry, 'stale-epoch');
    story.refuse({ ...expiry, livenessEpoch: life(3) }, 'stale-epoch');
    story.refuse({ ...expiry, node: 'nobody' }, 'not-found');
  });

  // A leader of term 1 waited, was deposed, and its proposal went on to the leader of term 2, which has renewed the lease meanwhile.
  it('counts in an entry of the term that was waited in, and in no other', () => {
    const story = ownedDisk();
    story.term = 2;
    story.refuse(expiry, 'stale-epoch', /term 1/);
    story.do({ ...expiry, term: 2 });
  });

  it('is answered the same when it comes twice', () => {
    const story = ownedDisk();
    story.do(expiry);
    const events = story.events.length;
    expect(story.do(expiry).alive).toBe(false);
    expect(story.events.length).toBe(events);
  });

  it('leaves what the node imports to its next start', () => {
    const story = ownedDisk();
    story.create('half', { importer: { node: 'a', livenessEpoch: life(1) } });
    story.acquire(id(3), 'a');
    story.do(expiry);
    expect(story.volume(id(3))).toMatchObject({ owner: null, importer: 'a' });
    story.startNode('a');
    expect(story.registry.byName('half')).toBeNull();
  });
});

describe('an expired node', () => {
  it('owns nothing and is given nothing until it has a new liveness epoch', () => {
    const story = ownedDisk();
    story.do(expiry);
    const acquire = { type: 'acquire', id: id(1), node: 'a', livenessEpoch: life(1), epoch: epoch(1) } as const;
    story.refuse(acquire, 'stale-epoch', /expired/);
    story.acquire(id(1), 'b');
    story.refuse({ type: 'handOver', id: id(1), epoch: epoch(2), to: 'a', toLivenessEpoch: life(1) }, 'stale-epoch', /expired/);
    story.refuse({ type: 'lock', id: id(1), node: 'a', livenessEpoch: life(1) }, 'stale-epoch');
    expect(story.do({ type: 'reviveNode', node: 'a', livenessEpoch: life(1) })).toMatchObject({ livenessEpoch: 2, alive: true });
    story.refuse(acquire, 'stale-epoch');
    story.handOver(id(1), 'a');
  });

  it('is revived once, and only when it has expired', () => {
    const story = ownedDisk();
    const revive = { type: 'reviveNode', node: 'a', livenessEpoch: life(1) } as const;
    story.refuse(revive, 'conflict');
    story.do(expiry);
    story.do(revive);
    story.refuse(revive, 'stale-epoch');
    expect(story.lifeOf('a')).toBe(2);
  });

  it('comes back by a start as well', () => {
    const story = ownedDisk();
    story.do(expiry);
    expect(story.startNode('a')).toBe(2);
    story.acquire(id(1), 'a');
  });
});

describe('releaseUnclean', () => {
  it('gives the volume up, and the next owner has to fence', () => {
    const story = ownedDisk();
    story.do({ type: 'releaseUnclean', id: id(1), epoch: epoch(1) });
    expect(story.volume(id(1))).toMatchObject({ owner: null, clean: false });
    expect(story.acquire(id(1), 'a')).toMatchObject({ clean: false, record: { epoch: 2 } });
    story.refuse({ type: 'releaseUnclean', id: id(1), epoch: epoch(1) }, 'stale-epoch');
  });
});

describe('grant', () => {
  const locked = () => {
    const story = ownedDisk();
    story.do({ type: 'lock', id: id(1), node: 'a', livenessEpoch: life(1) });
    return story;
  };
  const grant = { type: 'grant', id: id(1), epoch: epoch(1), term: 1 } as const;

  it('ends the ownership of a broken lock, and of nothing else', () => {
    const story = locked();
    story.refuse(grant, 'stale-epoch');
    story.do({ type: 'revoke', id: id(1), holder: 'a' });
    expect(story.volume(id(1))).toMatchObject({ owner: { node: 'a' }, revoked: true });
    story.term = 2;
    story.refuse(grant, 'stale-epoch', /term 1/);
    story.do({ ...grant, term: 2 });
    expect(story.volume(id(1))).toMatchObject({ owner: null, revoked: false, clean: false });
  });

  it('is not needed where the owner has consented', () => {
    const story = locked();
    story.do({ type: 'revoke', id: id(1), holder: 'a' });
    story.release(id(1));
    expect(story.volume(id(1))).toMatchObject({ owner: null, revoked: false, clean: true });
    story.acquire(id(1), 'b');
    story.refuse(grant, 'stale-epoch');
  });

  it('is not needed where the lock was held by another node than the owner', () => {
    const story = ownedDisk();
    story.do({ type: 'lock', id: id(1), node: 'b', livenessEpoch: life(1) });
    expect(story.do({ type: 'revoke', id: id(1), holder: 'b' })).toMatchObject({ owner: { node: 'a' }, revoked: false, fenced: ['b'] });
  });
});
