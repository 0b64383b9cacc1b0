/** What the registry answers and tells, what it loads, and what stops it. Its commands are in the files beside this one. */
import { describe, expect, it } from 'vitest';
import { ArchipelagoError, AssertionFailure, type ErrorCode } from '../../../src/base/index.ts';
import { encodeCommand } from '../../../src/mapper/registry/codec.ts';
import { Registry } from '../../../src/mapper/registry/registry.ts';
import type { NodeRecord } from '../../../src/mapper/registry/types.ts';
import { creation, epoch, id, life, ownedDisk, Story, snapshotOf } from './story.ts';

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
