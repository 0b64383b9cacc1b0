/** The commands that make, change and remove volumes and snapshots, each with its refusals, as short stories. */
import { describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../../src/base/index.ts';
import { MAX_LABELS } from '../../../src/mapper/registry/names.ts';
import { creation, epoch, GIB, generation, id, KIB, life, MIB, NOON, ownedDisk, Story } from './story.ts';

const ROOT = { generation: generation(3), sequence: 7, checksum: 0xdead_beef, blocks: 256 };

describe('create', () => {
  it('makes a volume that nobody owns yet', () => {
    const story = new Story();
    expect(story.create('disk', { labels: { b: '2', a: '1' } })).toEqual({
      id: 1,
      name: 'disk',
      kind: 'volume',
      sizeBytes: GIB,
      blockSizeBytes: 4 * MIB,
      originId: null,
      owner: null,
      epoch: 0,
      clean: true,
      revoked: false,
      hold: null,
      fenced: [],
      root: null,
      openGenerations: [],
      reservation: null,
      zeroFromBytes: null,
      importer: null,
      labels: { a: '1', b: '2' },
      createdAt: NOON,
    });
    expect(story.registry.byName('disk')).toBe(story.registry.byId(id(1)));
  });

  it('refuses a taken name: a volume, a snapshot, or an import that nobody sees yet', () => {
    const story = ownedDisk();
    story.create('half', { importer: { node: 'a', livenessEpoch: life(1) } });
    story.refuse(creation('disk'), 'exists', /taken by a volume/);
    story.refuse(creation('base'), 'exists', /taken by a snapshot/);
    story.refuse(creation('half'), 'exists', /importing/);
  });

  const bad: [string, object][] = [
    ['a name with a slash', { name: 'a/b' }],
    ['no size', { sizeBytes: 0 }],
    ['half a sector', { sizeBytes: 256 }],
    ['a fraction', { sizeBytes: 512.5 }],
    ['more blocks than 32 bits count', { sizeBytes: 2 ** 49, blockSizeBytes: 64 * KIB }],
    ['a block size of 3 MiB', { blockSizeBytes: 3 * MIB }],
    ['a label without a key', { labels: { '': 'x' } }],
    ['a local time', { createdAt: '2026-01-31 12:00' }],
  ];
  it.each(bad)('refuses %s', (_, fields) => new Story().refuse(creation('disk', fields), 'invalid-argument'));

  it('refuses an import whose node has restarted since, even though the command commits after the start', () => {
    const story = ownedDisk();
    const late = creation('half', { importer: { node: 'a', livenessEpoch: life(1) } });
    story.startNode('a');
    story.refuse(late, 'stale-epoch', /restarted/);
    story.refuse(creation('half', { importer: { node: 'nobody', livenessEpoch: life(1) } }), 'not-found');
  });
});

describe('clone', () => {
  it('starts at the map of its snapshot and keeps its block size', () => {
    const story = ownedDisk();
    story.do({ type: 'snapshot', id: id(1), epoch: epoch(1), generation: generation(3), name: 'full', root: ROOT, createdAt: NOON });
    const clone = story.do({ type: 'clone', snapshotId: id(3), name: 'copy', sizeBytes: null, createdAt: NOON });
    expect(clone).toMatchObject({
      id: 4,
      kind: 'volume',
      originId: 3,
      root: ROOT,
      sizeBytes: GIB,
      blockSizeBytes: 4 * MIB,
      owner: null,
      epoch: 0,
      clean: true,
    });
    expect(story.registry.originName(clone)).toBe('full');
    story.do({ type: 'remove', id: id(3), epoch: epoch(0) });
    expect(story.registry.originName(clone)).toBeNull();
    expect(story.volume(id(4)).root).toEqual(ROOT);
  });

  it('may be larger than its snapshot', () => {
    const story = ownedDisk();
    expect(story.do({ type: 'clone', snapshotId: id(2), name: 'copy', sizeBytes: 2 * GIB, createdAt: NOON }).sizeBytes).toBe(2 * GIB);
  });

  const bad: [string, ErrorCode, object][] = [
    ['of a volume', 'invalid-argument', { snapshotId: id(1) }],
    ['of nothing', 'not-found', { snapshotId: id(9) }],
    ['smaller than its snapshot', 'invalid-argument', { sizeBytes: GIB - 512 }],
    ['of an odd size', 'invalid-argument', { sizeBytes: GIB + 1 }],
    ['under a taken name', 'exists', { name: 'base' }],
    ['under a name with a slash', 'invalid-argument', { name: 'a/b' }],
    ['at no time', 'invalid-argument', { createdAt: 'now' }],
  ];
  it.each(bad)('refuses one %s', (_, code, fields) => {
    ownedDisk().refuse({ type: 'clone', snapshotId: id(2), name: 'copy', sizeBytes: null, createdAt: NOON, ...fields }, code);
  });
});

describe('snapshot', () => {
  it('records the root under a name and an id of its own, and leaves the volume as it is', () => {
    const story = ownedDisk();
    const before = story.volume(id(1));
    const snapshot = story.do({ type: 'snapshot', id: id(1), epoch: epoch(1), generation: generation(3), name: 'cut', root: ROOT, createdAt: NOON });
    expect(snapshot).toMatchObject({
      id: 3,
      name: 'cut',
      kind: 'snapshot',
      originId: 1,
      root: ROOT,
      sizeBytes: GIB,
      owner: null,
      epoch: 0,
      labels: {},
    });
    expect(story.registry.originName(snapshot)).toBe('disk');
    expect(story.volume(id(1))).toEqual({ ...before, openGenerations: [3], reservation: null });
  });

  it('needs the generation that was reserved last, once, and not one that was given back', () => {
    const story = ownedDisk();
    const cut = { type: 'snapshot', id: id(1), epoch: epoch(1), name: 'cut', root: null, createdAt: NOON } as const;
    expect(story.reserve(id(1))).toBe(4);
    story.refuse({ ...cut, generation: generation(3) }, 'conflict', /not reserved/);
    story.do({ type: 'cancelReservation', id: id(1), epoch: epoch(1), generation: generation(3) });
    story.do({ ...cut, generation: generation(4) });
    story.refuse({ ...cut, name: 'twice', generation: generation(4) }, 'conflict');
    expect(story.reserve(id(1))).toBe(5);
    expect(story.do({ type: 'cancelReservation', id: id(1), epoch: epoch(1), generation: generation(5) })).toMatchObject({
      openGenerations: [4, 5],
      reservation: null,
    });
    story.refuse({ ...cut, name: 'late', generation: generation(5) }, 'conflict');
  });

  it('refuses a taken or a bad name, and a volume that has yet to drop what a shrink cut off', () => {
    const story = ownedDisk();
    const cut = { type: 'snapshot', id: id(1), epoch: epoch(1), generation: generation(3), name: 'cut', root: null, createdAt: NOON } as const;
    story.refuse({ ...cut, name: 'base' }, 'exists');
    story.refuse({ ...cut, name: 'disk' }, 'exists');
    story.refuse({ ...cut, name: '' }, 'invalid-argument');
    story.refuse({ ...cut, createdAt: '' }, 'invalid-argument');
    story.resize(id(1), MIB, true);
    story.refuse(cut, 'in-use', /being dropped/);
    story.do({ type: 'clearZeroFrom', id: id(1), epoch: epoch(1), zeroFromBytes: MIB });
    story.do(cut);
  });
});

describe('resize', () => {
  it('grows, and shrinks when told so', () => {
    const story = ownedDisk();
    expect(story.resize(id(1), 2 * GIB)).toMatchObject({ sizeBytes: 2 * GIB, zeroFromBytes: null, epoch: 1 });
    expect(story.resize(id(1), 2 * GIB)).toMatchObject({ sizeBytes: 2 * GIB, zeroFromBytes: null });
    expect(story.resize(id(1), GIB, true)).toMatchObject({ sizeBytes: GIB, zeroFromBytes: GIB });
    expect(story.resize(id(1), MIB, true)).toMatchObject({ sizeBytes: MIB, zeroFromBytes: MIB });
    expect(story.resize(id(1), MIB)).toMatchObject({ sizeBytes: MIB, zeroFromBytes: MIB });
  });

  it('does not grow over what it has cut off until that is dropped: it would come back', () => {
    const story = ownedDisk();
    story.resize(id(1), GIB / 2, true);
    const grow = { type: 'resize', id: id(1), epoch: epoch(1), sizeBytes: GIB, shrink: false } as const;
    story.refuse(grow, 'in-use', /being dropped/);
    // The owner dropped from there on; meanwhile the volume was shrunk once more.
    story.resize(id(1), MIB, true);
    story.refuse({ type: 'clearZeroFrom', id: id(1), epoch: epoch(1), zeroFromBytes: GIB / 2 }, 'in-use', /shrunk|zeros/);
    expect(story.do({ type: 'clearZeroFrom', id: id(1), epoch: epoch(1), zeroFromBytes: MIB }).zeroFromBytes).toBeNull();
    expect(story.do({ type: 'clearZeroFrom', id: id(1), epoch: epoch(1), zeroFromBytes: MIB }).zeroFromBytes).toBeNull();
    expect(story.do(grow)).toMatchObject({ sizeBytes: GIB, zeroFromBytes: null });
  });

  it('works without an owner, and the next one learns what to drop', () => {
    const story = ownedDisk();
    story.release(id(1));
    story.resize(id(1), MIB, true);
    expect(story.acquire(id(1), 'b').record).toMatchObject({ sizeBytes: MIB, zeroFromBytes: MIB, epoch: 2 });
  });

  const bad: [string, ErrorCode, object][] = [
    ['smaller without the flag', 'conflict', { sizeBytes: MIB }],
    ['to nothing', 'invalid-argument', { sizeBytes: 0, shrink: true }],
    ['to an odd size', 'invalid-argument', { sizeBytes: GIB + 1 }],
    ['beyond the limit', 'invalid-argument', { sizeBytes: 2 ** 52 + 512 }],
    ['under an older epoch', 'stale-epoch', { epoch: epoch(0) }],
    ['of a snapshot', 'read-only', { id: id(2), epoch: epoch(0) }],
    ['of nothing', 'not-found', { id: id(9) }],
  ];
  it.each(bad)('refuses one %s', (_, code, fields) => {
    ownedDisk().refuse({ type: 'resize', id: id(1), epoch: epoch(1), sizeBytes: 2 * GIB, shrink: false, ...fields }, code);
  });
});

describe('rename', () => {
  it('moves the name and nothing else; the old one is free again', () => {
    const story = ownedDisk();
    expect(story.do({ type: 'rename', id: id(1), name: 'disc' })).toEqual({ ...story.volume(id(1)), name: 'disc' });
    expect(story.registry.byName('disk')).toBeNull();
    expect(story.registry.byName('disc')?.id).toBe(1);
    expect(story.create('disk').id).toBe(3);
    story.do({ type: 'rename', id: id(2), name: 'foundation' });
    expect(story.registry.byName('foundation')?.kind).toBe('snapshot');
  });

  it('to its own name changes nothing; to a taken or bad one it is refused', () => {
    const story = ownedDisk();
    story.events.length = 0;
    story.do({ type: 'rename', id: id(1), name: 'disk' });
    expect(story.events).toEqual([]);
    story.refuse({ type: 'rename', id: id(1), name: 'base' }, 'exists');
    story.refuse({ type: 'rename', id: id(1), name: 'a/b' }, 'invalid-argument');
    story.refuse({ type: 'rename', id: id(9), name: 'x' }, 'not-found');
  });
});

describe('label', () => {
  it('sets, replaces and removes, on volumes and snapshots', () => {
    const story = ownedDisk();
    story.do({ type: 'label', id: id(1), labels: { zone: 'north', app: 'db' } });
    expect(story.do({ type: 'label', id: id(1), labels: { zone: null, app: 'web', constructor: 'me', gone: null } }).labels).toEqual({
      app: 'web',
      constructor: 'me',
    });
    expect(story.do({ type: 'label', id: id(2), labels: { keep: '' } }).labels).toEqual({ keep: '' });
  });

  it('stores equal labels as equal bytes, whatever order they came in', () => {
    const one = new Story();
    const other = new Story();
    const third = new Story();
    one.create('disk', { labels: { a: '1', b: '2' } });
    other.create('disk', { labels: { b: '2', a: '1' } });
    third.create('disk', { labels: { b: '2' } });
    third.do({ type: 'label', id: id(1), labels: { a: '1' } });
    expect(other.stored).toEqual(one.stored);
    expect(third.stored).toEqual(one.stored);
  });

  it('refuses bad ones, all or nothing, and too many', () => {
    const story = ownedDisk();
    story.refuse({ type: 'label', id: id(1), labels: { ok: 'x', 'not ok': 'x' } }, 'invalid-argument');
    story.refuse({ type: 'label', id: id(1), labels: { ok: 'line\nbreak' } }, 'invalid-argument');
    story.refuse({ type: 'label', id: id(9), labels: {} }, 'not-found');
    const many = Object.fromEntries(Array.from({ length: MAX_LABELS }, (_, i) => [`k${i}`, 'x']));
    story.do({ type: 'label', id: id(1), labels: many });
    story.refuse({ type: 'label', id: id(1), labels: { more: 'x' } }, 'invalid-argument', /too many/);
    // Room is made in the same command.
    story.do({ type: 'label', id: id(1), labels: { more: 'x', k0: null } });
  });
});

describe('remove', () => {
  it('frees the name and never uses the id again', () => {
    const story = ownedDisk();
    expect(story.do({ type: 'remove', id: id(1), epoch: epoch(1) })).toMatchObject({ id: 1, name: 'disk' });
    expect(story.registry.byId(id(1))).toBeNull();
    expect(story.registry.byName('disk')).toBeNull();
    expect(story.registry.heldBy('a')).toEqual([]);
    expect(story.create('disk')).toMatchObject({ id: 3, epoch: 0, root: null, clean: true });
    story.refuse({ type: 'remove', id: id(1), epoch: epoch(1) }, 'not-found');
  });

  it('does not wait for an owner, and refuses all epochs but the last', () => {
    const story = ownedDisk();
    story.release(id(1));
    story.refuse({ type: 'remove', id: id(1), epoch: epoch(0) }, 'stale-epoch');
    story.refuse({ type: 'remove', id: id(1), epoch: epoch(2) }, 'stale-epoch');
    story.do({ type: 'remove', id: id(1), epoch: epoch(1) });
    story.do({ type: 'remove', id: id(2), epoch: epoch(0) });
  });
});
