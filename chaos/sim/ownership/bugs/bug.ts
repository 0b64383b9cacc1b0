/** What a planted bug of the ownership scenario is, and the tools to plant one. */
import type { Clock, Epoch } from '../../../../src/base/index.ts';
import type { MapChange, OpenMap } from '../../../../src/mapper/index.ts';
import type { RegistryPort } from '../../../../src/volume/context.ts';
import type { ServedVolume } from '../../../../src/volume/served-volume.ts';
import type { Volume } from '../../../../src/volume/volume.ts';
import type { Volumes } from '../../../../src/volume/volumes.ts';
import type { SimStore } from '../../volume/store.ts';
import type { Node } from '../cluster.ts';

/** One life of a node's data process. */
export interface Patient {
  readonly name: string;
  readonly store: SimStore;
  readonly volumes: Volumes;
  readonly registry: RegistryPort;
  readonly clock: Clock;
}

export interface Bug {
  readonly name: string;
  /** The mistake, as one would make it. */
  readonly mistake: string;
  /** Called for each life of a node's processes. */
  plant(node: Patient): void;
}

/** One that only histories can have. */
export interface HistoryBug extends Omit<Bug, 'plant'> {
  plant(node: Node): void;
}

/** Private parts of a volume. */
export interface VolumeInside {
  acquired: unknown;
  handedOver: { readonly epoch: Epoch } | null;
  record: Volume['record'];
  open(epoch: Epoch): Promise<ServedVolume>;
  acquire(): Promise<void>;
}

export function insideVolume(volume: Volume): VolumeInside {
  return volume as unknown as VolumeInside;
}

/** Private parts of an open map. */
export interface MapInside {
  live: { uncleanGenerations: readonly number[]; liveGenerations: readonly number[] };
  readonly options: { readonly naming: object };
  recordChange(change: MapChange): Promise<void>;
}

export function insideMap(map: OpenMap): MapInside {
  return map as unknown as MapInside;
}

/** Replaces a method of one object by what is made of it. */
export function wrap<Target extends object, Name extends keyof Target>(
  target: Target,
  name: Name,
  replace: (original: Target[Name]) => Target[Name],
): void {
  const method = target[name] as (...parameters: unknown[]) => unknown;
  target[name] = replace(method.bind(target) as Target[Name]);
}

/** Runs something with each volume of a node, once. */
export function watchVolumes(node: Pick<Patient, 'volumes'>, seen: (volume: Volume) => void): void {
  const known = new WeakSet<Volume>();
  const inside = node.volumes as unknown as { volumeById(id: number): Volume | null };
  wrap(inside, 'volumeById', (volumeById) => (id) => {
    const volume = volumeById(id);
    if (volume !== null && !known.has(volume)) {
      known.add(volume);
      seen(volume);
    }
    return volume;
  });
}

/** Runs something with each served volume before it admits anything. */
export function watchServed(node: Pick<Patient, 'volumes'>, opened: (served: ServedVolume, volume: Volume) => void): void {
  watchVolumes(node, (volume) => {
    wrap(insideVolume(volume), 'open', (open) => async (epoch) => {
      const served = await open(epoch);
      opened(served, volume);
      return served;
    });
  });
}
