/**
 * Receives a snapshot beside the current state. Each chunk is durable before it is acknowledged, in order; when the last one is there and
 * the digest of the whole agrees, the core is asked whether it wants it.
 */
import type { Log } from '../base/index.ts';
import type { SnapshotMeta } from './core/types.ts';
import type { RaftStorage, Staging } from './storage/storage.ts';
import type { Chunk, ChunkReply } from './wire.ts';

export interface ReceivedSnapshot {
  readonly from: string;
  /** The leader's term when the transfer began. */
  readonly term: number;
  readonly snapshot: SnapshotMeta;
  readonly staging: Staging;
}

interface Transfer {
  readonly from: string;
  readonly number: number;
  next: number;
  staging: Staging;
}

/** Chunks that wait for the disk; a sender's window is smaller. */
const MAX_QUEUED_CHUNKS = 64;

export class SnapshotReceiver {
  private readonly storage: RaftStorage;
  private readonly log: Log;
  private readonly reply: (to: string, reply: ChunkReply) => void;
  private readonly complete: (received: ReceivedSnapshot) => Promise<void>;
  private transfer: Transfer | null = null;
  private readonly queue: { from: string; chunk: Chunk }[] = [];
  private working = false;

  constructor(
    storage: RaftStorage,
    log: Log,
    reply: (to: string, reply: ChunkReply) => void,
    /** Takes over the staged state; resolves when it was installed or discarded. */
    complete: (received: ReceivedSnapshot) => Promise<void>,
  ) {
    this.storage = storage;
    this.log = log;
    this.reply = reply;
    this.complete = complete;
  }

  /** Takes a chunk in. Resolves when all that came so far has been worked off; rejects if the disk failed. */
  async receive(from: string, chunk: Chunk): Promise<void> {
    if (this.queue.length >= MAX_QUEUED_CHUNKS) return;
    this.queue.push({ from, chunk });
    if (this.working) return;
    this.working = true;
    try {
      for (let next = this.queue.shift(); next !== undefined; next = this.queue.shift()) await this.handle(next.from, next.chunk);
    } finally {
      this.working = false;
    }
  }

  private async handle(from: string, chunk: Chunk): Promise<void> {
    const transfer = await this.transferFor(from, chunk);
    if (transfer === null) {
      this.reply(from, { transfer: chunk.transfer, next: 0, restart: true });
      return;
    }
    if (chunk.sequence === transfer.next) {
      await transfer.staging.add(chunk.entries);
      transfer.next++;
      if (chunk.last) {
        await this.finish(transfer, chunk);
        return;
      }
    }
    this.reply(from, { transfer: chunk.transfer, next: transfer.next, restart: false });
  }

  /** The transfer that a chunk belongs to, begun with its first chunk; null if this node knows nothing of it. */
  private async transferFor(from: string, chunk: Chunk): Promise<Transfer | null> {
    if (this.transfer?.from === from && this.transfer.number === chunk.transfer) return this.transfer;
    if (chunk.sequence !== 0) return null;
    await this.transfer?.staging.discard();
    this.log.info({ from, index: chunk.snapshot.index }, 'receiving a snapshot');
    this.transfer = { from, number: chunk.transfer, next: 0, staging: await this.storage.stage() };
    return this.transfer;
  }

  private async finish(transfer: Transfer, chunk: Chunk): Promise<void> {
    const { staging, from } = transfer;
    this.transfer = null;
    const { count, sum } = staging.digest();
    if (count !== chunk.count || sum !== chunk.sum) {
      this.log.error({ from, count, expected: chunk.count }, 'a snapshot arrived damaged and is asked for again');
      await staging.discard();
      this.reply(from, { transfer: chunk.transfer, next: 0, restart: true });
      return;
    }
    await this.complete({ from, term: chunk.term, snapshot: chunk.snapshot, staging });
    this.reply(from, { transfer: chunk.transfer, next: chunk.sequence + 1, restart: false });
  }
}
