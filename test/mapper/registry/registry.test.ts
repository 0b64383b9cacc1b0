/** What the registry answers and tells, what it loads, and what stops it. Its commands are in the files beside this one. */
import { describe, expect, it } from 'vitest';
import { ArchipelagoError, AssertionFailure, type ErrorCode } from '../../../src/base/index.ts';
import { encodeCommand } from '../../../src/mapper/registry/codec.ts';
import { Registry } from '../../../src/mapper/registry/registry.ts';
import type { NodeRecord } from '../../../src/mapper/registry/types.ts';
import { creation, epoch, GIB, id, life, MIB, ownedDisk, Story, snapshotOf } from './story.ts';

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
      { kind: 'collection', collection: { wanted: 1 } },
    ]);
    stop();
    seen = 'nothing';
    story.create('more');
    expect(seen).toBe('nothing');
    expect(story.events.at(-1)).toMatchObject({ kind: 'volume', volume: { name: 'more' }, previous: null });
  });

  it('stops a listener that wants to apply', () => {
    const registry = new Registry();
    registry.onChange(() => registry.apply(encodeCommand(creation('b')), 2, 1));
    expect(() => registry.apply(encodeCommand(creation('a')), 1, 1)).toThrow(AssertionFailure);
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
  const DISK = 'v/0000000000000001';
  const BASE = 'v/0000000000000002';

  function expectRefused(story: Story, code: ErrorCode, message: string): void {
    const before = snapshotOf(story.registry);
    expect(() => story.registry.load(entriesOf(story))).toThrow(expect.objectContaining({ code, message: expect.stringContaining(message) }));
    expect(snapshotOf(story.registry)).toEqual(before);
  }

  const unreadable: [string, ErrorCode, string, (stored: Map<string, Uint8Array>) => void][] = [
    ['an unknown key', 'corrupt', 'unknown kind of key', (stored) => stored.set('x/1', json({}))],
    ['a newer format', 'unsupported-version', 'format version 2', (stored) => stored.set('c', Buffer.of(2, 0x7b, 0x7d))],
    ['no format', 'corrupt', 'empty', (stored) => stored.set('c', Buffer.of())],
    ['no JSON', 'corrupt', 'not JSON', (stored) => stored.set('c', Buffer.of(1, 0x7b))],
    ['an unknown field', 'corrupt', 'more', (stored) => stored.set('c', json({ nextVolumeId: 3, nextGeneration: 2, more: 1 }))],
    ['a volume under the key of another', 'corrupt', 'it holds volume 1', (stored) => stored.set(BASE, stored.get(DISK) ?? Buffer.of())],
    ['a node under the key of another', 'corrupt', 'it holds node "a"', (stored) => stored.set('n/b', stored.get('n/a') ?? Buffer.of())],
    ['no counters', 'corrupt', 'its id was never given out', (stored) => stored.delete('c')],
    ['no node of an owner', 'corrupt', 'its owner a is no node', (stored) => stored.delete('n/a')],
  ];
  it.each(unreadable)('refuses %s, and keeps what was there', (_, code, message, harm) => {
    const story = ownedDisk();
    harm(story.stored);
    expectRefused(story, code, message);
  });

  // Each changes one thing of `disk`, owned by a under epoch 1, or of its snapshot `base`.
  const contradictions: [string, string, object][] = [
    ["its name is volume 1's", BASE, { name: 'disk' }],
    ['its owner has epoch 1, and 7 was the last one', DISK, { epoch: 7 }],
    ['it has an owner and is clean', DISK, { clean: true }],
    ['its importer x is no node', DISK, { importer: 'x' }],
    ['it is owned by another node than its importer', DISK, { importer: 'b' }],
    ['it was acquired and has no owner', DISK, { owner: null }],
    ['it grew before it was cleared beyond its end', DISK, { zeroFromBytes: MIB }],
    ['it has an owner and no open generation', DISK, { openGenerations: [] }],
    ['an open generation was never given out', DISK, { openGenerations: [3, 4] }],
    ['its open generations are out of order', DISK, { openGenerations: [3, 2] }],
    ['it was left clean, and a generation is open', BASE, { openGenerations: [1] }],
    ['a generation is reserved and not open', DISK, { openGenerations: [2] }],
    ['it is a snapshot and was owned', BASE, { epoch: 1 }],
    ['it is a snapshot and was owned', BASE, { importer: 'a' }],
    ['it is a snapshot and was owned', BASE, { zeroFromBytes: GIB }],
    ['it is a snapshot and was owned', BASE, { epoch: 1, clean: false, owner: { node: 'a', epoch: 1 } }],
  ];
  it.each(contradictions)('refuses what contradicts itself: %s', (message, key, fields) => {
    const story = ownedDisk();
    const { record, acquired } = JSON.parse(Buffer.from(story.stored.get(key) ?? []).toString('utf8', 1));
    story.stored.set(key, json({ record: { ...record, ...fields }, acquired }));
    expectRefused(story, 'corrupt', message);
  });

  it('refuses counters that are behind: they would give out a number again', () => {
    const story = ownedDisk();
    story.stored.set('c', json({ nextVolumeId: 2, nextGeneration: 4 }));
    expectRefused(story, 'corrupt', 'volume 2: its id was never given out');
    story.stored.set('c', json({ nextVolumeId: 3, nextGeneration: 1 }));
    expectRefused(story, 'corrupt', 'volume 1: its generation was never given out');
  });

  it('refuses an entry that comes twice', () => {
    const story = ownedDisk();
    const entries = entriesOf(story);
    expect(() => story.registry.load([...entries, ...entries])).toThrow(
      expect.objectContaining({ code: 'corrupt', message: expect.stringContaining('twice') }),
    );
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
    expect(() => registry.apply(entry, 17, 1)).toThrow(ArchipelagoError);
    expect(() => registry.apply(entry, 17, 1)).toThrow(expect.objectContaining({ code, message: expect.stringContaining('log entry 17') }));
  });
});
