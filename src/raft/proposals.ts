/**
 * This node's own proposals, from `propose` to the answer. A proposal keeps its sequence number through every attempt, so however many of
 * them reach a log, one is applied.
 */
import { ArchipelagoError, type Clock } from '../base/index.ts';
import type { Outcome } from './applier.ts';
import { entryBytes } from './core/log.ts';
import type { ProposalEntry, RefusalReason } from './core/types.ts';

/** Proposals that may wait for an answer; more are refused at once. */
const MAX_WAITING = 16_384;
const MAX_WAITING_BYTES = 64 * 1024 * 1024;
/** Proposals handed to the core in one go: one message, if the leader is elsewhere. */
const MAX_BATCH = 256;
const MAX_BATCH_BYTES = 256 * 1024;

interface Waiting {
  readonly entry: Omit<ProposalEntry, 'acknowledged'>;
  readonly deadlineMs: number;
  readonly resolve: (result: Uint8Array) => void;
  readonly reject: (error: ArchipelagoError) => void;
  /** When it was last handed on; null while nobody has taken it. */
  sentAtMs: number | null;
  /** Someone may have it in a log or on the way there: only its application can tell its outcome. */
  exposed: boolean;
}

export interface ProposalSink {
  propose(entries: readonly ProposalEntry[]): RefusalReason | null;
}

export class Proposals {
  private readonly waiting = new Map<number, Waiting>();
  private bytes = 0;
  private nextSequence = 1;
  private readonly clientId: string;
  private readonly session: number;
  private readonly clock: Clock;
  private readonly sink: ProposalSink;
  private readonly retryMs: number;

  constructor(clientId: string, session: number, clock: Clock, sink: ProposalSink, retryMs: number) {
    this.clientId = clientId;
    this.session = session;
    this.clock = clock;
    this.sink = sink;
    this.retryMs = retryMs;
  }

  get size(): number {
    return this.waiting.size;
  }

  /** Sequences below are answered: what the log need not remember. */
  private get acknowledged(): number {
    const [first] = this.waiting.keys();
    return first ?? this.nextSequence;
  }

  add(command: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    if (this.waiting.size >= MAX_WAITING || this.bytes + command.byteLength > MAX_WAITING_BYTES) {
      return Promise.reject(new ArchipelagoError('unavailable', `${this.waiting.size} proposals wait already`, { hint: 'try again later' }));
    }
    return new Promise((resolve, reject) => {
      const sequence = this.nextSequence++;
      const entry = { kind: 'command' as const, data: command, clientId: this.clientId, session: this.session, sequence };
      this.waiting.set(sequence, { entry, deadlineMs: this.clock.nowMs() + timeoutMs, resolve, reject, sentAtMs: null, exposed: false });
      this.bytes += command.byteLength;
    });
  }

  /** Hands on what nobody has taken yet, and with `all` also what may be lost. */
  submit(all = false): void {
    const now = this.clock.nowMs();
    let batch: Waiting[] = [];
    let batchBytes = 0;
    for (const waiting of this.waiting.values()) {
      if (!all && waiting.sentAtMs !== null) continue;
      const bytes = entryBytes(waiting.entry);
      if (batch.length >= MAX_BATCH || (batch.length > 0 && batchBytes + bytes > MAX_BATCH_BYTES)) {
        if (!this.handOn(batch, now)) return;
        batch = [];
        batchBytes = 0;
      }
      batch.push(waiting);
      batchBytes += bytes;
    }
    if (batch.length > 0) this.handOn(batch, now);
  }

  /** Gives up what is overdue, and tries again what got no answer. `leading` tells that what was handed on is in this node's own log. */
  tick(leading: boolean): void {
    const now = this.clock.nowMs();
    let retry = false;
    for (const [sequence, waiting] of this.waiting) {
      if (waiting.deadlineMs <= now) {
        this.remove(sequence, waiting);
        waiting.reject(overdue(waiting.exposed));
      } else if (waiting.sentAtMs === null) {
        retry = true;
      } else if (!leading && now - waiting.sentAtMs >= this.retryMs) {
        waiting.sentAtMs = null;
        retry = true;
      }
    }
    if (retry) this.submit();
  }

  /** An entry of this node's session was applied. */
  settle(sequence: number, outcome: Outcome): void {
    const waiting = this.waiting.get(sequence);
    if (waiting === undefined) return;
    this.remove(sequence, waiting);
    if (outcome.kind === 'applied') waiting.resolve(outcome.result);
    else waiting.reject(new ArchipelagoError('timeout', `the outcome of a proposal is unknown: ${outcome.kind}`));
  }

  /** Looks up what a snapshot brought. */
  settleFrom(resultOf: (sequence: number) => Uint8Array | null): void {
    for (const sequence of [...this.waiting.keys()]) {
      const result = resultOf(sequence);
      if (result !== null) this.settle(sequence, { kind: 'applied', result });
    }
  }

  failAll(reason: string): void {
    for (const [sequence, waiting] of this.waiting) {
      this.remove(sequence, waiting);
      waiting.reject(new ArchipelagoError(waiting.exposed ? 'timeout' : 'unavailable', reason));
    }
  }

  private handOn(batch: readonly Waiting[], now: number): boolean {
    const { acknowledged } = this;
    const refusal = this.sink.propose(batch.map(({ entry }) => ({ ...entry, acknowledged })));
    if (refusal !== null) return false;
    for (const waiting of batch) {
      waiting.sentAtMs = now;
      waiting.exposed = true;
    }
    return true;
  }

  private remove(sequence: number, waiting: Waiting): void {
    this.waiting.delete(sequence);
    this.bytes -= waiting.entry.data.byteLength;
  }
}

function overdue(exposed: boolean): ArchipelagoError {
  if (exposed)
    return new ArchipelagoError('timeout', 'a proposal was not answered in time; it may still be applied', { hint: 'look whether it took effect' });
  return new ArchipelagoError('unavailable', 'no leader took the proposal; it was not applied', { hint: 'check that a majority of the nodes runs' });
}
