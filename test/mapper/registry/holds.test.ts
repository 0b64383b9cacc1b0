/** Open, close, lock and unlock: who keeps whom from what. */
import { describe, expect, it } from 'vitest';
import type { VolumeRecord } from '../../../src/mapper/registry/types.ts';
import { epoch, id, life, ownedDisk, type Story } from './story.ts';

function disk(): Story {
  const story = ownedDisk();
  story.startNode('c');
  return story;
}

const opening = (story: Story, node: string, shared = false) =>
  ({ type: 'open', id: id(1), node, livenessEpoch: story.lifeOf(node), shared }) as const;
const closing = (node: string) => ({ type: 'close', id: id(1), node }) as const;
const locking = (story: Story, node: string) => ({ type: 'lock', id: id(1), node, livenessEpoch: story.lifeOf(node) }) as const;
const unlocking = (node: string) => ({ type: 'unlock', id: id(1), node }) as const;
const revoking = (holder: string) => ({ type: 'revoke', id: id(1), holder }) as const;

/** As `exclusive a`. */
function holdOf({ hold }: VolumeRecord): string {
  return hold === null ? '' : [hold.mode, ...hold.holders.map(({ node }) => node)].join(' ');
}

describe('open', () => {
  it('is exclusive, and works a second time at the same node', () => {
    const story = disk();
    expect(holdOf(story.do(opening(story, 'b')))).toBe('exclusive b');
    expect(holdOf(story.do(opening(story, 'b')))).toBe('exclusive b');
    story.refuse(opening(story, 'c'), 'in-use', /open exclusively at node "b"/);
    story.refuse(opening(story, 'c', true), 'in-use', /exclusively/);
  });

  it('goes from exclusive to shared and back in place, as long as nobody else has come', () => {
    const story = disk();
    story.do(opening(story, 'b'));
    expect(holdOf(story.do(opening(story, 'b', true)))).toBe('shared b');
    expect(holdOf(story.do(opening(story, 'b')))).toBe('exclusive b');
    story.do(opening(story, 'b', true));
    expect(holdOf(story.do(opening(story, 'a', true)))).toBe('shared a b');
    story.refuse(opening(story, 'b'), 'in-use', /open at node "a"/);
  });

  it("follows Ganeti's order of a live migration", () => {
    const story = disk();
    story.do(opening(story, 'a'));
    story.refuse(closing('b'), 'conflict');
    story.do(opening(story, 'a', true));
    story.do(opening(story, 'b', true));
    story.do(closing('a'));
    expect(holdOf(story.do(opening(story, 'b')))).toBe('exclusive b');
  });

  it("does not wait for a holder that has died or expired, and that one's open is still there until then", () => {
    for (const gone of ['restarted', 'expired'] as const) {
      const story = disk();
      story.do(opening(story, 'a'));
      if (gone === 'restarted') story.startNode('a');
      else story.do({ type: 'expireNode', node: 'a', livenessEpoch: life(1), term: 1 });
      expect(holdOf(story.volume(id(1)))).toBe('exclusive a');
      expect(holdOf(story.do(opening(story, 'b')))).toBe('exclusive b');
      story.refuse(closing('a'), 'conflict');
    }
  });

  it('is for volumes', () => {
    const story = disk();
    story.refuse({ ...opening(story, 'a'), id: id(2) }, 'read-only');
    story.refuse({ ...opening(story, 'a'), id: id(9) }, 'not-found');
    story.refuse({ ...opening(story, 'a'), livenessEpoch: life(7) }, 'stale-epoch');
  });
});

describe('close', () => {
  it('fails the second time, and where nothing was opened', () => {
    const story = disk();
    story.refuse(closing('a'), 'conflict', /not open at node "a"/);
    story.do(opening(story, 'a'));
    story.refuse(closing('b'), 'conflict');
    expect(holdOf(story.do(closing('a')))).toBe('');
    story.refuse(closing('a'), 'conflict');
  });
});

