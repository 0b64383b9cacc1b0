/** Each command of the registry and each of its refusals, as short stories. What no sequence may ever break is in `properties.test.ts`. */
import { describe, expect, it } from 'vitest';
import { ArchipelagoError, AssertionFailure, type ErrorCode } from '../../../src/base/index.ts';
import { encodeCommand } from '../../../src/mapper/registry/codec.ts';
import { MAX_LABELS } from '../../../src/mapper/registry/names.ts';
import { Registry } from '../../../src/mapper/registry/registry.ts';
import type { Command, NodeRecord } from '../../../src/mapper/registry/types.ts';
import { creation, epoch, GIB, generation, id, KIB, life, MIB, NOON, Story, snapshotOf } from './story.ts';

const ROOT = { generation: generation(3), sequence: 7, checksum: 0xdead_beef, blocks: 256 };

/** Nodes a and b; volume 1 `disk`, owned by a under epoch 1; snapshot 2 `base` of it. */
function ownedDisk(): Story {
  const story = new Story();
  story.startNode('a');
  story.startNode('b');
  story.create('disk');
  story.acquire(id(1), 'a');
  story.snapshot(id(1), 'base');
  return story;
}

describe('startNode', () => {
  it('counts the starts of a node, and takes over its new addresses and version', () => {
    const story = new Story();
    expect(story.startNode('a')).toBe(1);
    const start = { type: 'startNode', name: 'a', peerId: 'peera', controlAddresses: ['/ip4/1/tcp/9'], dataAddresses: [], version: '1.1.0' } as const;
    expect(story.do(start)).toEqual({
      name: 'a',
      peerId: 'peera',
      controlAddresses: ['/ip4/1/tcp/9'],
      dataAddresses: [],
      livenessEpoch: 2,
      version: '1.1.0',
    });
    expect(story.startNode('b')).toBe(1);
    expect(story.registry.nodes().map(({ name }) => name)).toEqual(['a', 'b']);
  });

  it('voids what the node owned: no owner, the epoch kept, not clean; others keep theirs', () => {
    const story = ownedDisk();
    story.create('other');
    story.acquire(id(3), 'b');
    story.startNode('a');
    expect(story.volume(id(1))).toMatchObject({ owner: null, epoch: 1, clean: false });
    expect(story.volume(id(3))).toMatchObject({ owner: { node: 'b', epoch: 1 } });
    // The next owner learns that it has to fence.
    expect(story.acquire(id(1), 'b')).toMatchObject({ clean: false, record: { epoch: 2 } });
  });

  it('removes the imports of the node, and frees their names', () => {
    const story = ownedDisk();
    story.create('half', { importer: { node: 'a', livenessEpoch: life(1) } });
    story.create('whole', { importer: { node: 'a', livenessEpoch: life(1) } });
    story.create('elsewhere', { importer: { node: 'b', livenessEpoch: life(1) } });
    story.acquire(id(3), 'a');
    story.do({ type: 'finishImport', id: id(4) });
    story.startNode('a');
    expect([...story.registry.volumes()].map(({ name }) => name)).toEqual(['base', 'disk', 'elsewhere', 'whole']);
    expect(story.create('half').id).toBe(6);
  });

  it('refuses another identity under a known name, and the node keeps what it owns', () => {
    const story = ownedDisk();
    const start = { type: 'startNode', name: 'a', peerId: 'stranger', controlAddresses: [], dataAddresses: [], version: '1.0.0' } as const;
    story.refuse(start, 'conflict', /another identity/);
    expect(story.volume(id(1)).owner?.node).toBe('a');
  });

  const bad: [string, object][] = [
    ['a name with a slash', { name: 'a/b' }],
    ['an empty name', { name: '' }],
    ['a PeerId with a blank', { peerId: 'x y' }],
    ['an address that is none', { controlAddresses: ['10.0.0.1:80'] }],
    ['a data address that is none', { dataAddresses: [''] }],
    ['too many addresses', { dataAddresses: Array(33).fill('/ip4/1') }],
    ['an empty version', { version: '' }],
  ];
  it.each(bad)('refuses %s', (_, fields) => {
    const start = { type: 'startNode', name: 'a', peerId: 'peera', controlAddresses: [], dataAddresses: [], version: '1', ...fields } as const;
    new Story().refuse(start, 'invalid-argument');
  });
});

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
      root: null,
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

