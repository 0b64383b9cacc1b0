/** File descriptors of objects: counted while in use, closed when idle, and bounded in number. */
import { close, readFileSync } from 'node:fs';
import type { Log } from '../../base/index.ts';

/** An open file descriptor. Whoever starts something asynchronous on it counts as a user, so that it is not closed meanwhile. */
export class Descriptor {
  readonly fd: number;
  users = 0;
  private retired = false;
  private readonly log: Log;

  constructor(fd: number, log: Log) {
    this.fd = fd;
    this.log = log;
  }

  /** Ends one use. */
  leave(): void {
    this.users--;
    if (this.retired && this.users === 0) this.closeNow();
  }

  /** Closes it once nobody uses it. Called once. */
  retire(): void {
    this.retired = true;
    if (this.users === 0) this.closeNow();
  }

  private closeNow(): void {
    // Closing reports nothing that fdatasync would not; and the number is gone in any case.
    close(this.fd, (error) => {
      if (error !== null) this.log.warn({ error, fd: this.fd }, 'closing an object failed');
    });
  }
}

export interface DescriptorHolder {
  /** Set at each use after the first, cleared when the cache has passed by: a second chance in place of an exact order, which would cost each use. */
  recentlyUsed: boolean;
  readonly isBusy: boolean;
  /** Somebody has a handle, and may use it again at any time. */
  readonly isHeld: boolean;
  /** Gives its descriptor up. */
  evict(): void;
}

/** How many holders are passed over before the next idle one is taken, and before the bound is exceeded because all are busy. */
const CHANCES = 64;
const LOOKS = 256;

/** All holders of an open descriptor, in the order in which they get their turn to be closed. Above `limit` one goes for each that comes. */
export class DescriptorCache {
  readonly limit: number;
  private readonly holders = new Set<DescriptorHolder>();

  constructor(limit: number) {
    this.limit = limit;
  }

  get size(): number {
    return this.holders.size;
  }

  add(holder: DescriptorHolder): void {
    this.holders.add(holder);
    // Two, so that an excess from a busy moment goes away again.
    for (let count = 0; count < 2 && this.holders.size > this.limit; count++) this.evictOne(holder);
  }

  delete(holder: DescriptorHolder): void {
    this.holders.delete(holder);
  }

  /** Closes whatever nobody has a handle to. */
  closeIdle(): void {
    for (const holder of [...this.holders]) {
      if (holder.isBusy || holder.isHeld) continue;
      this.holders.delete(holder);
      holder.evict();
    }
  }

  private evictOne(newest: DescriptorHolder): void {
    let looks = 0;
    for (const holder of this.holders) {
      looks++;
      if (looks > LOOKS) return;
      if (holder === newest || holder.isBusy || (holder.recentlyUsed && looks <= CHANCES)) {
        holder.recentlyUsed = false;
        this.holders.delete(holder);
        this.holders.add(holder);
        continue;
      }
      this.holders.delete(holder);
      holder.evict();
      return;
    }
  }
}

/** Half of what this process may open is for objects; the rest is for connections, logs and libraries. */
export function defaultDescriptorLimit(): number {
  const limits = readFileSync('/proc/self/limits', 'utf8');
  const soft = /^Max open files\s+(\d+)/m.exec(limits)?.[1];
  return Math.max(16, Math.min(4096, Math.floor(Number(soft ?? 1024) / 2)));
}