describe('lock', () => {
  it('keeps others from opening, closing, unlocking, owning and removing', () => {
    const story = disk();
    story.do(locking(story, 'a'));
    expect(holdOf(story.do(locking(story, 'a')))).toBe('locked a');
    expect(holdOf(story.do(opening(story, 'a')))).toBe('locked a');
    story.refuse(opening(story, 'b'), 'in-use', /locked by node "a"/);
    story.refuse(opening(story, 'a', true), 'in-use');
    story.refuse(closing('a'), 'in-use');
    story.refuse(locking(story, 'b'), 'in-use');
    story.refuse(unlocking('b'), 'in-use', /locked by node "a"/);
    story.refuse({ type: 'handOver', id: id(1), epoch: epoch(1), to: 'b', toLivenessEpoch: life(1) }, 'in-use');
    story.refuse({ type: 'remove', id: id(1), epoch: epoch(1) }, 'in-use');
    story.release(id(1));
    story.refuse({ type: 'acquire', id: id(1), node: 'b', livenessEpoch: life(1), epoch: epoch(1) }, 'in-use');
    story.acquire(id(1), 'a');
    expect(holdOf(story.do(unlocking('a')))).toBe('');
    story.refuse(unlocking('a'), 'conflict', /not locked/);
  });

  it('outlives its holder', () => {
    const story = disk();
    story.do(locking(story, 'a'));
    story.startNode('a');
    story.refuse(opening(story, 'b'), 'in-use');
    story.refuse({ type: 'acquire', id: id(1), node: 'b', livenessEpoch: life(1), epoch: epoch(1) }, 'in-use');
    story.acquire(id(1), 'a');
    story.do(unlocking('a'));
  });

  it('lets the volume move to its holder', () => {
    const story = disk();
    story.do(locking(story, 'b'));
    expect(story.handOver(id(1), 'b').owner?.node).toBe('b');
    story.refuse({ type: 'handOver', id: id(1), epoch: epoch(2), to: 'c', toLivenessEpoch: life(1) }, 'in-use');
  });

  it('waits until others have closed', () => {
    const story = disk();
    story.do(opening(story, 'a', true));
    story.refuse(locking(story, 'b'), 'in-use', /open at node "a"/);
    story.do(closing('a'));
    story.do(locking(story, 'b'));
  });
});

describe('revoke', () => {
  it('fences the holder until it opens again', () => {
    const story = disk();
    story.do(locking(story, 'a'));
    expect(story.do(revoking('a'))).toMatchObject({ hold: null, fenced: ['a'], revoked: true });
    story.refuse(revoking('a'), 'conflict', /not locked/);
    expect(story.do(opening(story, 'b'))).toMatchObject({ fenced: ['a'] });
    story.do(closing('b'));
    expect(story.do(opening(story, 'a'))).toMatchObject({ fenced: [] });
  });

  it('breaks an exclusive open too, and no shared one', () => {
    const story = disk();
    story.do(opening(story, 'b'));
    story.refuse(revoking('a'), 'conflict');
    expect(story.do(revoking('b'))).toMatchObject({ hold: null, fenced: ['b'], revoked: false });
    story.do(opening(story, 'c', true));
    story.refuse(revoking('c'), 'conflict');
  });

  it('of a lock that another node has taken meanwhile leaves the owner to give the volume up as before', () => {
    const story = disk();
    story.do(locking(story, 'a'));
    story.do(revoking('a'));
    story.do(locking(story, 'b'));
    expect(story.do(revoking('b'))).toMatchObject({ owner: { node: 'a' }, fenced: ['a', 'b'], revoked: true });
    // A has no lease for it any more, so that nobody would serve it.
    story.do({ type: 'grant', id: id(1), epoch: epoch(1), term: 1 });
    expect(story.acquire(id(1), 'c')).toMatchObject({ record: { owner: { node: 'c' }, revoked: false } });
  });

  it('is over when the volume has changed hands', () => {
    const story = disk();
    story.do(locking(story, 'a'));
    story.do(revoking('a'));
    expect(story.handOver(id(1), 'b')).toMatchObject({ revoked: false, fenced: ['a'] });
  });
});
