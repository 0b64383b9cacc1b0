/**
 * Sends one snapshot to one member: the state's entries in key order, in chunks, a few ahead of their replies. The receiver says which chunk
 * it waits for; what is lost is sent again from there, and a receiver that was restarted resumes or starts over within the same transfer.
 */
import { assert, type Log } from '../base/index.ts';
import type { LogIndex } from './core/types.ts';
import type { StateView } from './storage/storage.ts';
import type { Chunk, ChunkReply } from './wire.ts';

export interface SenderOptions {
  readonly chunkBytes: number;
  /** Chunks under way. */
  readonly window: number;
  /** Ticks without progress after which chunks are sent again. */
  readonly resendTicks: number;
  /** Ticks without progress after which the transfer is given up. */
  readonly giveUpTicks: number;
}

export class SnapshotSender {
  readonly to: string;
  private readonly transfer: number;
  private readonly term: number;
  private readonly view: StateView;
  private readonly send: (chunk: Chunk) => void;
  private readonly log: Log;
  private readonly options: SenderOptions;
  /** `starts[n]` is the key behind which chunk n begins, for every chunk that was reached. */
  private readonly starts: (string | null)[] = [null];
  private next = 0;
  private acknowledged = 0;
  /** Known once it was read. */
  private chunkCount: number | null = null;
  private stalledTicks = 0;
  private reading = false;
  private closed = false;

  constructor(to: string, transfer: number, term: number, view: StateView, send: (chunk: Chunk) => void, log: Log, options: SenderOptions) {
    assert(options.window >= 1 && options.resendTicks < options.giveUpTicks, 'chunks are sent again before a transfer is given up');
    this.to = to;
    this.transfer = transfer;
    this.term = term;
    this.view = view;
    this.send = send;
    this.log = log;
    this.options = options;
  }

  /** The receiver has all of it, and has installed it or has no use for it. */
  get isComplete(): boolean {
    return this.acknowledged === this.chunkCount;
  }

  /** The log behind this index is needed once the snapshot has arrived. */
  get index(): LogIndex {
    return this.view.at.index;
  }

  /** Reads and sends as far as the window allows. Rejects if the state cannot be read. */
  async pump(): Promise<void> {
    if (this.reading || this.closed) return;
    this.reading = true;
    try {
      while (!this.closed && this.next < this.acknowledged + this.options.window && (this.chunkCount === null || this.next < this.chunkCount)) {
        await this.sendNext();
      }
    } finally {
      this.reading = false;
      if (this.closed) await this.view.close();
    }
  }

  reply(reply: ChunkReply): void {
    if (reply.transfer !== this.transfer || this.closed) return;
    if (reply.restart) {
      this.log.info({ to: this.to, chunk: this.acknowledged }, 'the receiver of a snapshot starts over');
      this.acknowledged = 0;
      this.next = 0;
    } else if (reply.next > this.acknowledged && reply.next < this.starts.length) {
      this.acknowledged = reply.next;
      this.next = Math.max(this.next, reply.next);
      this.stalledTicks = 0;
    }
  }

  /** False when it is given up. */
  tick(): boolean {
    this.stalledTicks++;
    if (this.stalledTicks % this.options.resendTicks === 0) this.next = this.acknowledged;
    return this.stalledTicks < this.options.giveUpTicks;
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    // A read that is under way closes the view when it ends.
    if (!this.reading) await this.view.close();
  }

  private async sendNext(): Promise<void> {
    const sequence = this.next;
    const after = this.starts[sequence];
    assert(after !== undefined, 'chunks are reached in order');
    const { entries, done } = await this.view.read(after, this.options.chunkBytes);
    if (this.closed) return;
    const { transfer, term } = this;
    const { at: snapshot, digest } = this.view;
    this.send({ transfer, term, snapshot, sequence, entries, last: done, count: digest.count, sum: digest.sum });
    // A reply may have moved the place meanwhile; then that counts.
    if (this.next === sequence) this.next++;
    if (done) this.chunkCount = sequence + 1;
    this.starts[sequence + 1] ??= entries.at(-1)?.key ?? after;
  }
}
