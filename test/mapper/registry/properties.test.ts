/**
 * What no sequence of commands may break. Verified after each command: names, ids, epochs, ownerships, generations and snapshots follow
 * the rules below; replicas agree byte for byte, one that has just loaded its state among them; listeners can keep up. Not verified here:
 * that each command does what it is for (the stories), and what Raft does with the entries.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { VolumeId } from '../../../src/base/index.ts';
import { encodeCommand } from '../../../src/mapper/registry/codec.ts';
import { Registry } from '../../../src/mapper/registry/registry.ts';
import type { RegistryChange } from '../../../src/mapper/registry/state.ts';
import type { Command, CommandResult, VolumeRecord } from '../../../src/mapper/registry/types.ts';
import { anyCommand, commandFor, intents } from './arbitrary.ts';
import { creation, Story, snapshotOf } from './story.ts';

type Volumes = ReadonlyMap<VolumeId, VolumeRecord>;

const OWNERS_ONLY: readonly Command['type'][] = [
  'handOver',
  'release',
  'reserveGeneration',
  'cancelReservation',
  'snapshot',
  'clearZeroFrom',
  'releaseUnclean',
  'grant',
];

function volumesOf(registry: Registry): Volumes {
  return new Map(Array.from(registry.volumes(), (record) => [record.id, record]));
}

/** Watches one story and remembers what a single state cannot show. */
class Watch {
  private lastId = 0;
  private readonly given = new Set<number>();
  /** The generation of each (volume, epoch) that was acquired. */
  private readonly generations = new Map<string, unknown>();
  /** The liveness epoch under which each owner got its volume. */
  private readonly ownedUnder = new Map<VolumeId, number>();
  private readonly removedNames = new Set<string>();
  /** What a listener alone makes of the events. */
  private readonly mirror = new Map<VolumeId, VolumeRecord>();

  constructor(registry: Registry) {
    registry.onChange((change) => this.listen(change));
  }

  listen(change: RegistryChange): void {
    if (change.kind === 'removed') this.mirror.delete(change.volume.id);
    if (change.kind === 'volume') {
      expect(this.mirror.get(change.volume.id) ?? null).toBe(change.previous);
      this.mirror.set(change.volume.id, change.volume);
    }
  }

  check(registry: Registry, before: Volumes, command: Command, result: CommandResult): void {
    const after = volumesOf(registry);
    expect(new Set([...after.values()].map(({ name }) => name)).size).toBe(after.size);
    expect(this.mirror).toEqual(after);
    expect(new Set(registry.nodes().map(({ peerId }) => peerId)).size).toBe(registry.nodes().length);
    for (const record of after.values()) this.checkChange(registry, before.get(record.id) ?? null, record);
    for (const { name } of registry.nodes()) {
      expect(this.removedNames.has(name), 'a removed node stays away').toBe(false);
      const scan = [...after.values()].filter(({ owner, importer }) => owner?.node === name || importer === name);
      expect(registry.heldBy(name)).toEqual(scan.sort((a, b) => a.id - b.id));
    }
    if ('ok' in result) this.checkDone(before, after, command, result.ok);
    else expect(after).toEqual(before);
  }

  private checkChange(registry: Registry, was: VolumeRecord | null, is: VolumeRecord): void {
    if (was === null) {
      expect(is).toMatchObject({ owner: null, epoch: 0, clean: true });
      expect(is.id).toBe(this.lastId + 1);
      this.lastId = is.id;
      return;
    }
    const gained = is.owner !== null && is.owner.epoch !== was.owner?.epoch;
    expect(is.epoch).toBe(gained ? was.epoch + 1 : was.epoch);
    if (is.owner !== null) {
      expect(is.owner.epoch).toBe(is.epoch);
      expect(is.clean).toBe(false);
      if (!gained) expect(is.owner).toEqual(was.owner);
      // It has no lease for this ownership any more, and gets none.
      if (!gained && was.revoked) expect(is.revoked, 'who is to give a volume up is to until it has').toBe(true);
      const livenessEpoch = registry.node(is.owner.node)?.livenessEpoch ?? -1;
      if (gained) this.ownedUnder.set(is.id, livenessEpoch);
      expect(this.ownedUnder.get(is.id)).toBe(livenessEpoch);
      expect(registry.node(is.owner.node)?.alive).toBe(true);
      if (gained && is.hold?.mode === 'locked') expect(is.hold.holders[0]?.node).toBe(is.owner.node);
    }
    if (is.zeroFromBytes !== null) expect(is.zeroFromBytes).toBeLessThanOrEqual(is.sizeBytes);
    // What was cut off stays cut off until it is cleared.
    if (was.zeroFromBytes !== null && is.zeroFromBytes !== null) expect(is.zeroFromBytes).toBeLessThanOrEqual(was.zeroFromBytes);
    if (is.sizeBytes < was.sizeBytes) expect(is.zeroFromBytes).toBe(is.sizeBytes);
    if (is.kind === 'snapshot') expect({ ...is, name: was.name, labels: was.labels }).toEqual(was);
  }

