/** What a world is like, drawn from its seed: worlds differ much from one another, since a mistake that hides in one may show at once in another. */
import type { Prng } from '../../../../src/base/index.ts';
import type { LeaseTiming } from '../../../../src/mapper/leases/index.ts';
import type { Fence } from '../../volume/disk.ts';

export interface GuestSetting {
  readonly count: number;
  readonly thinkMs: number;
  /** Requests of one guest that are under way at a time. */
  readonly depth: number;
  /** Blocks in use, and sectors of each. */
  readonly blocks: number;
  readonly sectors: number;
  /** Part of the requests that write. */
  readonly writes: number;
  /** Part of those that empty a whole block. */
  readonly empties: number;
}

export interface Setting {
  readonly names: readonly string[];
  readonly faultsMs: number;
  readonly networkMs: number;
  readonly logDiskMs: number;
  readonly storeMs: number;
  readonly fence: Fence;
  readonly timing: LeaseTiming;
  readonly renewMs: number;
  readonly tickMs: number;
  readonly electionTicks: number;
  readonly keepEntries: number;
  readonly guests: GuestSetting;
  /** Layered blocks are merged. */
  readonly merges: boolean;
  /** The store fails now and then, beside being slow. */
  readonly storeErrors: boolean;
  /** How far clocks run fast or slow: two of them differ by twice that, and by less than the allowance over one lease. */
  readonly driftPart: number;
  /** All clocks run as fast or as slow as they may. */
  readonly clocksAtEnds: boolean;
}

/** Small, for a plot to be played often in little time: a guest at each node, and clocks as far apart as they may be. */
export function forPlot(setting: Setting, wanted: Partial<GuestSetting> = {}): Setting {
  const { guests, networkMs, logDiskMs } = setting;
  return {
    ...setting,
    names: ['a', 'b', 'c'],
    faultsMs: 16_000,
    networkMs: Math.min(networkMs, 5),
    logDiskMs: Math.min(logDiskMs, 5),
    guests: { ...guests, count: 3, thinkMs: Math.max(10, guests.thinkMs), sectors: 1, writes: 0.5, ...wanted },
    storeErrors: false,
    driftPart: 0.1,
    clocksAtEnds: true,
  };
}

export function drawSetting(random: Prng): Setting {
  const pick = <Value>(values: readonly Value[]): Value => values[random.below(values.length)] as Value;
  return {
    names: ['a', 'b', 'c', 'd', 'e'].slice(0, pick([2, 3, 3, 3, 3, 3, 5])),
    faultsMs: pick([6_000, 10_000, 16_000]),
    networkMs: pick([1, 1, 5, 20]),
    logDiskMs: pick([1, 1, 5, 20]),
    storeMs: pick([0.5, 2, 10]),
    fence: pick(['guard', 'copy'] as const),
    timing: { leaseMs: 1_000, driftMs: 250 },
    renewMs: pick([100, 250]),
    tickMs: 50,
    electionTicks: pick([5, 10]),
    keepEntries: pick([4, 30, 1_000]),
    guests: {
      count: pick([2, 2, 3, 4]),
      thinkMs: pick([3, 10, 40]),
      depth: pick([1, 2, 4]),
      blocks: pick([1, 2, 3]),
      sectors: pick([1, 2, 3]),
      writes: pick([0.3, 0.5, 0.7]),
      empties: 0.04,
    },
    merges: random.chance(0.4),
    storeErrors: random.chance(0.15),
    driftPart: pick([0, 0.05, 0.1]),
    clocksAtEnds: false,
  };
}
