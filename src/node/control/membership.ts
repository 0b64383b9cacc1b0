/**
 * The membership as this node sees it. A leader makes Raft's configuration follow the registry; a node that hears from no leader asks whether
 * it was removed, since those who removed it do not connect to it any more.
 */
import { ArchipelagoError, type Clock, type Log, type Timer } from '../../base/index.ts';
import type { Registry } from '../../mapper/registry/index.ts';
import type { Configuration, CoreStatus, RaftNode } from '../../raft/index.ts';
import { askStanding } from '../joining.ts';
import type { ClusterLinks, Member } from './cluster-links.ts';
import { type MemberView, nextMembers } from './membership-plan.ts';

const TICK_MS = 500;
/** A learner this far behind the commit index may become a voter. */
const MAX_LAG_ENTRIES = 128;
/** An election is over by then, as a rule. */
const LONELY_MS = 2_000;
const ASK_PAUSE_MS = 3_000;
const ASK_TIMEOUT_MS = 2_000;

export interface MembershipOptions {
  readonly self: string;
  readonly clusterId: string;
  readonly raft: RaftNode;
  readonly registry: Registry;
  readonly links: ClusterLinks;
  /** The first members, or those at the time when this node joined. */
  readonly firstMembers: readonly Member[];
  readonly clock: Clock;
  readonly log: Log;
  /** This node was removed, as a member has told it. */
  readonly onRemoved: (toldBy: string) => void;
}

export class Membership {
  private readonly options: MembershipOptions;
  private configuration: Configuration | null = null;
  private timer: Timer | null = null;
  private stepPlanned = false;
  private stopped = false;
  private lonelySinceMs: number | null = null;
  private askedAtMs = 0;

  constructor(options: MembershipOptions) {
    this.options = options;
    this.refreshLinks();
    this.schedule();
  }

  /** Something has changed. */
  kick(): void {
    if (this.stepPlanned) return;
    this.stepPlanned = true;
    // Not within the turn in which Raft applies what it tells of.
    queueMicrotask(() => {
      this.stepPlanned = false;
      if (!this.stopped) this.step();
    });
  }

  /** The registry's list of members, or Raft's list, has changed. */
  refreshLinks(): void {
    this.options.links.setMembers(this.members());
  }

  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
  }

  /** Whether Raft's configuration, as far as it is known here, has no place for a node that was removed. */
  hasLeft(name: string): boolean {
    const { registry, raft } = this.options;
    return registry.removedNodes().some((removed) => removed.name === name) && !namesIn(raft.coreStatus().configuration).has(name);
  }

  /**
   * As the registry has them, over what this node was started with. One that was removed keeps its links until Raft's configuration does
   * without it: its vote may be needed for that.
   */
  private members(): Member[] {
    const { registry, raft, firstMembers } = this.options;
    const needed = namesIn(raft.coreStatus().configuration);
    const members = new Map(firstMembers.map((member) => [member.name, member]));
    for (const node of registry.nodes()) members.set(node.name, node);
    for (const removed of registry.removedNodes()) {
      if (needed.has(removed.name)) members.set(removed.name, removed);
      else members.delete(removed.name);
    }
    return [...members.values()];
  }

  private schedule(): void {
    this.timer = this.options.clock.setTimer(TICK_MS, () => {
      this.schedule();
      this.step();
    });
  }

  private step(): void {
    const status = this.options.raft.coreStatus();
    if (status.configuration !== this.configuration) {
      this.configuration = status.configuration;
      this.refreshLinks();
    }
    if (status.role === 'leader') this.lead(status);
    this.lookForCompany(status);
  }

  private lead(status: CoreStatus): void {
    const { raft, registry, links, self, log } = this.options;
    if (!status.membershipSettled || status.transferTarget !== null) return;
    const removed = new Set(registry.removedNodes().map(({ name }) => name));
    const { voters, learners } = status.configuration;
    // Raft's own members count too: first members that have never been started are in no registry, and what was committed lately may not be
    // applied here yet. Only a removal takes a name away, and for good, so an old view never does what a newer one would have to undo.
    const names = [...new Set([...voters, ...learners, ...registry.nodes().map(({ name }) => name)])].filter((name) => !removed.has(name));
    const members = names.map((name): MemberView => {
      const progress = status.progress.get(name);
      const caughtUp = progress?.state === 'replicate' && progress.match + MAX_LAG_ENTRIES >= status.commitIndex;
      // One that never ran may still be made anew by a second `cluster join`: it must have promised nothing by then.
      const started = (registry.node(name)?.livenessEpoch ?? 0) > 0;
      return { name, up: name === self || links.isConnected(name), ready: caughtUp && started };
    });
    const wanted = nextMembers({ self, members, voters, learners });
    if (wanted === null) return;
    try {
      raft.changeMembers(wanted);
      log.info({ ...wanted }, 'changing the members of the Raft group');
    } catch (error) {
      // Too new a leader, or a change that is under way: the next tick looks again.
      if (!(error instanceof ArchipelagoError) || !['unavailable', 'in-use'].includes(error.code)) throw error;
    }
  }

  /** A learner does not notice by itself that its leader is gone; its link does. */
  private lookForCompany({ leader }: CoreStatus): void {
    const { self, links, clock } = this.options;
    const now = clock.nowMs();
    if (leader !== null && (leader === self || links.isConnected(leader))) {
      this.lonelySinceMs = null;
      return;
    }
    this.lonelySinceMs ??= now;
    if (now - this.lonelySinceMs < LONELY_MS || now - this.askedAtMs < ASK_PAUSE_MS) return;
    this.askedAtMs = now;
    for (const member of this.members()) if (member.name !== self) void this.ask(member);
  }

  private async ask(member: Member): Promise<void> {
    const { clusterId, links, onRemoved, log } = this.options;
    try {
      const asked = { peerId: member.peerId, addresses: member.controlAddresses, timeoutMs: ASK_TIMEOUT_MS };
      const { removed } = await askStanding((question) => links.ask({ ...asked, question }), clusterId);
      if (removed && !this.stopped) onRemoved(member.name);
    } catch (error) {
      // It is down, or cut off like this node.
      log.debug({ node: member.name, error: String(error) }, 'a member could not be asked');
    }
  }
}

export function namesIn({ voters, outgoing, learners, learnersNext }: Configuration): Set<string> {
  return new Set([...voters, ...outgoing, ...learners, ...learnersNext]);
}
