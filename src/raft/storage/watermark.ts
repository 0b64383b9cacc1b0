/**
 * The watermark: a file beside the database that says how far it was synced. LevelDB skips damaged records of its log in silence, so only
 * something outside can tell a torn last write (harmless: nobody was promised it) from a record that was acknowledged and is gone.
 *
 * The file is written after each sync, by itself unsynced (that would cost a second wait for the disk), and synced about once a
 * second. So after the death of the process it is exact, and after a power failure it may be a second old: then it proves less, never something
 * false.
 *
 * Layout: two slots, at 0 and 512, written in turn, so that a torn write leaves the other one.
 *
 *   0  u32 crc of what follows    4  u32 version, 1    8  u64 batch    16  u64 term    24  u64 last index    32  u32 chain there
 *  36  u32 CRC-32 of the name voted for, 0 for none
 */
import { closeSync, fdatasync, fsyncSync, openSync, readSync, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { crc32, readCounter, viewOf, writeCounter } from '../../base/index.ts';
import type { Meta } from './records.ts';

const SLOT_BYTES = 512;
const USED_BYTES = 40;
const VERSION = 1;
const fdatasyncAsync = promisify(fdatasync);

export interface Mark {
  readonly batch: number;
  readonly term: number;
  readonly lastIndex: number;
  readonly chain: number;
  readonly vote: number;
}

export function markOf(meta: Meta): Mark {
  const vote = meta.votedFor === null ? 0 : crc32(new TextEncoder().encode(meta.votedFor));
  return { batch: meta.batch, term: meta.term, lastIndex: meta.last.index, chain: meta.last.chain, vote };
}

export interface Marks {
  /** Notes what the last sync made durable. */
  note(mark: Mark): void;
  syncNow(): void;
  sync(): Promise<void>;
  close(): void;
}

export class Watermark implements Marks {
  private readonly descriptor: number;
  private readonly slot = new Uint8Array(USED_BYTES);
  private dirty = false;

  /** Opens the file, creating it if `create`; `found` is the newest valid mark or null. */
  static open(path: string, create: boolean): { watermark: Watermark; found: Mark | null } {
    const descriptor = openSync(path, create ? 'a+' : 'r+');
    closeSync(descriptor);
    const watermark = new Watermark(openSync(path, 'r+'));
    return { watermark, found: watermark.read() };
  }

  private constructor(descriptor: number) {
    this.descriptor = descriptor;
  }

  note(mark: Mark): void {
    const view = viewOf(this.slot);
    view.setUint32(4, VERSION);
    writeCounter(view, 8, mark.batch);
    writeCounter(view, 16, mark.term);
    writeCounter(view, 24, mark.lastIndex);
    view.setUint32(32, mark.chain);
    view.setUint32(36, mark.vote);
    view.setUint32(0, crc32(this.slot.subarray(4)));
    writeSync(this.descriptor, this.slot, 0, USED_BYTES, (mark.batch % 2) * SLOT_BYTES);
    this.dirty = true;
  }

  syncNow(): void {
    this.dirty = false;
    fsyncSync(this.descriptor);
  }

  async sync(): Promise<void> {
    if (!this.dirty) return;
    this.dirty = false;
    await fdatasyncAsync(this.descriptor);
  }

  close(): void {
    closeSync(this.descriptor);
  }

  private read(): Mark | null {
    const marks = [0, SLOT_BYTES].map((offset) => this.readSlot(offset)).filter((mark) => mark !== null);
    return marks.reduce<Mark | null>((newest, mark) => (newest === null || mark.batch > newest.batch ? mark : newest), null);
  }

  private readSlot(offset: number): Mark | null {
    const bytes = new Uint8Array(USED_BYTES);
    if (readSync(this.descriptor, bytes, 0, USED_BYTES, offset) !== USED_BYTES) return null;
    const view = viewOf(bytes);
    if (view.getUint32(0) !== crc32(bytes.subarray(4)) || view.getUint32(4) !== VERSION) return null;
    return {
      batch: readCounter(view, 8),
      term: readCounter(view, 16),
      lastIndex: readCounter(view, 24),
      chain: view.getUint32(32),
      vote: view.getUint32(36),
    };
  }
}
