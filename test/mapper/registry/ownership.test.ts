/** Who owns a volume, under which epoch, and what an entry that commits late can no longer do: each command and refusal as a short story. */
import { describe, expect, it } from 'vitest';
import type { ErrorCode } from '../../../src/base/index.ts';
import { encodeCommand } from '../../../src/mapper/registry/codec.ts';
import type { Command } from '../../../src/mapper/registry/types.ts';
import { epoch, GIB, generation, id, life, MIB, NOON, ownedDisk, Story } from './story.ts';

const ROOT = { generation: generation(3), sequence: 7, checksum: 0xdead_beef, blocks: 256 };

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
      alive: true,
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
    story.refuse({ type: 'snapshot', id: id(3), epoch: epoch(1), generation: generation(3), name: 'early', root: null, createdAt: NOON }, 'in-use');
    expect(story.do({ type: 'finishImport', id: id(3) })).toMatchObject({ importer: null, owner: { node: 'a' } });
    expect(story.handOver(id(3), 'b').owner).toEqual({ node: 'b', epoch: 2 });
  });

  it('stays when its node restarts after the end, and finishing twice is fine', () => {
    const story = importing();
    story.do({ type: 'finishImport', id: id(3) });
    story.events.length = 0;
    story.do({ type: 'finishImport', id: id(3) });
    expect(story.events).toEqual([]);
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

describe('acquire', () => {
  it('gives the next epoch and a naming generation of its own', () => {
    const story = ownedDisk();
    story.create('second');
    expect(story.acquire(id(3), 'b')).toMatchObject({
      record: { owner: { node: 'b', epoch: 1 }, epoch: 1, clean: false },
      clean: true,
      generation: 4,
    });
    story.release(id(3));
    expect(story.acquire(id(3), 'a')).toMatchObject({ record: { owner: { node: 'a', epoch: 2 } }, clean: true, generation: 5 });
  });

  it('answers the owner that asks again like the first time, whatever it did since', () => {
    const story = ownedDisk();
    story.do({ type: 'reserveGeneration', id: id(1), epoch: epoch(1) });
    story.resize(id(1), 2 * GIB);
    const again = { type: 'acquire', id: id(1), node: 'a', livenessEpoch: life(1), epoch: epoch(0) } as const;
    expect(story.do(again)).toEqual({ record: story.volume(id(1)), generation: 1, clean: true });
    expect(story.volume(id(1)).epoch).toBe(1);
    // Also at a replica that was made of stored entries, and the answer is not given to another node.
    expect(story.reload().apply(encodeCommand(again), 99, 1)).toEqual(story.registry.apply(encodeCommand(again), 99, 1));
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
    expect(story.do({ type: 'reserveGeneration', id: id(1), epoch: epoch(2) })).toBe(4);
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
    { type: 'cancelReservation', id: id(1), epoch: epoch(1), generation: generation(3) },
    { type: 'snapshot', id: id(1), epoch: epoch(1), generation: generation(3), name: 'late', root: ROOT, createdAt: NOON },
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
    expect(given).toEqual([1, 4, 5, 6, 7]);
  });
});
