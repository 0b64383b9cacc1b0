/** Breaks things at seeded moments, and mends everything at the end. What it can do is in `moves.ts`. */
import type { Prng } from '../../../../src/base/index.ts';
import { CALM } from '../../network.ts';
import type { ControlProcess } from './control-process.ts';
import { drawMoves, type WeightedMove } from './moves.ts';
import type { SimNode } from './node.ts';
import { castOf, type Plot } from './plots.ts';
import type { World } from './world.ts';

/** Before it is looked again for somebody to play a plot. */
const RECAST_MS = 300;

const NO_COUNTS = {
  crashes: 0,
  controlDeaths: 0,
  dataDeaths: 0,
  powerFailures: 0,
  pauses: 0,
  dataPauses: 0,
  controlPauses: 0,
  partitions: 0,
  oneWayPartitions: 0,
  bridgePartitions: 0,
  lags: 0,
  brokenConnections: 0,
  badNetworks: 0,
  troubledMessages: 0,
  slowStores: 0,
  storeErrors: 0,
  slowLogs: 0,
  leaderChanges: 0,
  migrations: 0,
  drains: 0,
  snapshots: 0,
  opens: 0,
  locks: 0,
  brokenLocks: 0,
  guestMoves: 0,
};

export type NemesisCounts = Record<keyof typeof NO_COUNTS, number>;

export class Nemesis {
  readonly counts: NemesisCounts = { ...NO_COUNTS };
  readonly world: World;
  readonly random: Prng;
  private readonly moves: readonly WeightedMove[];
  private readonly meanGapMs: number;
  private stopped = false;

  constructor(world: World, random: Prng) {
    this.world = world;
    this.random = random;
    this.moves = drawMoves(random, world.setting);
    this.meanGapMs = 60 * 12 ** random.unit();
  }

  start(): void {
    if (this.world.plot === null) this.next();
    else this.playOn(this.world.plot);
  }

  stop(): void {
    this.stopped = true;
    const { world } = this;
    this.mend();
    world.network.conditions = { ...CALM, delayMs: world.setting.networkMs };
    Object.assign(world.storeFaults, { noSpace: 0, ioError: 0, syncError: 0 });
    for (const node of world.nodes) {
      node.applyStoreFaults();
      node.start();
    }
  }

  /** Whatever lasts until it is ended. */
  private mend(): void {
    const { world } = this;
    this.heal();
    world.network.troubles.clear();
    world.guestsOnly = null;
    for (const node of world.nodes) {
      Object.assign(node.storeConditions, { slowChance: 0, slowKind: null });
      node.applyStoreFaults();
      node.disk.conditions.writeMs = world.setting.logDiskMs;
    }
  }

  heal(): void {
    const { world } = this;
    world.network.heal();
    for (const pair of world.everyPair) pair.heal();
  }

  /** Does something after a while, unless everything is being mended by then. */
  later(delayMs: number, action: () => void): void {
    this.world.scheduler.in(delayMs, () => {
      if (!this.stopped) action();
    });
  }

  pick(): SimNode {
    return this.oneOf(this.world.nodes);
  }

  /** The owner, more often than not. */
  target(): SimNode {
    return (this.random.chance(0.6) ? this.world.owner : this.random.chance(0.3) ? this.world.leader : null) ?? this.pick();
  }

  oneOf<Value>(values: readonly Value[]): Value {
    return values[this.random.below(values.length)] as Value;
  }

  shuffled(): SimNode[] {
    const nodes = [...this.world.nodes];
    for (let at = nodes.length - 1; at > 0; at--) {
      const other = this.random.below(at + 1);
      [nodes[at], nodes[other]] = [nodes[other] as SimNode, nodes[at] as SimNode];
    }
    return nodes;
  }

  others(than: SimNode): SimNode[] {
    return this.world.nodes.filter((node) => node !== than);
  }

  crash(node: SimNode): void {
    if (!node.isUp) return;
    this.counts.crashes++;
    node.crash();
    this.world.scheduler.in(this.downMs(), () => node.start());
  }

  downMs(): number {
    return this.random.unit() * (this.random.chance(0.5) ? 300 : 3_000);
  }

  /** Longer than a lease more often than not. */
  pauseMs(): number {
    return this.random.unit() * (this.random.chance(0.2) ? 300 : 4_000);
  }

  /** Between which networks: that of the control processes, that of the data processes, or both. */
  layers(): { readonly control: boolean; readonly data: boolean } {
    const lot = this.random.below(6);
    return { control: lot !== 0, data: lot !== 1 };
  }

  cut(from: SimNode, to: SimNode, { control, data }: { readonly control: boolean; readonly data: boolean }): void {
    if (control) this.world.network.cutLink(from.name, to.name);
    if (data) this.world.pair(from.name, to.name).cut(from.name);
  }

  cutBetween(some: readonly SimNode[], others: readonly SimNode[]): void {
    const layers = this.layers();
    for (const a of some) {
      for (const b of others) {
        this.cut(a, b, layers);
        this.cut(b, a, layers);
      }
    }
  }

  /** Asks a node as an administrator would; what comes of it is not waited for. */
  ask(node: SimNode, what: (control: ControlProcess) => Promise<unknown>, then: () => void = () => undefined): void {
    const { control } = node;
    if (control?.raft === undefined) return;
    // Refused, or not possible now: both are answers. What must not happen the checkers see.
    what(control).then(then, () => undefined);
  }

  /** A guest at each node, a plot, and a while to recover. */
  private playOn(plot: Plot): void {
    const { world } = this;
    for (const [at, guest] of world.guests.entries()) guest.sit(world.nodes[at % world.nodes.length] as SimNode);
    this.later(200 + 400 * this.random.unit(), () => {
      const cast = castOf(this, plot);
      if (cast !== null) plot.play(this, cast);
      this.later(cast === null ? RECAST_MS : plot.lastsMs, () => {
        this.mend();
        this.later(400 * this.random.unit(), () => this.playOn(plot));
      });
    });
  }

  private next(): void {
    this.world.scheduler.in(this.meanGapMs * this.random.unit() * 2, () => {
      if (this.stopped) return;
      this.draw().move(this);
      this.next();
    });
  }

  private draw(): WeightedMove {
    let rest = this.random.below(this.moves.reduce((sum, { weight }) => sum + weight, 0));
    return this.moves.find(({ weight }) => {
      rest -= weight;
      return rest < 0;
    }) as WeightedMove;
  }
}
