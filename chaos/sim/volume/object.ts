/** An object, as its owner or a reader of a snapshot handles it. */
import type { ArchipelagoError, Generation } from '../../../src/base/index.ts';
import { objectExists, objectMissing } from '../../../src/blocker/answers.ts';
import type { StoreWaiter, WritableBlockObject } from '../../../src/blocker/store.ts';
import { SECTOR, SimFile } from './file.ts';
import { NOTHING } from './operation.ts';
import type { SimStore } from './store.ts';
import type { SimVolumeStore } from './volume-store.ts';

export class SimObject implements WritableBlockObject {
  readonly generation: Generation;
  readonly index: number;
  private readonly store: SimStore;
  private readonly volume: SimVolumeStore | null;
  private readonly name: string;
  private released = false;

  constructor(store: SimStore, volume: SimVolumeStore | null, generation: Generation, index: number) {
    this.store = store;
    this.volume = volume;
    this.generation = generation;
    this.index = index;
    this.name = `${generation}/${index}`;
  }

  release(): void {
    if (this.released) throw new Error('a handle is released once');
    this.released = true;
  }

  read(offset: number, into: Uint8Array, waiter: StoreWaiter): boolean {
    const land = this.onFile((file) => file.read(offset, into), false);
    if (this.volume !== null) return this.volume.submit(waiter, 'read', land, NOTHING);
    this.checkUse();
    this.store.start({ run: () => waiter.storeDone(this.store.fault('read') ?? land()), die: NOTHING });
    return false;
  }

  create(offset: number, data: Uint8Array, waiter: StoreWaiter): boolean {
    const make = (): SimFile => {
      const file = new SimFile();
      file.epoch = this.writer().epoch;
      this.store.disk.objects.set(this.name, file);
      this.volume?.descriptors.set(this.name, file);
      this.changed();
      return file;
    };
    const land = () => {
      if (this.file() !== undefined) return objectExists(this.generation, this.index);
      make().write(offset, data);
      return null;
    };
    const part = () => {
      if (this.file() === undefined && this.store.prng.chance(0.7)) this.store.landPartly(make(), offset, data);
    };
    return this.writer().submit(waiter, 'change', land, part);
  }

  write(offset: number, data: Uint8Array, waiter: StoreWaiter): boolean {
    const part = this.onFile((file) => this.store.landPartly(file, offset, data), true);
    const land = this.onFile((file) => file.write(offset, data), true);
    return this.writer().submit(waiter, 'write', land, part);
  }

  zero(offset: number, length: number, waiter: StoreWaiter): boolean {
    const land = this.onFile((file) => file.zero(offset, length), true);
    const part = this.onFile((file) => {
      const end = Math.min(offset + length, file.length);
      for (let at = offset; at < end; at = (Math.floor(at / SECTOR) + 1) * SECTOR) {
        if (this.store.prng.chance(0.5)) file.zero(at, Math.min(end, (Math.floor(at / SECTOR) + 1) * SECTOR) - at);
      }
    }, true);
    return this.writer().submit(waiter, 'change', land, part);
  }

  remove(waiter: StoreWaiter): boolean {
    const volume = this.writer();
    const land = () => {
      if (this.guards ? (this.file()?.epoch ?? 0) > volume.epoch : volume.isSuperseded) return volume.supersededError;
      this.store.disk.objects.delete(this.name);
      volume.descriptors.delete(this.name);
      return null;
    };
    return volume.submit(waiter, 'change', land, NOTHING);
  }

  claim(waiter: StoreWaiter): boolean {
    return this.guards ? this.raise(waiter) : this.replace(waiter);
  }

  private raise(waiter: StoreWaiter): boolean {
    const volume = this.writer();
    const land = () => {
      const file = this.file();
      if (file === undefined) return objectMissing(this.generation, this.index);
      if (file.epoch > volume.epoch) return volume.supersededError;
      file.epoch = volume.epoch;
      // What an owner before has written since our last sync is ours to sync from here on: a snapshot may come to hold it.
      this.changed();
      return null;
    };
    return volume.submit(waiter, 'cut', land, NOTHING);
  }

  /** First the copy, then, at any later time, the rename: an owner that was superseded in between finds its copy gone. */
  private replace(waiter: StoreWaiter): boolean {
    const volume = this.writer();
    const { disk } = this.store;
    const start = (): void => {
      const from = this.file();
      const error = volume.isSuperseded ? volume.supersededError : this.store.fault('change');
      if (from === undefined || error !== null) {
        waiter.storeDone(error ?? objectMissing(this.generation, this.index));
        return;
      }
      const copy = from.copy();
      copy.capture()();
      const rename = (): void => {
        copy.linked = from.linked;
        if (!disk.replaced.has(this.name)) disk.replaced.set(this.name, from);
        disk.objects.set(this.name, copy);
        volume.descriptors.set(this.name, copy);
        this.changed();
      };
      const end = (): void => {
        const stale = volume.isSuperseded ? volume.supersededError : null;
        if (stale === null) rename();
        waiter.storeDone(stale);
      };
      volume.later(end, () => {
        if (!volume.isSuperseded && this.store.prng.chance(0.5)) rename();
      });
    };
    volume.later(start, NOTHING);
    return false;
  }

  /** What `by` does to the file that this handle leads to: the one that was open at submission, or else the one of that name then. */
  private onFile(by: (file: SimFile) => void, changes: boolean): () => ArchipelagoError | null {
    const { volume } = this;
    if (volume !== null && this.store.prng.chance(0.1)) volume.descriptors.delete(this.name);
    const open = this.guards ? undefined : volume?.descriptors.get(this.name);
    return () => {
      const file = open ?? this.file();
      if (file === undefined) return objectMissing(this.generation, this.index);
      if (volume !== null && this.guards && changes && file.epoch > volume.epoch) return volume.supersededError;
      if (volume !== null && !this.guards && open === undefined) {
        if (volume.isSuperseded) return volume.supersededError;
        volume.descriptors.set(this.name, file);
      }
      by(file);
      if (changes) this.changed();
      return null;
    };
  }

  private get guards(): boolean {
    return this.store.disk.fence === 'guard';
  }

  private file(): SimFile | undefined {
    return this.store.disk.objects.get(this.name);
  }

  private changed(): void {
    this.volume?.dirtyObjects.set(this.name, { generation: this.generation, index: this.index });
  }

  private writer(): SimVolumeStore {
    this.checkUse();
    if (this.volume === null) throw new Error('an object is changed through its owner');
    return this.volume;
  }

  private checkUse(): void {
    if (this.released) throw new Error('a handle is not used after its release');
  }
}