describe('import', () => {
  function importing(): Story {
    const story = ownedDisk();
    story.create('new', { importer: { node: 'a', livenessEpoch: life(1) } });
    return story;
  }

  it('is owned by its node only, until it is finished', () => {
    const story = importing();
    story.refuse({ type: 'acquire', id: id(3), node: 'b', livenessEpoch: life(1), epoch: epoch(0) }, 'in-use', /imported by node "a"/);
    story.acquire(id(3), 'a');
    story.refuse({ type: 'handOver', id: id(3), epoch: epoch(1), to: 'b', toLivenessEpoch: life(1) }, 'in-use');
    story.refuse({ type: 'snapshot', id: id(3), epoch: epoch(1), name: 'early', root: null, createdAt: NOON }, 'in-use');
    expect(story.do({ type: 'finishImport', id: id(3) })).toMatchObject({ importer: null, owner: { node: 'a' } });
    expect(story.handOver(id(3), 'b').owner).toEqual({ node: 'b', epoch: 2 });
  });

  it('stays when its node restarts after the end, and finishing twice is fine', () => {
    const story = importing();
    story.do({ type: 'finishImport', id: id(3) });
    story.do({ type: 'finishImport', id: id(3) });
    story.startNode('a');
    expect(story.volume(id(3)).name).toBe('new');
  });

  it('cannot be finished once its node has restarted', () => {
    const story = importing();
    story.startNode('a');
    story.refuse({ type: 'finishImport', id: id(3) }, 'not-found');
  });

  it('can be removed before its end', () => {
    const story = importing();
    story.do({ type: 'remove', id: id(3), epoch: epoch(0) });
    expect(story.registry.byName('new')).toBeNull();
    story.startNode('a');
  });
});

