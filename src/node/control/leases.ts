/**
 * This node's lease, and while this node leads, everybody's. The cores decide (`src/mapper/leases`); here are the heartbeats, the timers and
 * the proposals.
 *
 * The data process gets no heartbeats and decides nothing: it is told until when it may answer. A node whose data process does not answer sends
 * no heartbeats, so that its volumes go to a node where somebody serves them.
 */
import { ArchipelagoError, type Clock, type Epoch, type LivenessEpoch, type Log, type Timer, type VolumeId } from '../../base/index.ts';
import type { RegistryChange, VolumeRecord } from '../../mapper/index.ts';
import { type HeartbeatAnswer, LeaseHolder, LeaseTable, type LeaseTiming } from '../../mapper/leases/index.ts';
import { propose, type Registry } from '../../mapper/registry/index.ts';
import type { RaftNode } from '../../raft/index.ts';

/** Looks at leases in the time of a drift allowance: more of them make the end of a lease no more exact than the allowance is. */
const TICKS_A_DRIFT = 2;
/** A data process that was silent for this part of a lease serves nobody. */
const SILENT_PART = 0.5;
/** Heartbeats that wait for their answer. When more do, none of them is going to be in time. */
const MAX_BEATS = 4;

/** A heartbeat, as one node sends it to the leader. */
export interface Heartbeat {
  readonly node: string;
  readonly livenessEpoch: LivenessEpoch;
}

export interface NodeLeasesOptions {
  readonly node: string;
  readonly timing: LeaseTiming;
  readonly renewMs: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly raft: RaftNode;
  readonly registry: Registry;
  /** Sends a heartbeat to another node, the leader. */
  readonly send: (leader: string, heartbeat: Heartbeat) => Promise<HeartbeatAnswer | null>;
  /** Resolves when the data process has answered. */
  readonly askData: () => Promise<void>;
  /** The data process may answer until then for what is owned under the liveness epoch. */
  readonly onDeadline: (livenessEpoch: LivenessEpoch, deadlineMs: number) => void;
}

export class NodeLeases {
  private readonly options: NodeLeasesOptions;
  private readonly holder = new LeaseHolder();
  private livenessEpoch: LivenessEpoch | null = null;
  /** Of the term in which this node leads. */
  private table: LeaseTable | null = null;
  private readonly revoked = new Map<VolumeId, Epoch>();
  private readonly proposing = new Set<string>();
  private readonly timers = new Map<string, Timer>();
  private beats = 0;
  private asking = false;
  private dataAnsweredMs = Number.NEGATIVE_INFINITY;
  private stopped = false;

  constructor(options: NodeLeasesOptions) {
    this.options = options;
    this.lookAtRevoked();
    this.every('beat', options.renewMs, () => this.beat());
    this.every('tick', options.timing.driftMs / TICKS_A_DRIFT, () => this.tick());
  }

  /** The lease holds at this moment. */
  get valid(): boolean {
    return this.options.clock.nowMs() < this.holder.deadline;
  }

  /** What this node owns from here on it owns under this liveness epoch; null: it owns nothing. */
  begin(livenessEpoch: LivenessEpoch | null): void {
    this.livenessEpoch = livenessEpoch;
    this.holder.begin(livenessEpoch);
    this.beat();
  }

  /** The registry here has everything up to `index`. */
  applied(index: number): void {
    if (this.holder.applied(index)) this.tellDeadline();
  }

  /** A leader is known that was not known before: nobody else renews a lease. */
  leaderChanged(): void {
    this.currentTable();
    this.beat();
  }

  registryChanged(change: RegistryChange): void {
    if (change.kind === 'volume') this.noteVolume(change.volume);
    else if (change.kind === 'removed') this.revoked.delete(change.volume.id);
    else if (change.kind === 'reset') this.lookAtRevoked();
  }

  stop(): void {
    this.stopped = true;
    for (const timer of this.timers.values()) timer.cancel();
  }

  private every(what: string, intervalMs: number, work: () => void): void {
    if (this.stopped) return;
    const again = (): void => {
      this.every(what, intervalMs, work);
      work();
    };
    this.timers.set(what, this.options.clock.setTimer(intervalMs, again));
  }

  private noteVolume({ id, revoked, owner }: VolumeRecord): void {
    if (revoked && owner !== null) this.revoked.set(id, owner.epoch);
    else this.revoked.delete(id);
  }

