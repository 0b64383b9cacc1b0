/** Breaks things at seeded moments, and mends everything at the end. What it can do is in `moves.ts`. */
import type { Prng } from '../../../src/base/index.ts';
import { CALM } from '../network.ts';
import type { WriteKind } from './disk.ts';
import { drawMoves, type Move, type WeightedMove } from './moves.ts';
import { encodeWrite } from './registers.ts';
import type { Watch, World } from './world.ts';

const NO_COUNTS = {
  crashes: 0,
  restartsOfAll: 0,
  crashesAfterSending: 0,
  crashesAtWrites: 0,
  partitions: 0,
  oneWayPartitions: 0,
  bridgePartitions: 0,
  lags: 0,
  pauses: 0,
  slowDisks: 0,
  stuckDisks: 0,
  failingDisks: 0,
  badReads: 0,
  badNetworks: 0,
  troubledMessages: 0,
  rivalries: 0,
  lateVotes: 0,
  lateSnapshots: 0,
  olderTerms: 0,
  ambushes: 0,
  transfers: 0,
  membershipChanges: 0,
};

export type NemesisCounts = Record<keyof typeof NO_COUNTS, number>;

/** Waits for a member to do something; it springs once. */
interface Trap {
  readonly on: 'sent' | 'leads' | 'writes' | 'written';
  /** Of the frame or the write; null for any. */
  readonly kind: string | null;
  /** True if this was it. `to` is who the frame is for. */
  spring(id: string, to: string): boolean;
}

/** Of the writes of its own: a register and numbers that no client uses. */
const REGISTER = 200;
const FIRST_WRITE = 2_000_000;
/** Slow enough that a member of no followers does not pile up more than they take in at once afterwards. */
const WRITE_GAP_MS = 40;
/** Traps that wait; more are not set. */
const MAX_TRAPS = 8;

export class Nemesis implements Watch {
  readonly counts: NemesisCounts = { ...NO_COUNTS };
  readonly world: World;
  readonly random: Prng;
  private readonly moves: readonly WeightedMove[];
  private readonly meanGapMs: number;
  private traps: Trap[] = [];
  /** Ends the plot that is under way. */
  private plot: (() => void) | null = null;
  private writes = FIRST_WRITE;
  private stopped = false;

  constructor(world: World, random: Prng) {
    this.world = world;
    this.random = random;
    this.moves = drawMoves(random);
    // From frantic to rare, each order of magnitude as often as another.
    this.meanGapMs = 40 * 30 ** random.unit();
  }

  start(): void {
    const { world } = this;
    world.watch = this;
    for (const id of world.ids) world.disk(id).onWrite = (kind, through) => this.wrote(id, kind, through);
    world.network.conditions = { ...CALM, delayMs: world.setting.networkMs };
    this.next();
  }

  stop(): void {
    this.stopped = true;
    const { world } = this;
    world.watch = null;
    world.network.heal();
    world.network.conditions = CALM;
    world.network.troubles.clear();
    for (const id of world.ids) {
      const disk = world.disk(id);
      disk.onWrite = null;
      Object.assign(disk.conditions, { writeMs: world.setting.diskMs, slowChance: 0, errorChance: 0, readErrorChance: 0 });
      world.restart(id);
    }
  }

  sent(id: string, to: string, kind: string): void {
    this.springTraps('sent', id, kind, to);
  }

  leads(id: string): void {
    this.springTraps('leads', id, null);
  }

  // --- what moves are made of ---

  /** Does something after a while, unless everything is being mended by then. */
  later(delayMs: number, action: () => void): void {
    this.world.scheduler.in(delayMs, () => {
      if (!this.stopped) action();
    });
  }

  /** Waits for a while for something that a member does. */
  trap(trap: Trap, forMs: number): void {
    if (this.traps.length >= MAX_TRAPS) return;
    this.traps.push(trap);
    this.later(forMs, () => {
      this.traps = this.traps.filter((other) => other !== trap);
    });
  }

  /** A plot is under way that another one, or a heal, would spoil. */
  get isPlotting(): boolean {
    return this.plot !== null;
  }

  /** Null if there is one already. What this returns ends it, and mends the network; so does the time. */
  beginPlot(forMs: number): (() => void) | null {
    if (this.plot !== null) return null;
    const end = () => {
      if (this.plot !== end) return;
      this.plot = null;
      this.world.network.heal();
    };
    this.plot = end;
    this.later(forMs, end);
    return end;
  }

  /** Has a member propose writes for a while, since all clients may be waiting for one that is cut off. */
  keepBusy(id: string, forMs: number): void {
    const endMs = this.world.scheduler.nowMs + forMs;
    const propose = () => {
      const answer = this.world.member(id)?.node.propose(encodeWrite(++this.writes, REGISTER), { timeoutMs: forMs });
      // Nobody asks what became of them; if they are applied, then by all alike.
      answer?.catch(() => {});
      if (this.world.scheduler.nowMs < endMs) this.later(WRITE_GAP_MS, propose);
    };
    propose();
  }

  pick(): string {
    const { ids } = this.world;
    return ids[this.random.below(ids.length)] as string;
  }

  oneOf<Value>(values: readonly Value[]): Value {
    return values[this.random.below(values.length)] as Value;
  }

  /** One that believes to lead. */
  leader(): string | null {
    const leaders = this.world.ids.filter((id) => this.world.member(id)?.node.status().role === 'leader');
    return leaders.length === 0 ? null : this.oneOf(leaders);
  }

  shuffled(): string[] {
    const ids = [...this.world.ids];
    for (let at = ids.length - 1; at > 0; at--) {
      const other = this.random.below(at + 1);
      [ids[at], ids[other]] = [ids[other] as string, ids[at] as string];
    }
    return ids;
  }

  others(than: string): string[] {
    return this.world.ids.filter((id) => id !== than);
  }

  crash(id: string, downMs: number): void {
    if (!this.world.isUp(id)) return;
    this.counts.crashes++;
    this.world.crash(id);
    this.world.scheduler.in(downMs, () => this.world.restart(id));
  }

  downMs(): number {
    return this.random.unit() * (this.random.chance(0.5) ? 100 : 2_000);
  }

  cutBetween(some: readonly string[], others: readonly string[]): void {
    for (const a of some) {
      for (const b of others) {
        this.world.network.cutLink(a, b);
        this.world.network.cutLink(b, a);
      }
    }
  }

  private next(): void {
    this.world.scheduler.in(this.meanGapMs * this.random.unit() * 2, () => {
      if (this.stopped) return;
      this.draw()(this);
      this.next();
    });
  }

  private draw(): Move {
    let rest = this.random.below(this.moves.reduce((sum, { weight }) => sum + weight, 0));
    const drawn = this.moves.find(({ weight }) => {
      rest -= weight;
      return rest < 0;
    });
    return (drawn as WeightedMove).move;
  }

  private wrote(id: string, kind: WriteKind, through: boolean): void {
    this.springTraps(through ? 'written' : 'writes', id, kind);
  }

  private springTraps(on: Trap['on'], id: string, kind: string | null, to = ''): void {
    if (this.traps.length === 0) return;
    const sprung = this.traps.filter((trap) => trap.on === on && (trap.kind === null || trap.kind === kind) && trap.spring(id, to));
    if (sprung.length > 0) this.traps = this.traps.filter((trap) => !sprung.includes(trap));
  }
}
