/** A queue of I/O, linked through the I/O objects themselves. */
import type { VolumeIo } from './device.ts';

export class IoQueue {
  private head: VolumeIo | null = null;
  private tail: VolumeIo | null = null;

  get empty(): boolean {
    return this.head === null;
  }

  get first(): VolumeIo | null {
    return this.head;
  }

  push(io: VolumeIo): void {
    io.next = null;
    if (this.tail) this.tail.next = io;
    else this.head = io;
    this.tail = io;
  }

  /** Puts back what came before everything that is queued, keeping its order. */
  unshiftAll(ios: readonly VolumeIo[]): void {
    for (let i = ios.length - 1; i >= 0; i--) {
      const io = ios[i] as VolumeIo;
      io.next = this.head;
      this.head = io;
      this.tail ??= io;
    }
  }

  /** Takes the first, or null. */
  shift(): VolumeIo | null {
    const io = this.head;
    if (io === null) return null;
    this.head = io.next;
    if (this.head === null) this.tail = null;
    io.next = null;
    return io;
  }
}
