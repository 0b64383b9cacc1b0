/** What a leader knows of one member, and the window that bounds what is under way to it. */
import { assert } from '../../base/index.ts';
import type { LogIndex } from './types.ts';

/**
 * - `probe`: the place where the logs match is not known; one append at a time.
 * - `replicate`: known; appends are sent ahead of their replies, as far as the window allows.
 * - `snapshot`: what it needs next is compacted away; nothing is sent until the snapshot has arrived or failed.
 */
export type ProgressState = 'probe' | 'replicate' | 'snapshot';

export class Progress {
  state: ProgressState = 'probe';
  /** Known to be durable there. Never falls within a term. */
  match = 0 as LogIndex;
  /** The next entry to send. */
  next: LogIndex;
  /** The newest commit index it was told, so that news of a commit is sent once. */
  toldCommit = 0 as LogIndex;
  /** In `probe`: an append is under way; the next waits for its reply or for the next heartbeat's. */
  probing = false;
  /** Something was heard since the last quorum check. */
  recentlyActive = false;
  /** The newest read round it has answered. */
  round = 0;
  /** `match` at the last heartbeat's reply: if it stands still, an append was lost. */
  matchAtHeartbeat = 0 as LogIndex;
  private readonly window: { lastIndex: LogIndex; bytes: number }[] = [];
  private windowBytes = 0;
  private readonly maxAppends: number;
  private readonly maxBytes: number;

  constructor(next: LogIndex, bounds: { maxInflightAppends: number; maxInflightBytes: number }) {
    this.next = next;
    this.maxAppends = bounds.maxInflightAppends;
    this.maxBytes = bounds.maxInflightBytes;
  }

  get windowIsFull(): boolean {
    return this.window.length >= this.maxAppends || this.windowBytes >= this.maxBytes;
  }

  get inflight(): { readonly appends: number; readonly bytes: number } {
    return { appends: this.window.length, bytes: this.windowBytes };
  }

  /** Notes that entries up to `lastIndex` were sent. */
  sent(lastIndex: LogIndex, bytes: number): void {
    assert(this.state !== 'snapshot', 'no entries are sent beside a snapshot');
    if (this.state === 'probe') {
      this.probing = true;
      return;
    }
    assert(lastIndex >= this.next, 'entries are sent in order');
    this.next = (lastIndex + 1) as LogIndex;
    this.window.push({ lastIndex, bytes });
    this.windowBytes += bytes;
  }

  /** Notes that everything up to `index` is durable there. False for old news. */
  acknowledged(index: LogIndex): boolean {
    while (this.window.length > 0 && (this.window[0]?.lastIndex as number) <= index) this.windowBytes -= this.window.shift()?.bytes ?? 0;
    if (this.next <= index) this.next = (index + 1) as LogIndex;
    if (index <= this.match) return false;
    this.match = index;
    return true;
  }

  becomeProbe(next: LogIndex): void {
    this.reset('probe');
    this.next = Math.max(next, this.match + 1) as LogIndex;
  }

  becomeReplicate(): void {
    this.reset('replicate');
    this.next = (this.match + 1) as LogIndex;
  }

  becomeSnapshot(): void {
    this.reset('snapshot');
  }

  private reset(state: ProgressState): void {
    this.state = state;
    this.probing = false;
    this.window.length = 0;
    this.windowBytes = 0;
    this.toldCommit = 0 as LogIndex;
  }
}
