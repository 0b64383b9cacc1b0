/**
 * What a world is like, drawn from its seed. Worlds differ much from one another (small and large bounds, quick and slow disks, few faults of one
 * sort or many of all), since a mistake that never shows in an average world may show at once in an odd one.
 */
import type { Prng } from '../../../src/base/index.ts';
import type { CoreOptions } from '../../../src/raft/core/types.ts';

export interface ClientSetting {
  readonly count: number;
  readonly thinkMs: number;
  readonly keys: number;
  /** Part of the operations that write. */
  readonly writes: number;
}

export interface Setting {
  /** Members that the group begins with, and others that wait to be invited. */
  readonly voters: number;
  readonly spares: number;
  readonly faultsMs: number;
  /** Disks are simulated by the record, with the production storage on top, or by the batch. */
  readonly records: boolean;
  readonly diskMs: number;
  readonly networkMs: number;
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  readonly core: Partial<CoreOptions>;
  readonly snapshotChunkBytes: number;
  readonly clients: ClientSetting;
  /** Entries that a member keeps for followers that are behind; each draws its own. */
  readonly keepEntries: readonly number[];
}

export function drawSetting(random: Prng): Setting {
  const pick = <Value>(values: readonly Value[]): Value => values[random.below(values.length)] as Value;
  const voters = pick([1, 2, 3, 3, 3, 3, 3, 4, 5, 5, 5]);
  const [electionTicks, heartbeatTicks] = pick([
    [4, 1],
    [6, 2],
    [10, 2],
    [10, 4],
  ] as const);
  return {
    voters,
    spares: voters === 1 ? 2 : random.below(3),
    faultsMs: pick([3_000, 6_000, 12_000]),
    records: random.chance(0.25),
    diskMs: pick([1, 1, 10, 40]),
    networkMs: pick([1, 5, 20]),
    electionTicks,
    heartbeatTicks,
    // One entry a message in some worlds: then followers are often half-way.
    core: { maxAppendBytes: pick([1, 200, 100_000]), maxInflightAppends: pick([1, 2, 128]) },
    snapshotChunkBytes: pick([16, 64, 100_000]),
    clients: { count: 2 + random.below(9), thinkMs: pick([2, 15, 60]), keys: 1 + random.below(3), writes: pick([0.2, 0.5, 0.8]) },
    keepEntries: random.chance(0.5) ? [pick([2, 8, 30, 200])] : [2, 8, 200],
  };
}