describe('clone', () => {
  it('starts at the map of its snapshot and keeps its block size', () => {
    const story = ownedDisk();
    story.do({ type: 'snapshot', id: id(1), epoch: epoch(1), name: 'full', root: ROOT, createdAt: NOON });
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

describe('acquire', () => {
  it('gives the next epoch and a naming generation of its own', () => {
    const story = ownedDisk();
    story.create('second');
    expect(story.acquire(id(3), 'b')).toMatchObject({
      record: { owner: { node: 'b', epoch: 1 }, epoch: 1, clean: false },
      clean: true,
      generation: 2,
    });
    story.release(id(3));
    expect(story.acquire(id(3), 'a')).toMatchObject({ record: { owner: { node: 'a', epoch: 2 } }, clean: true, generation: 3 });
  });

  it('answers the owner that asks again like the first time, whatever it did since', () => {
    const story = ownedDisk();
    story.do({ type: 'reserveGeneration', id: id(1), epoch: epoch(1) });
    story.resize(id(1), 2 * GIB);
    const again = { type: 'acquire', id: id(1), node: 'a', livenessEpoch: life(1), epoch: epoch(0) } as const;
    expect(story.do(again)).toEqual({ record: story.volume(id(1)), generation: 1, clean: true });
    expect(story.volume(id(1)).epoch).toBe(1);
    // Also at a replica that was made of stored entries, and the answer is not given to another node.
    expect(story.reload().apply(encodeCommand(again), 99)).toEqual(story.registry.apply(encodeCommand(again), 99));
    story.refuse({ ...again, node: 'b' }, 'stale-epoch');
  });

  it('is not answered again under a newer liveness epoch, or after a release, a handover or a handover back', () => {
    const again = { type: 'acquire', id: id(1), node: 'a', livenessEpoch: life(1), epoch: epoch(0) } as const;
    const restarted = ownedDisk();
    restarted.startNode('a');
    restarted.refuse(again, 'stale-epoch');
    restarted.refuse({ ...again, livenessEpoch: life(2) }, 'stale-epoch');
    const released = ownedDisk();
    released.release(id(1));
    released.refuse(again, 'stale-epoch');
    const handedOver = ownedDisk();
    handedOver.handOver(id(1), 'b');
    handedOver.refuse(again, 'stale-epoch');
    // b got epoch 2 by the handover: that it asked for it, too, and late, does not make it an acquisition with a generation.
    handedOver.refuse({ ...again, node: 'b', epoch: epoch(1) }, 'stale-epoch');
    handedOver.handOver(id(1), 'a');
    handedOver.refuse({ ...again, epoch: epoch(2) }, 'stale-epoch');
  });

  const bad: [string, ErrorCode, object][] = [
    ['a volume that another node owns', 'stale-epoch', { node: 'b', epoch: epoch(1) }],
    ['a volume that it owns itself, under its own epoch', 'stale-epoch', { epoch: epoch(1) }],
    ['for the processes before the last start', 'stale-epoch', { livenessEpoch: life(0) }],
    ['for an unknown node', 'not-found', { node: 'nobody' }],
    ['a snapshot', 'read-only', { id: id(2) }],
    ['nothing', 'not-found', { id: id(9) }],
  ];
  it.each(bad)('refuses %s', (_, code, fields) => {
    ownedDisk().refuse({ type: 'acquire', id: id(1), node: 'a', livenessEpoch: life(1), epoch: epoch(0), ...fields }, code);
  });

  it('refuses all but the last epoch of a volume without an owner', () => {
    const story = ownedDisk();
    story.release(id(1));
    for (const stale of [0, 2, 3])
      story.refuse({ type: 'acquire', id: id(1), node: 'b', livenessEpoch: life(1), epoch: epoch(stale) }, 'stale-epoch');
    expect(story.acquire(id(1), 'b').record.epoch).toBe(2);
  });
});

describe('handOver', () => {
  it('moves the volume to the target under the next epoch, not clean, without a new generation', () => {
    const story = ownedDisk();
    expect(story.handOver(id(1), 'b')).toMatchObject({ owner: { node: 'b', epoch: 2 }, epoch: 2, clean: false });
    expect(story.do({ type: 'reserveGeneration', id: id(1), epoch: epoch(2) })).toBe(2);
    // A start of the old owner no longer touches it, one of the new owner does.
    story.startNode('a');
    expect(story.volume(id(1)).owner?.node).toBe('b');
    story.startNode('b');
    expect(story.volume(id(1)).owner).toBeNull();
  });

  const bad: [string, ErrorCode, object][] = [
    ['under an older epoch', 'stale-epoch', { epoch: epoch(0) }],
    ['under an epoch to come', 'stale-epoch', { epoch: epoch(2) }],
    ['to processes that have restarted since', 'stale-epoch', { toLivenessEpoch: life(0) }],
    ['to an unknown node', 'not-found', { to: 'nobody' }],
    ['to the owner itself', 'invalid-argument', { to: 'a' }],
    ['of a snapshot', 'read-only', { id: id(2) }],
    ['of nothing', 'not-found', { id: id(9) }],
  ];
  it.each(bad)('refuses one %s', (_, code, fields) => {
    ownedDisk().refuse({ type: 'handOver', id: id(1), epoch: epoch(1), to: 'b', toLivenessEpoch: life(1), ...fields }, code);
  });
});

describe('commands that only the owner may give', () => {
  const owners: Command[] = [
    { type: 'handOver', id: id(1), epoch: epoch(1), to: 'b', toLivenessEpoch: life(1) },
    { type: 'release', id: id(1), epoch: epoch(1) },
    { type: 'reserveGeneration', id: id(1), epoch: epoch(1) },
    { type: 'snapshot', id: id(1), epoch: epoch(1), name: 'late', root: ROOT, createdAt: NOON },
    { type: 'clearZeroFrom', id: id(1), epoch: epoch(1), zeroFromBytes: MIB },
  ];
  const epochs: Command[] = [
    { type: 'resize', id: id(1), epoch: epoch(1), sizeBytes: MIB, shrink: true },
    { type: 'remove', id: id(1), epoch: epoch(1) },
  ];

  it.each(owners)('$type: works for the owner', (command) => {
    ownedDisk().do(command);
  });

  it.each(owners)('$type: refused once the owner is gone, although the epoch is still the last one', (command) => {
    const released = ownedDisk();
    released.release(id(1));
    released.refuse(command, 'stale-epoch', /no owner/);
    const restarted = ownedDisk();
    restarted.startNode('a');
    restarted.refuse(command, 'stale-epoch');
  });

  // Counterexample 'registry commands conditional on (owner, epoch)': a proposes, is cut off and loses its lease; b takes over, and only
  // then the proposal commits. Applying it would cut a snapshot of b's volume at a's map, or take the volume from b.
  it.each([...owners, ...epochs])('$type: proposed before a failover and committed after it, does nothing', (command) => {
    const story = ownedDisk();
    story.startNode('a');
    story.acquire(id(1), 'b');
    story.refuse(command, 'stale-epoch', /owner b and epoch 2/);
    // Nor when a owns it again: its map has been another one since.
    story.handOver(id(1), 'a');
    story.refuse(command, 'stale-epoch', /owner a and epoch 3/);
  });

  it.each([...owners, ...epochs])('$type: of a volume whose name was given away, meets nothing', (command) => {
    const story = ownedDisk();
    story.do({ type: 'remove', id: id(1), epoch: epoch(1) });
    story.create('disk');
    story.refuse(command, 'not-found');
  });

  it.each(owners)('$type: refused for a snapshot', (command) => {
    ownedDisk().refuse({ ...command, id: id(2), epoch: epoch(0) } as Command, 'read-only');
  });
});

describe('release', () => {
  it('leaves no owner, and a clean history for the next one', () => {
    const story = ownedDisk();
    expect(story.release(id(1))).toMatchObject({ owner: null, epoch: 1, clean: true });
    expect(story.acquire(id(1), 'b').clean).toBe(true);
    expect(story.volume(id(1)).clean).toBe(false);
  });
});

describe('reserveGeneration', () => {
  it('never gives the same generation twice, to whomever', () => {
    const story = ownedDisk();
    story.create('second');
    const second = story.acquire(id(3), 'b');
    const given = [
      1,
      second.generation,
      story.do({ type: 'reserveGeneration', id: id(1), epoch: epoch(1) }),
      story.do({ type: 'reserveGeneration', id: id(3), epoch: epoch(1) }),
      story.do({ type: 'reserveGeneration', id: id(1), epoch: epoch(1) }),
    ];
    expect(given).toEqual([1, 2, 3, 4, 5]);
  });
});

describe('snapshot', () => {
  it('records the root under a name and an id of its own, and leaves the volume as it is', () => {
    const story = ownedDisk();
    const before = story.volume(id(1));
    const snapshot = story.do({ type: 'snapshot', id: id(1), epoch: epoch(1), name: 'cut', root: ROOT, createdAt: NOON });
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
    expect(story.volume(id(1))).toBe(before);
  });

  it('refuses a taken or a bad name, and a volume that has yet to drop what a shrink cut off', () => {
    const story = ownedDisk();
    const cut = { type: 'snapshot', id: id(1), epoch: epoch(1), name: 'cut', root: null, createdAt: NOON } as const;
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
    one.create('disk', { labels: { a: '1', b: '2' } });
    other.create('disk', { labels: { b: '2' } });
    other.do({ type: 'label', id: id(1), labels: { a: '1' } });
    expect(other.stored).toEqual(one.stored);
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

describe('queries', () => {
  it('lists in order of names, volumes and snapshots together, also while names come and go', () => {
    const story = ownedDisk();
    story.create('zebra');
    story.create('Älg');
    const names = () => [...story.registry.volumes()].map(({ name }) => name);
    expect(names()).toEqual(['base', 'disk', 'zebra', 'Älg']);
    const seen: string[] = [];
    for (const { name } of story.registry.volumes()) {
      seen.push(name);
      if (name === 'base') story.do({ type: 'remove', id: id(1), epoch: epoch(1) });
    }
    expect(seen).toEqual(['base', 'zebra', 'Älg']);
    expect(names()).toEqual(['base', 'zebra', 'Älg']);
  });

  it('hands out records that nobody can change', () => {
    const story = ownedDisk();
    const [node] = story.registry.nodes() as [NodeRecord, NodeRecord];
    const record = story.registry.byName('disk') as { owner: { epoch: number }; labels: Record<string, string>; sizeBytes: number };
    expect(() => Object.assign(record, { sizeBytes: 1 })).toThrow(TypeError);
    expect(() => Object.assign(record.owner, { epoch: 9 })).toThrow(TypeError);
    expect(() => Object.assign(record.labels, { a: 'b' })).toThrow(TypeError);
    expect(() => (node.dataAddresses as string[]).push('x')).toThrow(TypeError);
  });

  it('tells listeners what has changed, once queries show it', () => {
    const story = ownedDisk();
    story.create('half', { importer: { node: 'a', livenessEpoch: life(1) } });
    story.events.length = 0;
    let seen: unknown;
    const stop = story.registry.onChange(() => {
      seen = story.registry.byName('half');
    });
    story.startNode('a');
    expect(seen).toBeNull();
    expect(story.events).toMatchObject([
      { kind: 'node', node: { name: 'a', livenessEpoch: 2 } },
      { kind: 'volume', volume: { id: 1, owner: null }, previous: { id: 1, owner: { node: 'a' } } },
      { kind: 'removed', volume: { name: 'half' } },
    ]);
    stop();
    seen = 'nothing';
    story.create('more');
    expect(seen).toBe('nothing');
    expect(story.events.at(-1)).toMatchObject({ kind: 'volume', volume: { name: 'more' }, previous: null });
  });

  it('stops a listener that wants to apply', () => {
    const registry = new Registry();
    registry.onChange(() => registry.apply(encodeCommand(creation('b')), 2));
    expect(() => registry.apply(encodeCommand(creation('a')), 1)).toThrow(AssertionFailure);
  });
});

describe('load', () => {
  const entriesOf = (story: Story) => Array.from(story.stored, ([key, value]) => ({ key, value }));

  it('replaces everything, and tells listeners to look again', () => {
    const story = ownedDisk();
    const other = new Story();
    other.create('old');
    other.events.length = 0;
    other.registry.load(entriesOf(story));
    expect(other.events).toEqual([{ kind: 'reset' }]);
    expect(snapshotOf(other.registry)).toEqual(snapshotOf(story.registry));
    expect(other.registry.byName('old')).toBeNull();
    other.registry.load([]);
    expect(snapshotOf(other.registry)).toEqual(snapshotOf(new Registry()));
    expect(other.create('first').id).toBe(1);
  });

  const json = (value: unknown) => Buffer.concat([Buffer.of(1), Buffer.from(JSON.stringify(value))]);
  const volume = (story: Story) => JSON.parse(Buffer.from(story.stored.get('v/0000000000000001') ?? []).toString('utf8', 1));

  const damage: [string, ErrorCode, (story: Story) => void][] = [
    ['an unknown key', 'corrupt', (story) => story.stored.set('x/1', json({}))],
    ['a newer format', 'unsupported-version', (story) => story.stored.set('c', Buffer.of(2, 0x7b, 0x7d))],
    ['no format', 'corrupt', (story) => story.stored.set('c', Buffer.of())],
    ['no JSON', 'corrupt', (story) => story.stored.set('c', Buffer.of(1, 0x7b))],
    ['an unknown field', 'corrupt', (story) => story.stored.set('c', json({ nextVolumeId: 3, nextGeneration: 2, more: 1 }))],
    [
      'a record under the key of another',
      'corrupt',
      (story) => story.stored.set('v/0000000000000002', story.stored.get('v/0000000000000001') ?? Buffer.of()),
    ],
    ['a node under the key of another', 'corrupt', (story) => story.stored.set('n/b', story.stored.get('n/a') ?? Buffer.of())],
    ['an owner that is no node', 'corrupt', (story) => story.stored.delete('n/a')],
    ['counters that are behind', 'corrupt', (story) => story.stored.delete('c')],
    ['a generation that was never given out', 'corrupt', (story) => story.stored.set('c', json({ nextVolumeId: 3, nextGeneration: 1 }))],
    [
      'one name twice',
      'corrupt',
      (story) => {
        const stored = volume(story);
        stored.record.name = 'base';
        story.stored.set('v/0000000000000001', json(stored));
      },
    ],
    [
      'an owner of another epoch',
      'corrupt',
      (story) => {
        const stored = volume(story);
        stored.record.owner.epoch = 7;
        story.stored.set('v/0000000000000001', json(stored));
      },
    ],
    [
      'an owned volume that is clean',
      'corrupt',
      (story) => {
        const stored = volume(story);
        stored.record.clean = true;
        story.stored.set('v/0000000000000001', json(stored));
      },
    ],
  ];
  it.each(damage)('refuses %s, and keeps what was there', (_, code, harm) => {
    const story = ownedDisk();
    const before = snapshotOf(story.registry);
    harm(story);
    expect(() => story.registry.load(entriesOf(story))).toThrow(expect.objectContaining({ code }));
    expect(snapshotOf(story.registry)).toEqual(before);
  });
});

describe('a log entry that cannot be decoded', () => {
  const entries: [string, ErrorCode, Uint8Array][] = [
    ['of a newer program', 'unsupported-version', Buffer.of(2)],
    ['without content', 'corrupt', Buffer.of()],
    ['of an unknown type', 'corrupt', Buffer.from('\u0001{"type":"format"}')],
  ];
  it.each(entries)('%s: stops the node instead of being skipped', (_, code, entry) => {
    const registry = new Registry();
    expect(() => registry.apply(entry, 17)).toThrow(ArchipelagoError);
    expect(() => registry.apply(entry, 17)).toThrow(expect.objectContaining({ code, message: expect.stringContaining('log entry 17') }));
  });
});
