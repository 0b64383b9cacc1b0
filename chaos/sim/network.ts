/**
 * A seeded network: delay, loss, duplication, reordering, links that are slow, or cut, one way or both, and messages of one kind that are
 * held back, lost, or heard again much later.
 */
import type { Prng } from '../../src/base/index.ts';
import { type Scheduler, Task } from './scheduler.ts';

export interface NetworkConditions {
  /** Chances for each frame. */
  loss: number;
  duplication: number;
  /** Chance of a delay long enough to be overtaken by much, and by elections. */
  straggling: number;
  delayMs: number;
}

/** Trouble for the frames of one kind only. */
export interface KindTrouble {
  readonly does: 'delay' | 'lose' | 'echo';
  readonly chance: number;
  readonly delayMs: number;
}

export interface NetworkCounts {
  delivered: number;
  lost: number;
  duplicated: number;
  straggled: number;
  cut: number;
  /** By trouble for their kind. */
  heldBack: number;
  echoed: number;
}

const STRAGGLE_MS = 4_000;

class Link {
  readonly from: string;
  readonly to: string;
  isCut = false;
  slowMs = 0;
  /** Null unless what arrives is held. */
  held: Passage[] | null = null;

  constructor(from: string, to: string) {
    this.from = from;
    this.to = to;
  }
}

class Passage extends Task {
  private readonly network: Network;
  private readonly link: Link;
  private readonly frame: Uint8Array;

  constructor(network: Network, link: Link, frame: Uint8Array) {
    super();
    this.network = network;
    this.link = link;
    this.frame = frame;
  }

  run(): void {
    const { link, network } = this;
    if (link.isCut) network.counts.cut++;
    else if (link.held !== null) link.held.push(this);
    else network.deliver(link.from, link.to, this.frame);
  }
}

export class Network {
  readonly counts: NetworkCounts = { delivered: 0, lost: 0, duplicated: 0, straggled: 0, cut: 0, heldBack: 0, echoed: 0 };
  readonly deliver: (from: string, to: string, frame: Uint8Array) => void;
  conditions: NetworkConditions = CALM;
  /** By the kind of frame, or by that, the sender and the receiver: `append a b`. */
  readonly troubles = new Map<string, KindTrouble>();
  private readonly links = new Map<string, Map<string, Link>>();
  private readonly scheduler: Scheduler;
  private readonly random: Prng;

  constructor(scheduler: Scheduler, random: Prng, deliver: (from: string, to: string, frame: Uint8Array) => void) {
    this.scheduler = scheduler;
    this.random = random;
    this.deliver = deliver;
  }

  /** `kind` is what troubles go by. */
  send(from: string, to: string, frame: Uint8Array, kind: string): void {
    const { random, conditions, counts } = this;
    if (conditions.loss > 0 && random.chance(conditions.loss)) {
      counts.lost++;
      return;
    }
    let extraMs = 0;
    const trouble = this.troubles.size === 0 ? undefined : (this.troubles.get(kind) ?? this.troubles.get(`${kind} ${from} ${to}`));
    if (trouble !== undefined && random.chance(trouble.chance)) {
      if (trouble.does === 'lose') {
        counts.lost++;
        return;
      }
      const laterMs = trouble.delayMs * random.unit();
      if (trouble.does === 'delay') {
        counts.heldBack++;
        extraMs = laterMs;
      } else {
        counts.echoed++;
        this.dispatch(from, to, frame, laterMs);
      }
    }
    this.dispatch(from, to, frame, extraMs);
    if (conditions.duplication === 0 || !random.chance(conditions.duplication)) return;
    counts.duplicated++;
    this.dispatch(from, to, frame, 0);
  }

  /** Cuts the link in that direction only. */
  cutLink(from: string, to: string): void {
    this.link(from, to).isCut = true;
  }

  /** Adds to the delay of that direction. */
  slowLink(from: string, to: string, delayMs: number): void {
    this.link(from, to).slowMs = delayMs;
  }

  /** Keeps what would arrive from now on, for as long as it pleases. */
  holdLink(from: string, to: string): void {
    this.link(from, to).held ??= [];
  }

  /** Lets what was held arrive, even if its sender is gone. */
  releaseLink(from: string, to: string): void {
    this.release(this.link(from, to));
  }

  /** Makes links whole again. */
  heal(): void {
    for (const links of this.links.values()) {
      for (const link of links.values()) {
        link.isCut = false;
        link.slowMs = 0;
        this.release(link);
      }
    }
  }

  private release(link: Link): void {
    const { held } = link;
    link.held = null;
    for (const passage of held ?? []) this.scheduler.add(0, passage);
  }

  private dispatch(from: string, to: string, frame: Uint8Array, extraMs: number): void {
    const { random, conditions, counts } = this;
    const link = this.link(from, to);
    let delayMs = conditions.delayMs * (0.1 + random.unit()) + link.slowMs + extraMs;
    if (conditions.straggling > 0 && random.chance(conditions.straggling)) {
      counts.straggled++;
      delayMs += random.unit() * STRAGGLE_MS;
    }
    this.scheduler.add(delayMs, new Passage(this, link, frame));
  }

  private link(from: string, to: string): Link {
    let links = this.links.get(from);
    if (links === undefined) {
      links = new Map();
      this.links.set(from, links);
    }
    let link = links.get(to);
    if (link === undefined) {
      link = new Link(from, to);
      links.set(to, link);
    }
    return link;
  }
}

export const CALM: NetworkConditions = { loss: 0, duplication: 0, straggling: 0, delayMs: 1 };
