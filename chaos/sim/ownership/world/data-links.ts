/**
 * Links between data processes: connections that carry frames in order and break. What was sent before a connection broke still arrives at an
 * end that has not noticed; each end notices by itself, when its side of the network and its process let it.
 */
import type { Prng } from '../../../../src/base/index.ts';
import type { Host } from '../../host.ts';
import type { Scheduler } from '../../scheduler.ts';
import { SimLink } from '../link.ts';

/** An end whose peer does not answer gives the connection up after this long, at most. */
const NOTICE_MS = 2_000;
const REDIAL_MS = 100;

export class WorldLink extends SimLink {
  /** Of the connection; both ends of one have the same. */
  connection = 0;
  readonly host: Host;
  private readonly pair: LinkPair;
  private readonly alive: () => boolean;
  private readonly arriving: (() => void)[] = [];

  constructor(peer: string, host: Host, pair: LinkPair) {
    super(peer, host.clock);
    this.host = host;
    this.alive = host.lifeline();
    this.pair = pair;
  }

  get isAlive(): boolean {
    return this.alive();
  }

  protected override carry(frame: () => void): void {
    const { connection } = this;
    if (!this.connected || !this.isAlive) return;
    this.pair.send(this, () => (this.peer as WorldLink).arrive(connection, frame));
  }

  private arrive(connection: number, frame: () => void): void {
    if (!this.isAlive) return;
    this.arriving.push(() => {
      if (this.connected && this.connection === connection) frame();
    });
    this.host.in(0, () => this.arriving.shift()?.());
  }
}

/** One direction of the way between two nodes. */
interface Direction {
  cut: boolean;
  slowMs: number;
  /** When the last frame that was sent arrives. */
  lastMs: number;
  held: (() => void)[];
}

/** The way between the data processes of two nodes, whichever lives they are in. */
export class LinkPair {
  broken = 0;
  private readonly names: readonly [string, string];
  private ends: [WorldLink | null, WorldLink | null] = [null, null];
  private readonly directions: readonly [Direction, Direction] = [newDirection(), newDirection()];
  private connections = 0;
  private readonly scheduler: Scheduler;
  private readonly random: Prng;
  private readonly delayMs: () => number;

  constructor(names: readonly [string, string], scheduler: Scheduler, random: Prng, delayMs: () => number) {
    this.names = names;
    this.scheduler = scheduler;
    this.random = random;
    this.delayMs = delayMs;
    this.dialLater();
  }

  /** A data process begins; the result is its end, for as long as it lives. */
  begin(name: string, host: Host): WorldLink {
    const at = this.sideOf(name);
    const link = new WorldLink(this.names[1 - at] as string, host, this);
    this.ends[at] = link;
    return link;
  }

  /** A data process has died: its kernel says so to the other end, if it can. */
  died(name: string): void {
    const at = this.sideOf(name);
    this.ends[at] = null;
    const other = this.ends[1 - at];
    if (!other?.connected) return;
    const { connection } = other;
    // Behind what it had sent.
    if (!this.isCut) this.push(at, () => this.noticeAt(other, connection, 0));
    else this.noticeAt(other, connection, this.random.unit() * NOTICE_MS);
  }

  cut(from: string): void {
    const direction = this.directions[this.sideOf(from)] as Direction;
    if (direction.cut) return;
    direction.cut = true;
    // Pings go both ways, so both ends notice, each in its own time.
    for (const end of this.ends) if (end?.connected) this.noticeIfStillCut(end, end.connection);
  }

  slow(from: string, delayMs: number): void {
    (this.directions[this.sideOf(from)] as Direction).slowMs = delayMs;
  }

  heal(): void {
    this.directions.forEach((direction, at) => {
      direction.cut = false;
      direction.slowMs = 0;
      for (const frame of direction.held.splice(0)) this.push(at, frame);
    });
  }

  /** The connection is lost, though the network is whole. */
  break(): void {
    this.broken++;
    for (const end of this.ends) if (end?.connected) this.noticeAt(end, end.connection, this.random.chance(0.5) ? 0 : this.random.unit() * NOTICE_MS);
  }

  send(link: WorldLink, frame: () => void): void {
    const at = this.ends.indexOf(link);
    if (at >= 0) this.push(at, frame);
  }

  private get isCut(): boolean {
    return this.directions.some(({ cut }) => cut);
  }

  private sideOf(name: string): 0 | 1 {
    return this.names[0] === name ? 0 : 1;
  }

  private push(at: number, frame: () => void): void {
    const direction = this.directions[at] as Direction;
    if (direction.cut) {
      direction.held.push(frame);
      return;
    }
    direction.lastMs = Math.max(direction.lastMs, this.scheduler.nowMs + this.delayMs() + direction.slowMs);
    this.scheduler.in(direction.lastMs - this.scheduler.nowMs, frame);
  }

  private noticeIfStillCut(end: WorldLink, connection: number): void {
    this.scheduler.in(200 + this.random.unit() * NOTICE_MS, () => {
      if (this.isCut) this.noticeAt(end, connection, 0);
    });
  }

  private noticeAt(end: WorldLink, connection: number, delayMs: number): void {
    if (!end.isAlive) return;
    end.host.in(delayMs, () => {
      if (end.connection === connection) end.disconnect();
    });
  }

  private dialLater(): void {
    this.scheduler.in(REDIAL_MS * (0.2 + this.random.unit()), () => {
      this.dial();
      this.dialLater();
    });
  }

  private dial(): void {
    const [one, other] = this.ends;
    if (one === null || other === null || this.isCut) return;
    if (!one.isAlive || !other.isAlive || one.host.isPaused || other.host.isPaused) return;
    if (one.connected && other.connected && one.connection === other.connection) return;
    const connection = ++this.connections;
    [one.peer, other.peer] = [other, one];
    for (const direction of this.directions) direction.held = [];
    for (const end of [one, other]) {
      // An end that thought its connection alive is told that another has taken its place.
      end.disconnect();
      end.connection = connection;
      end.host.touched();
      end.connect();
    }
  }
}

function newDirection(): Direction {
  return { cut: false, slowMs: 0, lastMs: 0, held: [] };
}
