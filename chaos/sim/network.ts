/** A seeded network: delay, loss, duplication, reordering, and links that are slow, or cut, one way or both. */
import type { Prng } from '../../src/base/index.ts';
import type { Scheduler } from './scheduler.ts';

export interface NetworkConditions {
  /** Chances for each frame. */
  loss: number;
  duplication: number;
  /** Chance of a delay long enough to be overtaken by much, and by elections. */
  straggling: number;
  delayMs: number;
}

export interface NetworkCounts {
  delivered: number;
  lost: number;
  duplicated: number;
  straggled: number;
  cut: number;
}

const STRAGGLE_MS = 4_000;

export class Network {
  readonly counts: NetworkCounts = { delivered: 0, lost: 0, duplicated: 0, straggled: 0, cut: 0 };
  conditions: NetworkConditions = CALM;
  private readonly cut = new Set<string>();
  private readonly slow = new Map<string, number>();
  private readonly scheduler: Scheduler;
  private readonly random: Prng;
  private readonly deliver: (from: string, to: string, frame: Uint8Array) => void;

  constructor(scheduler: Scheduler, random: Prng, deliver: (from: string, to: string, frame: Uint8Array) => void) {
    this.scheduler = scheduler;
    this.random = random;
    this.deliver = deliver;
  }

  send(from: string, to: string, frame: Uint8Array): void {
    const { random, conditions, counts } = this;
    if (random.chance(conditions.loss)) {
      counts.lost++;
      return;
    }
    this.dispatch(from, to, frame);
    if (!random.chance(conditions.duplication)) return;
    counts.duplicated++;
    this.dispatch(from, to, frame);
  }

  /** Cuts the link in that direction only. */
  cutLink(from: string, to: string): void {
    this.cut.add(`${from}>${to}`);
  }

  /** Adds to the delay of that direction. */
  slowLink(from: string, to: string, delayMs: number): void {
    this.slow.set(`${from}>${to}`, delayMs);
  }

  heal(): void {
    this.cut.clear();
    this.slow.clear();
  }

  private dispatch(from: string, to: string, frame: Uint8Array): void {
    const { random, conditions, counts } = this;
    let delayMs = conditions.delayMs * (0.1 + random.unit()) + (this.slow.get(`${from}>${to}`) ?? 0);
    if (random.chance(conditions.straggling)) {
      counts.straggled++;
      delayMs += random.unit() * STRAGGLE_MS;
    }
    this.scheduler.in(delayMs, () => {
      if (this.cut.has(`${from}>${to}`)) {
        counts.cut++;
        return;
      }
      this.deliver(from, to, frame);
    });
  }
}

export const CALM: NetworkConditions = { loss: 0, duplication: 0, straggling: 0, delayMs: 1 };