  private checkDone(before: Volumes, after: Volumes, command: Command, value: unknown): void {
    const target = 'id' in command ? before.get(command.id) : undefined;
    if (OWNERS_ONLY.includes(command.type)) expect(target?.owner?.epoch).toBe('epoch' in command ? command.epoch : -1);
    if (command.type === 'reserveGeneration') this.give(value);
    if (command.type === 'acquire') {
      const acquired = value as { record: VolumeRecord; generation: number; clean: boolean };
      expect(acquired.record).toEqual(after.get(command.id));
      expect(acquired.record.owner).toEqual({ node: command.node, epoch: command.epoch + 1 });
      const key = `${command.id}/${acquired.record.epoch}`;
      const answer = { generation: acquired.generation, clean: acquired.clean };
      if (target?.owner === null) {
        this.give(acquired.generation);
        expect(acquired.clean).toBe(target.clean);
        this.generations.set(key, answer);
      }
      expect(this.generations.get(key)).toEqual(answer);
    }
    if (command.type === 'startNode') {
      for (const [id, record] of before) {
        if (record.importer === command.name) expect(after.has(id)).toBe(false);
        else expect(after.get(id)?.owner).toEqual(record.owner?.node === command.name ? null : record.owner);
      }
    }
    if (command.type === 'removeNode') {
      for (const [id, record] of before) {
        if (record.importer === command.name) expect(after.has(id)).toBe(false);
        else expect(after.get(id)?.owner).toEqual(record.owner?.node === command.name ? null : record.owner);
      }
      this.removedNames.add(command.name);
    }
    // The end of an ownership closes no generation: what a paused owner still appends counts until the next one has taken the log over.
    for (const [id, { openGenerations }] of before) {
      const open = after.get(id)?.openGenerations ?? [];
      const closed = after.has(id) && openGenerations.some((generation) => !open.includes(generation));
      if (closed) expect(['snapshot', 'release']).toContain(command.type);
    }
    if (command.type === 'expireNode') {
      for (const [id, record] of before) expect(after.get(id)?.owner).toEqual(record.owner?.node === command.node ? null : record.owner);
    }
    if (command.type === 'expireNode' || command.type === 'grant') expect(command.term).toBe(1);
    // Only a release makes a history clean.
    for (const [id, record] of after)
      if (record.clean && before.get(id)?.clean === false) expect([command.type, target?.id]).toEqual(['release', id]);
    if (!['startNode', 'remove', 'removeNode'].includes(command.type)) for (const id of before.keys()) expect(after.has(id)).toBe(true);
  }

  private give(generation: unknown): void {
    expect(this.given.has(generation as number)).toBe(false);
    this.given.add(generation as number);
  }
}

/** Where stories begin: in an empty registry most commands are refused. */
const SOMETHING_TO_DO: readonly Command[] = [
  ...['a', 'b'].map((name) => ({ type: 'startNode', name, peerId: `peer${name}`, controlAddresses: [], dataAddresses: [], version: '1' }) as const),
  creation('v'),
  creation('w'),
];

describe('any sequence of commands', () => {
  it('keeps the rules, and all replicas equal', () => {
    const outcomes = new Map<string, number>();
    fc.assert(
      fc.property(intents, fc.integer({ min: 1, max: 20 }), (sequence, reloadEvery) => {
        const story = new Story();
        const watch = new Watch(story.registry);
        const twin = new Registry();
        let restarted = new Registry();
        [...SOMETHING_TO_DO, ...sequence].forEach((intent, index) => {
          const command = 'volume' in intent ? commandFor(intent, story.registry) : intent;
          const before = volumesOf(story.registry);
          const result = story.apply(command);
          watch.check(story.registry, before, command, result);
          const outcome = `${command.type} ${'ok' in result ? 'ok' : result.error.code}`;
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
          const bytes = encodeCommand(command);
          expect(restarted.apply(bytes, index, 1)).toEqual(twin.apply(bytes, index, 1));
          if (index % reloadEvery === 0) {
            restarted = story.reload();
            expect(snapshotOf(restarted)).toEqual(snapshotOf(story.registry));
          }
        });
        expect(snapshotOf(restarted)).toEqual(snapshotOf(story.registry));
      }),
      { numRuns: 150 },
    );
    // The test is only worth something if the sequences get somewhere: every command succeeds, and the interesting refusals happen.
    const seen = [...outcomes.keys()];
    const succeeded = seen.filter((outcome) => outcome.endsWith(' ok'));
    // Of 30; the rarest few take a lucky row of others before them.
    expect(succeeded.length).toBeGreaterThanOrEqual(27);
    expect(seen).toEqual(
      expect.arrayContaining([
        'acquire stale-epoch',
        'handOver stale-epoch',
        'snapshot stale-epoch',
        'acquire in-use',
        'resize in-use',
        'redeem forbidden',
      ]),
    );
  });

  it('of whatever content is answered, and never throws', () => {
    fc.assert(
      fc.property(fc.array(anyCommand, { maxLength: 30 }), (commands) => {
        const story = new Story();
        for (const command of commands) story.apply(command);
        expect(snapshotOf(story.reload())).toEqual(snapshotOf(story.registry));
      }),
      { numRuns: 200 },
    );
  });
});
