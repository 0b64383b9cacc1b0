/**
 * The leader's loop over real Raft members and registries, in time that the test moves: whoever leads, and however often that changes, the
 * configuration comes to what the registry says. Verified after each turn: nobody votes before it was started, or after Raft has let it go.
 */
import { afterEach, expect, it } from 'vitest';
import { Prng, silentLog } from '../../../src/base/index.ts';
import type { Command } from '../../../src/mapper/index.ts';
import { propose, Registry } from '../../../src/mapper/registry/index.ts';
import type { ClusterLinks } from '../../../src/node/control/cluster-links.ts';
import { Membership } from '../../../src/node/control/membership.ts';
import { hashOf } from '../../mapper/registry/story.ts';
import { Cluster } from '../../raft/support/cluster.ts';

const FIRST = ['n1', 'n2', 'n3'];
const INVITATION = { id: 'i', secretHash: hashOf('i'), expiresAtMs: 1_000_000 };

class World {
  readonly registries = new Map<string, Registry>();
  readonly memberships = new Map<string, Membership>();
  readonly toldRemoved = new Set<string>();
  cluster!: Cluster;
  private made: Registry | null = null;

  static async start(seed: number): Promise<World> {
    const world = new World();
    const remember = (registry: Registry) => {
      world.made = registry;
      return registry;
    };
    const overrides = {
      // Asked anew for each member that is opened.
      get stateMachine() {
        return remember(new Registry());
      },
      onLeaderChange: () => {
        for (const membership of world.memberships.values()) membership.kick();
      },
    };
    world.cluster = await Cluster.start([], { seed, overrides });
    for (const name of FIRST) await world.open(name, FIRST);
    for (const name of FIRST) await world.started(name);
    return world;
  }

  async open(name: string, bootstrap: readonly string[] = []): Promise<void> {
    const raft = await this.cluster.open(name, { bootstrap });
    const registry = this.made as Registry;
    this.registries.set(name, registry);
    const links = {
      setMembers: () => {},
      isConnected: (other: string) => this.cluster.members.has(other) && !this.hasLeft(name, other) && !this.hasLeft(other, name),
      ask: (asked: { peerId: string }) => Promise.resolve(Buffer.from(JSON.stringify({ removed: this.hasLeft(asked.peerId.slice(4), name) }))),
    } as unknown as ClusterLinks;
    const first = FIRST.map((each) => ({ name: each, peerId: `peer${each}`, controlAddresses: [] }));
    const membership = new Membership({
      self: name,
      clusterId: 'c',
      raft,
      registry,
      links,
      firstMembers: first,
      clock: this.cluster.clock,
      log: silentLog,
      onRemoved: () => this.toldRemoved.add(name),
    });
    registry.onChange(() => membership.kick());
    this.memberships.set(name, membership);
  }

  hasLeft(asked: string, about: string): boolean {
    return this.cluster.members.has(asked) && (this.memberships.get(asked)?.hasLeft(about) ?? false);
  }

  async close(name: string): Promise<void> {
    this.memberships.get(name)?.stop();
    this.memberships.delete(name);
    await this.cluster.kill(name);
  }

  do(via: string, command: Command): Promise<unknown> {
    return this.cluster.settle(propose(this.cluster.node(via), command as never, { timeoutMs: 50_000 }), command.type);
  }

  started(name: string): Promise<unknown> {
    return this.do(name, { type: 'startNode', name, peerId: `peer${name}`, controlAddresses: [], dataAddresses: [], version: '1' });
  }

  async redeemed(via: string, name: string): Promise<void> {
    await this.do(via, { type: 'invite', invitation: INVITATION, nowMs: 1 });
    const who = { name, peerId: `peer${name}`, controlAddresses: [], dataAddresses: [], version: '1' };
    await this.do(via, { type: 'redeem', invitationId: INVITATION.id, secretHash: INVITATION.secretHash, nowMs: 2, ...who });
  }

  removed(via: string, name: string): Promise<unknown> {
    return this.do(via, { type: 'removeNode', name, peerId: `peer${name}`, controlAddresses: [], force: true });
  }

