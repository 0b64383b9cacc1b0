/**
 * A disk that outlives every process. With the power, each unsynced sector, creation and removal is kept or dropped.
 *
 * A volume's log is kept as the file driver keeps it: each epoch has its own, a copy of the one before that is trusted only under the boot
 * that made it, until the first sync settles it. Objects have one of two fences, as the drivers have them: 'guard' refuses what comes under a
 * lower epoch than the last claim's, as RADOS does; with 'copy' a claim puts a copy in the object's place, and who has the former file open
 * goes on with that one.
 */
import type { Prng, VolumeId } from '../../../src/base/index.ts';
import type { SimFile } from './file.ts';
import type { SimVolumeStore } from './volume-store.ts';

export interface SimLog {
  readonly boot: number;
  settled: boolean;
  header: Uint8Array | null;
  readonly segments: Map<number, SimFile>;
  /** Removed, and perhaps back after a power failure. */
  readonly removed: Map<number, SimFile>;
  /** Somebody who died may have left anything unsynced. */
  unsynced: boolean;
  /** The process whose log it is, and what it has open under this epoch. */
  owner: SimVolumeStore | null;
}

export type Fence = 'guard' | 'copy';

export class SimDisk {
  readonly objects = new Map<string, SimFile>();
  readonly pages = new Map<string, SimFile>();
  readonly logs = new Map<VolumeId, Map<number, SimLog>>();
  /** What a name led to before claims that are not durable yet: a power failure may bring it back. */
  readonly replaced = new Map<string, SimFile>();
  readonly fence: Fence;
  boot = 1;
  /** Operations that have come to their end, of all stores. */
  operations = 0;

  constructor(fence: Fence = 'copy') {
    this.fence = fence;
  }

  /** The power fails, after the processes have died. */
  losePower(prng: Prng): void {
    this.boot++;
    for (const [name, former] of this.replaced) {
      const file = this.objects.get(name);
      // A rename takes nothing away: where the new entry is not kept, the former one is, if that was.
      if (file !== undefined && (prng.chance(0.5) || (former.linked && !file.linked))) this.objects.set(name, former);
    }
    this.replaced.clear();
    for (const files of [this.objects, this.pages]) for (const [name, file] of files) if (!file.losePower(prng)) files.delete(name);
    for (const logs of this.logs.values()) {
      for (const [epoch, log] of logs) {
        if (!log.settled) {
          logs.delete(epoch);
          continue;
        }
        for (const [number, file] of log.removed) if (file.linked && prng.chance(0.3)) log.segments.set(number, file);
        log.removed.clear();
        for (const [number, file] of log.segments) if (!file.losePower(prng)) log.segments.delete(number);
        log.unsynced = false;
      }
    }
  }

  hasHeader(volume: VolumeId): boolean {
    return [...(this.logs.get(volume)?.values() ?? [])].some(({ header }) => header !== null);
  }

  writeBack(prng: Prng): void {
    const files = [...this.objects.values(), ...this.pages.values()];
    for (const logs of this.logs.values()) for (const log of logs.values()) if (log.settled) files.push(...log.segments.values());
    for (const file of files) if (file.isDirty && prng.chance(0.3)) file.writeBack(prng);
  }
}

export function settleLog(log: SimLog): void {
  if (log.settled) return;
  for (const file of log.segments.values()) file.capture()();
  log.settled = true;
}
