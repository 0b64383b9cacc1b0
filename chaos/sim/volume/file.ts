/** A file of the simulated disk: what the page cache shows, and what a power failure leaves of it, by sectors of 512 bytes. */
import type { Prng } from '../../../src/base/index.ts';

export const SECTOR = 512;

export class SimFile {
  private cached: Uint8Array = new Uint8Array(0);
  private durable: Uint8Array = new Uint8Array(0);
  length = 0;
  private durableLength = 0;
  /** Sectors whose content on the disk may be older, and the number of their last change. */
  private readonly dirty = new Map<number, number>();
  /** The change that the disk has of each sector. */
  private readonly settled = new Map<number, number>();
  private changes = 0;
  /** The directory entry survives. */
  linked = false;
  /** Of the last owner that made or claimed it, where the store guards objects. */
  epoch = 0;

  get isDirty(): boolean {
    return !this.linked || this.dirty.size > 0 || this.length !== this.durableLength;
  }

  read(offset: number, into: Uint8Array): void {
    into.fill(0);
    if (offset < this.length) into.set(this.cached.subarray(offset, Math.min(this.length, offset + into.byteLength)));
  }

  bytes(): Uint8Array {
    return this.cached.slice(0, this.length);
  }

  write(offset: number, data: Uint8Array): void {
    this.grow(offset + data.byteLength);
    this.cached.set(data, offset);
    this.touch(offset, offset + data.byteLength);
    this.length = Math.max(this.length, offset + data.byteLength);
  }

  zero(offset: number, length: number): void {
    const end = Math.min(this.length, offset + length);
    if (offset >= end) return;
    this.cached.fill(0, offset, end);
    this.touch(offset, end);
  }

  truncate(length: number): void {
    if (length >= this.length) return;
    this.cached.fill(0, length, this.length);
    this.touch(length, this.length);
    this.length = length;
  }

  /** What a sync that begins now makes durable; the result is called when it ends. */
  capture(): () => void {
    const { length } = this;
    const sectors = [...this.dirty].map(([sector, change]) => [sector, change, this.sector(sector)] as const);
    return () => {
      this.linked = true;
      for (const [sector, change, bytes] of sectors) this.settle(sector, change, bytes);
      this.durableLength = Math.max(length, Math.min(this.durableLength, this.length));
    };
  }

  /** The kernel writes back what it likes, when it likes. */
  writeBack(prng: Prng): void {
    for (const [sector, change] of [...this.dirty]) if (prng.chance(0.5)) this.settle(sector, change, this.sector(sector));
    if (prng.chance(0.5)) this.durableLength = this.length;
  }

  /** False: the file is gone. */
  losePower(prng: Prng): boolean {
    if (!this.linked && prng.chance(0.5)) return false;
    const kept = prng.below(3) / 2;
    for (const [sector, change] of [...this.dirty]) if (prng.chance(kept)) this.settle(sector, change, this.sector(sector));
    const lengths = [this.durableLength, this.length, this.durableLength + prng.below(Math.abs(this.length - this.durableLength) + 1)];
    this.length = lengths[prng.below(3)] as number;
    this.cached = new Uint8Array(Math.max(this.length, this.durable.byteLength));
    this.cached.set(this.durable);
    this.cached.fill(0, this.length);
    this.durable = this.cached.slice();
    this.durableLength = this.length;
    this.dirty.clear();
    this.linked = true;
    return true;
  }

  copy(): SimFile {
    const copy = new SimFile();
    copy.write(0, this.bytes());
    return copy;
  }

  private sector(sector: number): Uint8Array {
    return this.cached.slice(sector * SECTOR, (sector + 1) * SECTOR);
  }

  /** A change reaches the disk, unless a later one has. */
  private settle(sector: number, change: number, bytes: Uint8Array): void {
    if ((this.settled.get(sector) ?? 0) >= change) return;
    this.settled.set(sector, change);
    const end = (sector + 1) * SECTOR;
    if (this.durable.byteLength < end) {
      const larger = new Uint8Array(Math.max(end, 2 * this.durable.byteLength));
      larger.set(this.durable);
      this.durable = larger;
    }
    this.durable.fill(0, sector * SECTOR, end);
    this.durable.set(bytes, sector * SECTOR);
    this.durableLength = Math.max(this.durableLength, Math.min(end, this.length));
    if (this.dirty.get(sector) === change) this.dirty.delete(sector);
  }

  private touch(from: number, to: number): void {
    for (let sector = Math.floor(from / SECTOR); sector * SECTOR < to; sector++) this.dirty.set(sector, ++this.changes);
  }

  private grow(length: number): void {
    if (length <= this.cached.byteLength) return;
    const larger = new Uint8Array(Math.max(Math.ceil(length / SECTOR) * SECTOR, 2 * this.cached.byteLength));
    larger.set(this.cached);
    this.cached = larger;
  }
}