  private lookAtRevoked(): void {
    this.revoked.clear();
    for (const volume of this.options.registry.volumes()) this.noteVolume(volume);
  }

  // ---- as a node ----

  private beat(): void {
    const { clock, timing, raft, node, send } = this.options;
    this.askData();
    const { livenessEpoch } = this;
    if (livenessEpoch === null || this.stopped || this.beats >= MAX_BEATS) return;
    if (clock.nowMs() - this.dataAnsweredMs > timing.leaseMs * SILENT_PART) return;
    const { leader } = raft.status();
    if (leader === null) return;
    const heartbeat = { node, livenessEpoch };
    const sentMs = clock.nowMs();
    this.beats++;
    const answered = leader === node ? this.answer(heartbeat) : send(leader, heartbeat);
    answered
      .then((answer) => {
        if (answer !== null && this.holder.answered(answer, sentMs, raft.status().appliedIndex)) this.tellDeadline();
      })
      .catch((error: unknown) => this.options.log.debug({ leader, error: String(error) }, 'a heartbeat was not answered'))
      .finally(() => {
        this.beats--;
      });
  }

  private askData(): void {
    if (this.asking || this.livenessEpoch === null) return;
    this.asking = true;
    const { askData, clock, timing } = this.options;
    askData()
      .then(() => {
        const silentMs = clock.nowMs() - this.dataAnsweredMs;
        this.dataAnsweredMs = clock.nowMs();
        // It is back, or it is new: no time is to be lost.
        if (silentMs > timing.leaseMs * SILENT_PART) this.beat();
      })
      // It has died: its successor has another liveness epoch, and begins anew.
      .catch(() => undefined)
      .finally(() => {
        this.asking = false;
      });
  }

  private tellDeadline(): void {
    if (this.livenessEpoch !== null) this.options.onDeadline(this.livenessEpoch, this.holder.deadline);
  }

  // ---- as the leader ----

  /** Null when the node has no lease any more. Rejects where this node does not lead, or could not confirm that it does. */
  async answer({ node, livenessEpoch }: Heartbeat): Promise<HeartbeatAnswer | null> {
    const { clock, raft, registry, timing } = this.options;
    const cameMs = clock.nowMs();
    const table = this.currentTable();
    if (table === null) throw notLeading();
    // A round of heartbeats that begins after this one came. One that was begun by another leader, or in another term, proves nothing.
    await raft.readBarrier({ timeoutMs: timing.leaseMs });
    if (this.currentTable() !== table) throw notLeading();
    return table.answer(registry.node(node), livenessEpoch, cameMs, raft.status().appliedIndex);
  }

  /** A table belongs to one term: what it was told in another says nothing about what the leaders in between have granted. */
  private currentTable(): LeaseTable | null {
    const { clock, raft, timing } = this.options;
    const { role, term } = raft.status();
    if (role !== 'leader') this.table = null;
    else if (this.table?.term !== term) this.table = new LeaseTable(term, timing, clock.nowMs());
    return this.table;
  }

  private tick(): void {
    const table = this.currentTable();
    if (table === null) return;
    const { clock, registry, log } = this.options;
    const revoked = Array.from(this.revoked, ([id, epoch]) => ({ id, epoch }));
    const ended = table.tick(clock.nowMs(), registry.nodes(), revoked);
    const { term } = table;
    for (const { node, livenessEpoch } of ended.nodes) {
      this.proposeOnce(`node ${node}`, () => {
        log.warn({ node, livenessEpoch }, 'a lease is over: the volumes of this node are given to others');
        return propose<'expireNode', object>(this.options.raft, { type: 'expireNode', node, livenessEpoch, term }, this.proposal);
      });
    }
    for (const { id, epoch } of ended.volumes) {
      this.proposeOnce(`volume ${id}`, () => propose<'grant', object>(this.options.raft, { type: 'grant', id, epoch, term }, this.proposal));
    }
  }

  private get proposal(): { timeoutMs: number } {
    return { timeoutMs: this.options.timing.leaseMs };
  }

  private proposeOnce(what: string, work: () => Promise<unknown>): void {
    if (this.proposing.has(what)) return;
    this.proposing.add(what);
    work()
      .catch((error: unknown) => this.options.log.debug({ what, error: String(error) }, 'the end of a lease was not agreed on'))
      .finally(() => this.proposing.delete(what));
  }
}

function notLeading(): ArchipelagoError {
  return new ArchipelagoError('unavailable', 'this node does not lead, so it renews no lease');
}
