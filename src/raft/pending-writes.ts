/** What waits for the disk while it is busy: several `Ready`s become one batch with one sync. */
import type { Entry, HardState, LogIndex, Message, Ready, Term } from './core/types.ts';

export interface PendingBatch {
  readonly hardState: HardState | null;
  readonly entries: readonly Entry[];
  /** To send when the batch is durable. */
  readonly messages: readonly Message[];
  /** Index and term of the last entry written, for the core. */
  readonly last: { readonly index: LogIndex; readonly term: Term } | null;
}

export class PendingWrites {
  private hardState: HardState | null = null;
  private entries: Entry[] = [];
  private messages: Message[] = [];

  add(ready: Pick<Ready, 'hardState' | 'entries' | 'messagesAfterPersist'>): void {
    if (ready.hardState !== null) this.hardState = ready.hardState;
    const first = ready.entries[0];
    if (first !== undefined) {
      // Entries that were overwritten before they reached the disk need not go there.
      const keep = this.entries[0] === undefined ? 0 : Math.max(0, first.index - this.entries[0].index);
      if (keep < this.entries.length) this.entries.length = keep;
      for (const entry of ready.entries) this.entries.push(entry);
    }
    for (const message of ready.messagesAfterPersist) this.messages.push(message);
  }

  get isEmpty(): boolean {
    return !this.needsDisk && this.messages.length === 0;
  }

  get needsDisk(): boolean {
    return this.hardState !== null || this.entries.length > 0;
  }

  take(): PendingBatch {
    const { hardState, entries, messages } = this;
    const last = entries.at(-1);
    this.hardState = null;
    this.entries = [];
    this.messages = [];
    return { hardState, entries, messages, last: last === undefined ? null : { index: last.index, term: last.term } };
  }
}
