/** An I/O that touches more than one block, as parts that are served on their own. It is answered when the last part is. */
import { type ArchipelagoError, assert } from '../base/index.ts';
import { IO_READ, IO_WRITE, VolumeIo } from './device.ts';

/** What serves the parts and takes the whole back. */
export interface SplitOwner {
  readonly blockSizeBytes: number;
  submitToBlock(part: VolumeIo, index: number, start: number): void;
  splitDone(split: Split, io: VolumeIo, error: ArchipelagoError | null): void;
}

class Part extends VolumeIo {
  override part = true;
  split: Split | null = null;

  override done(error: ArchipelagoError | null): void {
    assert(this.split !== null, 'a part belongs to a split');
    this.split.partDone(error);
  }
}

export class Split {
  private readonly owner: SplitOwner;
  private io: VolumeIo | null = null;
  private readonly parts: Part[] = [];
  private remaining = 0;
  private error: ArchipelagoError | null = null;

  constructor(owner: SplitOwner) {
    this.owner = owner;
  }

  start(io: VolumeIo): void {
    const { blockSizeBytes } = this.owner;
    const end = io.offset + io.length;
    this.io = io;
    this.error = null;
    // One more than there are parts, so that parts that end at once do not end the whole before the last is submitted.
    this.remaining = 1;
    let used = 0;
    for (let at = io.offset; at < end; ) {
      const index = Math.floor(at / blockSizeBytes);
      const start = at - index * blockSizeBytes;
      const length = Math.min(blockSizeBytes - start, end - at);
      this.parts[used] ??= new Part();
      const part = this.parts[used++] as Part;
      part.split = this;
      part.kind = io.kind;
      part.offset = at;
      part.length = length;
      if (io.kind === IO_READ || io.kind === IO_WRITE) part.data = io.data.subarray(at - io.offset, at - io.offset + length);
      this.remaining++;
      this.owner.submitToBlock(part, index, start);
      at += length;
    }
    this.partDone(null);
  }

  partDone(error: ArchipelagoError | null): void {
    this.error ??= error;
    if (--this.remaining > 0) return;
    const { io } = this;
    assert(io !== null, 'a split that ends was started');
    this.io = null;
    this.owner.splitDone(this, io, this.error);
  }
}
