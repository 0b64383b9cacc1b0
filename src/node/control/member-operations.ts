/** Removing a node, and choosing the leader, as an operator asks for it on any node. */
import { ArchipelagoError, type Clock } from '../../base/index.ts';
import type { MembersView, TransferView } from '../../gateway/index.ts';
import { propose, type Registry } from '../../mapper/registry/index.ts';
import type { RaftNode } from '../../raft/index.ts';
import type { VolumeStats } from '../../volume/index.ts';
import type { ClusterLinks } from './cluster-links.ts';
import type { Membership } from './membership.ts';

const BARRIER_TIMEOUT_MS = 5_000;
const PROPOSE_TIMEOUT_MS = 10_000;
const DRAIN_TIMEOUT_MS = 60_000;
const ANSWER_TIMEOUT_MS = 1_500;
/** A drained node may become the owner of something again while a client comes and goes. */
const DRAIN_ATTEMPTS = 3;
/** For the leader to carry out what the registry says. */
const SETTLE_TIMEOUT_MS = 15_000;
/** A lease, and the wait of a leader that was elected meanwhile. */
const EXPIRY_TIMEOUT_MS = 30_000;
const TRANSFER_TIMEOUT_MS = 10_000;
/** A transfer is given up after an election timeout, and may be asked for again. */
const TRANSFER_RETRY_MS = 1_000;
const POLL_MS = 25;

export interface MemberOperationsOptions {
  readonly self: string;
  readonly raft: RaftNode;
  readonly registry: Registry;
  readonly links: ClusterLinks;
  readonly membership: Membership;
  readonly clock: Clock;
}

export class MemberOperations {
  private readonly options: MemberOperationsOptions;

  constructor(options: MemberOperationsOptions) {
    this.options = options;
  }

  /** Resolves when the registry has it, and Raft's configuration too if that is soon. */
  async remove(name: string, { force }: { force: boolean }): Promise<MembersView> {
    // A node that leaves may not hear that it has left: somebody else sees it through.
    if (name === this.options.self) return this.byAnother(name, force);
    await this.removeOther(name, force);
    const { membership, clock } = this.options;
    const deadlineMs = clock.nowMs() + SETTLE_TIMEOUT_MS;
    while (!membership.hasLeft(name) && clock.nowMs() < deadlineMs) await this.pause();
    // So that whoever asks this node next does not see it any more.
    membership.refreshLinks();
    return this.view(name);
  }

  /** For the node itself, which asks over its link: that is cut as soon as Raft does without it, so it is answered before. */
  async removeForItself(name: string, force: boolean): Promise<MembersView> {
    await this.removeOther(name, force);
    return this.view(name);
  }

  private async removeOther(name: string, force: boolean): Promise<void> {
    const { raft } = this.options;
    await raft.readBarrier({ timeoutMs: BARRIER_TIMEOUT_MS });
    this.checkMember(name);
    if (await this.answers(name)) await this.removeLiving(name);
    else await this.removeSilent(name, force);
  }

  private checkMember(name: string): void {
    const { registry, links } = this.options;
    const hint = 'list them with `archipelago cluster status`';
    if (registry.removedNodes().some((removed) => removed.name === name)) {
      throw new ArchipelagoError('not-found', `node '${name}' was removed before`, { hint });
    }
    if (!links.memberNames().includes(name)) throw new ArchipelagoError('not-found', `there is no node '${name}'`, { hint });
  }

  private async byAnother(name: string, force: boolean): Promise<MembersView> {
    const { raft, registry, links, self } = this.options;
    if (links.memberNames().length === 1) {
      throw new ArchipelagoError('conflict', `node ${name} is the last one`, { hint: '`archipelago down` stops it' });
    }
    const others = links.memberNames().filter((each) => each !== self && links.isConnected(each));
    const { leader } = raft.status();
    const other = others.find((each) => each === leader) ?? others[0];
    if (other === undefined) {
      throw new ArchipelagoError('unavailable', `no other node is up that could go on without ${name}`, { hint: 'start another one first' });
    }
    try {
      return await links.call<MembersView>(other, 'removeNode', { node: name, force }, DRAIN_TIMEOUT_MS + SETTLE_TIMEOUT_MS);
    } catch (error) {
      // The link may have been quicker to go than the answer.
      if (registry.removedNodes().some((removed) => removed.name === name)) return this.view(name);
      throw error;
    }
  }

