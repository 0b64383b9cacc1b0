/** The snapshots that a leader is sending, at most one to each member. */
import type { Log } from '../base/index.ts';
import type { RaftCore } from './core/core.ts';
import type { NodeId, Term } from './core/types.ts';
import { type SenderOptions, SnapshotSender } from './snapshot-sender.ts';
import type { RaftStorage } from './storage/storage.ts';
import type { Chunk, ChunkReply } from './wire.ts';

export interface OutgoingContext {
  readonly core: RaftCore;
  readonly storage: RaftStorage;
  readonly log: Log;
  readonly options: SenderOptions;
  readonly send: (to: NodeId, chunk: Chunk) => void;
  readonly uniqueNumber: () => number;
  /** Runs work beside the member's own events; its failure is the member's. */
  readonly inBackground: (work: Promise<void>) => void;
}

export class OutgoingSnapshots {
  private readonly senders = new Map<NodeId, SnapshotSender>();
  private readonly context: OutgoingContext;
  private closed = false;

  constructor(context: OutgoingContext) {
    this.context = context;
  }

  /** Sends the stored state to a member, unless that goes on already. */
  async begin(to: NodeId, term: Term): Promise<void> {
    if (this.senders.has(to)) return;
    const { storage, log, options, send, uniqueNumber } = this.context;
    const view = await storage.view();
    if (this.closed || this.senders.has(to)) {
      await view.close();
      return;
    }
    const sender = new SnapshotSender(to, uniqueNumber(), term, view, (chunk) => send(to, chunk), log, options);
    this.senders.set(to, sender);
    log.info({ to, index: view.at.index }, 'sending a snapshot');
    await sender.pump();
  }

  reply(from: NodeId, reply: ChunkReply): void {
    const sender = this.senders.get(from);
    if (sender === undefined) return;
    sender.reply(reply);
    if (sender.isComplete) {
      this.end(sender);
      this.context.core.snapshotArrived(from, sender.index);
    } else {
      this.context.inBackground(sender.pump());
    }
  }

  /** Ends transfers that are through, given up, or no longer this member's to make. */
  tick(): void {
    if (this.senders.size === 0) return;
    const { core, inBackground } = this.context;
    const { progress } = core.status();
    for (const [to, sender] of this.senders) {
      const wanted = progress.get(to)?.state === 'snapshot';
      if (wanted && sender.tick()) {
        inBackground(sender.pump());
        continue;
      }
      this.end(sender);
      if (wanted) core.snapshotFailed(to);
    }
  }

  /** The log behind this index is needed when the snapshots have arrived; infinite without any. */
  get oldestIndex(): number {
    let oldest = Number.POSITIVE_INFINITY;
    for (const sender of this.senders.values()) oldest = Math.min(oldest, sender.index);
    return oldest;
  }

  private end(sender: SnapshotSender): void {
    this.senders.delete(sender.to);
    this.context.inBackground(sender.close());
  }

  close(): void {
    this.closed = true;
    for (const sender of this.senders.values()) this.context.inBackground(sender.close());
    this.senders.clear();
  }
}
