/**
 * Map pages in memory, for all maps of a process. A tree has pages of its own, decoded, since it changes them. What the store has never
 * changes, so its bytes are kept once for all trees: however many clones of one image are opened, each page of its map is read once.
 */
import { crc32 } from '../base/index.ts';
import type { BlockStore } from '../blocker/index.ts';
import { LoadedPages } from './core/loaded-pages.ts';
import type { PageRef } from './core/types.ts';

/** Memory for decoded pages; what was changed and is not folded yet comes on top. */
const LOADED_BYTES = 64 << 20;
/** Memory for pages as they are stored: the maps of 16 TiB or more, in blocks of 4 MiB. */
const STORED_BYTES = 32 << 20;

export class PageCache {
  readonly loaded = new LoadedPages();
  private readonly storedLimit: number;
  /** As they are stored, in the order of their last use. */
  private readonly stored = new Map<string, Uint8Array>();
  private storedBytes = 0;
  private readonly underWay = new Map<string, Promise<Uint8Array>>();

  constructor(storedLimitBytes = STORED_BYTES) {
    this.storedLimit = storedLimitBytes;
  }

  /** Of the pages that are kept as they are stored. */
  get bytes(): number {
    return this.storedBytes;
  }

  /** Fails as `BlockStore.readPage` does. The bytes are shared: nobody changes them, and whoever decodes them verifies them. */
  read(store: Pick<BlockStore, 'readPage'>, ref: PageRef): Promise<Uint8Array> {
    const key = `${ref.generation}/${ref.sequence}`;
    const known = this.stored.get(key);
    if (known !== undefined) {
      this.stored.delete(key);
      this.stored.set(key, known);
      return Promise.resolve(known);
    }
    const under = this.underWay.get(key);
    if (under !== undefined) return under;
    const read = store
      .readPage(ref.generation, ref.sequence)
      .then((bytes) => {
        // A damaged page is read again, in case somebody has restored it.
        if (crc32(bytes) === ref.checksum) this.keep(key, bytes);
        return bytes;
      })
      .finally(() => this.underWay.delete(key));
    this.underWay.set(key, read);
    return read;
  }

  /** Lets go of decoded pages that can go and are too many. */
  shrink(): void {
    if (this.loaded.bytes > LOADED_BYTES) this.loaded.evict(LOADED_BYTES);
  }

  private keep(key: string, bytes: Uint8Array): void {
    this.stored.set(key, bytes);
    this.storedBytes += bytes.byteLength;
    for (const [oldest, { byteLength }] of this.stored) {
      if (this.storedBytes <= this.storedLimit) return;
      this.stored.delete(oldest);
      this.storedBytes -= byteLength;
    }
  }
}