  async reach(via: string, wanted: string): Promise<void> {
    await this.cluster.until(() => {
      const { configuration, membershipSettled } = this.cluster.node(via).coreStatus();
      for (const voter of configuration.voters) {
        if (!FIRST.includes(voter)) expect(this.registries.get(voter)?.node(voter)?.livenessEpoch ?? 1, `${voter} votes`).toBeGreaterThan(0);
      }
      return membershipSettled && [configuration.voters.join(' '), configuration.learners.join(' ')].filter(Boolean).join(' + ') === wanted;
    }, `${via} has ${wanted}`);
  }
}

let world: World;

afterEach(async () => {
  for (const membership of world.memberships.values()) membership.stop();
  await world.cluster.stop();
});

it('takes nodes in as learners, lets them vote when their number allows, and lets them go', async () => {
  world = await World.start(1);
  await world.redeemed('n1', 'n4');
  await world.reach('n1', 'n1 n2 n3 + n4');
  // It was let in, and has never been started.
  await world.redeemed('n2', 'n5');
  await world.open('n5');
  await world.started('n5');
  await world.reach('n1', 'n1 n2 n3 + n4 n5');
  await world.open('n4');
  await world.cluster.pass(3_000);
  await world.reach('n1', 'n1 n2 n3 + n4 n5');
  await world.started('n4');
  await world.reach('n1', 'n1 n2 n3 n4 n5');
  await world.removed('n1', 'n5');
  await world.cluster.until(() => world.toldRemoved.has('n5'), 'n5 is told');
  expect([...world.toldRemoved]).toEqual(['n5']);
  // A learner believes in its last leader for ever.
  await world.reach('n1', 'n1 n2 n3 + n4');
  await world.removed('n1', 'n4');
  await world.cluster.until(() => world.toldRemoved.has('n4'), 'n4 is told');
});

it('lets a learner take the place of a dead voter, and the dead one learns of it when it is back', async () => {
  world = await World.start(2);
  await world.redeemed('n1', 'n4');
  await world.open('n4');
  await world.started('n4');
  await world.reach('n1', 'n1 n2 n3 + n4');
  await world.close('n2');
  await world.cluster.pass(5_000);
  await world.reach('n1', 'n1 n2 n3 + n4');
  await world.removed('n1', 'n2');
  await world.reach('n1', 'n1 n3 n4');
  const { term } = world.cluster.node('n1').status();
  await world.open('n2', FIRST);
  await world.cluster.until(() => world.toldRemoved.has('n2'), 'n2 is told');
  expect(world.cluster.node('n1').status().term, 'nobody was disturbed').toBe(term);
});

it.each([1, 2, 3, 4, 5, 6])('goes on wherever a leader stopped, and lets leaders go (seed %i)', async (seed) => {
  world = await World.start(seed);
  const random = new Prng(seed);
  // Leadership moves at any moment from now on, in the middle of every change.
  const { cluster } = world;
  let present = [...FIRST];
  const shake = () => {
    const [leader] = cluster.leaders();
    if (leader !== undefined) cluster.node(leader).transferLeadership(present[random.below(present.length)] as string);
    cluster.clock.setTimer(200 + random.below(1_500), shake);
  };
  shake();
  for (const name of ['n4', 'n5']) {
    await world.redeemed('n1', name);
    await world.open(name);
    await world.started(name);
    present.push(name);
  }
  await world.reach('n1', 'n1 n2 n3 n4 n5');
  for (let left = 0; left < 2; left++) {
    const via = present[random.below(present.length)] as string;
    const leader = cluster.leaders()[0] ?? 'n5';
    const name = leader === via ? (present.find((each) => each !== via) as string) : leader;
    await world.removed(via, name);
    present = present.filter((each) => each !== name);
    await cluster.until(() => world.hasLeft(via, name), `${name} has left`);
    await cluster.until(() => world.toldRemoved.has(name), `${name} is told`);
    await world.close(name);
  }
  await world.reach(present[0] as string, present.join(' '));
  expect(world.toldRemoved.size).toBe(2);
});