  private async removeLiving(name: string): Promise<void> {
    const { links } = this.options;
    for (let attempt = 1; ; attempt++) {
      const stats = await links.call<VolumeStats[]>(name, 'stats', {}, ANSWER_TIMEOUT_MS);
      const clients = stats.reduce((sum, volume) => sum + volume.clients, 0);
      if (clients > 0) {
        const hint = 'attach them to another node first, or stop the node and remove it then';
        throw new ArchipelagoError('in-use', `node ${name} has ${clients} attached client${clients === 1 ? '' : 's'}`, { hint });
      }
      await links.call(name, 'drain', {}, DRAIN_TIMEOUT_MS);
      try {
        return await this.proposeRemoval(name, false);
      } catch (error) {
        if (!(error instanceof ArchipelagoError) || error.code !== 'in-use') throw error;
        if (attempt === DRAIN_ATTEMPTS) {
          const hint = 'see its log; once it is dead, `--force` removes it and its volumes are recovered as after a crash';
          throw new ArchipelagoError('in-use', `node ${name} could not be drained: ${error.message}`, { cause: error, hint });
        }
      }
    }
  }

  private async removeSilent(name: string, force: boolean): Promise<void> {
    try {
      return await this.proposeRemoval(name, false);
    } catch (error) {
      if (!(error instanceof ArchipelagoError) || error.code !== 'in-use') throw error;
      if (!force) {
        const hint = 'start it so that it can hand them over; if it is dead for good, `--force` removes it, and its volumes are recovered';
        throw new ArchipelagoError('conflict', `node ${name} does not answer, and ${error.message}`, { cause: error, hint });
      }
    }
    await this.untilHarmless(name);
    await this.proposeRemoval(name, true);
  }

  /**
   * Ownerships of a node that did not give them up may be taken over only when it cannot serve them any more: its lease is over, and the
   * leader has had it expired.
   */
  private async untilHarmless(name: string): Promise<void> {
    const { registry, clock } = this.options;
    const deadlineMs = clock.nowMs() + EXPIRY_TIMEOUT_MS;
    while (registry.node(name)?.alive) {
      if (clock.nowMs() >= deadlineMs) {
        const hint = 'its heartbeats still reach the leader: remove it without `--force`, or stop it';
        throw new ArchipelagoError('in-use', `node ${name} has not lost its lease`, { hint });
      }
      await this.pause();
    }
    if (await this.answers(name)) throw new ArchipelagoError('in-use', `node ${name} answers again`, { hint: 'remove it without `--force`' });
  }

  /** Whether anybody can reach it. */
  private async answers(name: string): Promise<boolean> {
    const { links, self } = this.options;
    if (links.isConnected(name)) return true;
    const others = links.memberNames().filter((each) => each !== self && each !== name && links.isConnected(each));
    const seen = await Promise.all(
      others.map(async (other) => {
        try {
          return await links.call<boolean>(other, 'reaches', { node: name }, ANSWER_TIMEOUT_MS);
        } catch {
          // Whoever does not answer does not help.
          return false;
        }
      }),
    );
    const witness = others.find((_, place) => seen[place] === true);
    if (witness === undefined) return false;
    const hint = `its link to ${self} is down; try again with --node ${witness}`;
    throw new ArchipelagoError('unavailable', `node ${name} answers ${witness}, but not ${self}`, { hint });
  }

  private async proposeRemoval(name: string, force: boolean): Promise<void> {
    const { raft, links } = this.options;
    const { peerId, controlAddresses } = links.member(name);
    const command = { type: 'removeNode', name, peerId, controlAddresses, force } as const;
    await propose<'removeNode', { timeoutMs: number }>(raft, command, { timeoutMs: PROPOSE_TIMEOUT_MS });
  }

  /** Resolves once the node leads. */
  async transferLeader(to: string): Promise<TransferView> {
    const { raft, links, self, clock } = this.options;
    await raft.readBarrier({ timeoutMs: BARRIER_TIMEOUT_MS });
    this.checkMember(to);
    const before = raft.status();
    if (!before.voters.includes(to)) {
      throw new ArchipelagoError('conflict', `node ${to} is a learner and cannot lead`, { hint: 'it becomes a voter when their number allows it' });
    }
    if (to !== self && !links.isConnected(to)) {
      throw new ArchipelagoError('unavailable', `node ${to} cannot be reached`, { hint: 'see `archipelago cluster status`' });
    }
    const deadlineMs = clock.nowMs() + TRANSFER_TIMEOUT_MS;
    let askedAtMs = Number.NEGATIVE_INFINITY;
    for (;;) {
      const { leader, term } = raft.status();
      if (leader === to) return { from: before.leader, to, term };
      const now = clock.nowMs();
      if (now >= deadlineMs)
        throw new ArchipelagoError('timeout', `node ${to} has not become the leader`, { hint: 'see `archipelago cluster status`' });
      if (leader !== null && now - askedAtMs >= TRANSFER_RETRY_MS) {
        askedAtMs = now;
        raft.transferLeadership(to);
      }
      await this.pause();
    }
  }

  private view(node: string): MembersView {
    const { voters, learners } = this.options.raft.status();
    return { node, voters: [...voters], learners: [...learners] };
  }

  private pause(): Promise<void> {
    return new Promise((resolve) => void this.options.clock.setTimer(POLL_MS, resolve));
  }
}
