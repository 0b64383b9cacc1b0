/** Faults of a minority of real daemons: killed, paused, started again. The plan of a round comes from the seed alone; when its steps happen depends on the machine. */
import type { Prng } from '../../src/base/index.ts';
import type { Cluster } from './cluster.ts';
import { sleepUntilAborted } from './wait.ts';

const KINDS = ['kill', 'kill-control', 'pause', 'pause-control', 'pause-then-kill'] as const;
export type FaultKind = (typeof KINDS)[number];

const MIN_PAUSE_MS = 500;
const MAX_PAUSE_MS = 10_000;
/** How long a killed node stays away. */
const MIN_AWAY_MS = 50;
const MAX_AWAY_MS = 3_000;
/** After a fault and before the next of the same victim: often too short for a start to be done. */
const MIN_GAP_MS = 50;
const MAX_GAP_MS = 1_500;
const MOST_FAULTS_IN_A_ROW = 3;
/** For so long before a fault clients are drawn to its victim, and do not rest: it strikes while their commands are under way there. */
const LURE_MS = 500;

export interface Fault {
  readonly kind: FaultKind;
  /** How long it lasts, and what follows before the next one. */
  readonly ms: number;
  readonly gapMs: number;
}

export interface Victim {
  /** Its place among the nodes; if `leader`, then whoever leads as the round begins. */
  readonly place: number;
  readonly leader: boolean;
  readonly faults: readonly Fault[];
}

/** Plans rounds. Each victim has its faults one after the other; the victims of a round have theirs at the same time. */
export class FaultPlanner {
  private readonly prng: Prng;
  private readonly nodes: number;
  /** Kinds not dealt yet: each comes once before any comes again. */
  private deck: FaultKind[] = [];

  constructor(prng: Prng, nodes: number) {
    this.prng = prng;
    this.nodes = nodes;
  }

  /** The victims are at most as many as the others can do without. */
  nextRound(): Victim[] {
    const { prng, nodes } = this;
    const minority = Math.floor((nodes - 1) / 2);
    const places = shuffled(
      prng,
      Array.from({ length: nodes }, (_, place) => place),
    );
    return places.slice(0, 1 + prng.below(minority)).map((place, order) => ({
      place,
      leader: order === 0 && prng.chance(0.5),
      faults: Array.from({ length: 1 + prng.below(MOST_FAULTS_IN_A_ROW) }, () => this.nextFault()),
    }));
  }

  private nextFault(): Fault {
    if (this.deck.length === 0) this.deck = shuffled(this.prng, KINDS);
    const kind = this.deck.pop() as FaultKind;
    const isPause = kind === 'pause' || kind === 'pause-control';
    return {
      kind,
      // Rather long: what clients do while a node sleeps is what makes its waking interesting.
      ms: isPause ? this.spread(MIN_PAUSE_MS, MAX_PAUSE_MS, 0.6) : this.spread(MIN_AWAY_MS, MAX_AWAY_MS),
      gapMs: this.spread(MIN_GAP_MS, MAX_GAP_MS),
    };
  }

  /** Evenly over the logarithm, or with a bias below 1 rather at the upper end. */
  private spread(min: number, max: number, bias = 1): number {
    return Math.round(min * (max / min) ** (this.prng.unit() ** bias));
  }
}

/** Carries rounds out. */
export class Nemesis {
  kills = 0;
  pauses = 0;
  /**
   * The victim of the next fault, for clients to go to: rare moments come more often that way, such as a node that goes to sleep between handing a
   * proposal on and hearing of its commit.
   */
  next: string | null = null;
  private readonly cluster: Cluster;
  private readonly planner: FaultPlanner;
  private readonly signal: AbortSignal;

  /** When `signal` aborts, the round at hand ends early: what is paused goes on, what was killed is started, and nothing else happens. */
  constructor(cluster: Cluster, prng: Prng, signal: AbortSignal) {
    this.cluster = cluster;
    this.planner = new FaultPlanner(prng, cluster.names.length);
    this.signal = signal;
  }

  /** When it resolves, every node is ready, victim or not; or runs at least, after an abort. */
  async round(): Promise<void> {
    const struck = new Set<string>();
    const rows = this.planner.nextRound().map(async ({ place, leader, faults }) => {
      const { names } = this.cluster;
      const planned = names[place] as string;
      const name = leader ? ((await this.cluster.leaderOf(names)) ?? planned) : planned;
      // Two for one would be one victim less, and that is a minority too.
      if (struck.has(name)) return;
      struck.add(name);
      for (const fault of faults) await this.inject(name, fault);
    });
    // All have to end before anybody cleans up.
    for (const row of await Promise.allSettled(rows)) if (row.status === 'rejected') throw row.reason;
    if (!this.signal.aborted) await this.cluster.ready();
  }

  private async inject(name: string, { kind, ms, gapMs }: Fault): Promise<void> {
    const { cluster, signal } = this;
    this.next = name;
    await sleepUntilAborted(LURE_MS, signal);
    this.next = null;
    if (signal.aborted) return;
    if (kind === 'pause' || kind === 'pause-control') {
      const send = (which: NodeJS.Signals) => (kind === 'pause' ? cluster.signal(name, which) : cluster.signalControl(name, which));
      this.pauses++;
      send('SIGSTOP');
      await sleepUntilAborted(ms, signal);
      send('SIGCONT');
    } else {
      if (kind === 'pause-then-kill') {
        this.pauses++;
        cluster.signal(name, 'SIGSTOP');
        await sleepUntilAborted(ms, signal);
      }
      this.kills++;
      await (kind === 'kill-control' ? cluster.killControl(name) : cluster.kill(name));
      await sleepUntilAborted(ms, signal);
      await cluster.start(name);
    }
    await sleepUntilAborted(gapMs, signal);
  }
}

function shuffled<Value>(prng: Prng, values: readonly Value[]): Value[] {
  const result = [...values];
  for (let place = result.length - 1; place > 0; place--) {
    const other = prng.below(place + 1);
    [result[place], result[other]] = [result[other] as Value, result[place] as Value];
  }
  return result;
}
