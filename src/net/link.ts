/** The stable side of a link: what users hold while connections come and go. */

import type { Clock } from '../base/index.ts';
import { ArchipelagoError, assert, type Log } from '../base/index.ts';
import type { Channel } from './channel.ts';
import type { Agreement } from './handshake.ts';
import { Session, type SessionOwner } from './session.ts';
import {
  type CallOptions,
  type Completion,
  DEFAULT_REPLY_BYTES,
  type Handler,
  type Limits,
  type Link,
  type LinkState,
  type Reply,
  type Timing,
  type Traffic,
} from './types.ts';

const NOTHING = new Uint8Array(0);

/** What a link needs of its host. */
export interface LinkContext {
  readonly clock: Clock;
  readonly log: Log;
  readonly limits: Limits;
  readonly timing: Timing;
  handler(traffic: Traffic): Handler | null;
  /** The connection of this link is gone; the dialer may open another. */
  lost(link: PeerLink): void;
}

export class PeerLink implements Link, SessionOwner {
  readonly peerId: string;
  readonly traffic: Traffic;
  name: string;
  incarnation = 0;
  state: LinkState = { status: 'idle', error: null };
  private readonly context: LinkContext;
  private session: Session | null = null;
  /** Somebody met a link without room and waits for `onWritable`. */
  private blocked = false;
  private readonly upListeners = new Set<(incarnation: number) => void>();
  private readonly downListeners = new Set<(incarnation: number, error: ArchipelagoError) => void>();
  private readonly writableListeners = new Set<() => void>();

  constructor(peerId: string, traffic: Traffic, context: LinkContext) {
    this.peerId = peerId;
    this.traffic = traffic;
    this.name = peerId;
    this.context = context;
  }

  get connected(): boolean {
    return this.session !== null;
  }

  get writable(): boolean {
    const writable = this.session?.writable ?? false;
    if (!writable) this.blocked = true;
    return writable;
  }

  get queuedBytes(): number {
    return this.session?.queuedBytes ?? 0;
  }

  get outstandingRequests(): number {
    return this.session?.outstandingRequests ?? 0;
  }

  canRequest(payloadBytes: number, replyBytes = DEFAULT_REPLY_BYTES): boolean {
    const can = this.session?.canRequest(payloadBytes + replyBytes) ?? false;
    if (!can) this.blocked = true;
    return can;
  }

  send(type: number, metadata: Uint8Array, payload: Uint8Array = NOTHING): boolean {
    const sent = this.session?.sendMessage(type, metadata, payload) ?? false;
    if (!sent) this.blocked = true;
    return sent;
  }

  flush(): void {
    this.session?.flush();
  }

  request(type: number, metadata: Uint8Array, payload: Uint8Array | null, completion: Completion, replyBytes = DEFAULT_REPLY_BYTES): void {
    const bytes = payload ?? NOTHING;
    if (this.session !== null && this.canRequest(bytes.byteLength, replyBytes)) {
      this.session.sendRequest(type, metadata, bytes, completion, replyBytes);
      return;
    }
    const error = this.session === null ? this.notConnected() : new ArchipelagoError('unavailable', `too much is outstanding at ${this.name}`);
    this.blocked = true;
    queueMicrotask(() => completion.failed(error));
  }

  call(type: number, metadata: Uint8Array, payload: Uint8Array | null, options: CallOptions): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const timer = this.context.clock.setTimer(options.timeoutMs, () => {
        reject(new ArchipelagoError('timeout', `no answer from ${this.name} within ${options.timeoutMs} ms`));
      });
      const completion: Completion = {
        replied(status, replyMetadata, replyPayload) {
          timer.cancel();
          resolve({ status, metadata: replyMetadata, payload: replyPayload });
        },
        failed(error) {
          timer.cancel();
          reject(error);
        },
      };
      try {
        this.request(type, metadata, payload, completion, options.replyBytes);
      } catch (error) {
        timer.cancel();
        throw error;
      }
    });
  }

  waitUp(timeoutMs: number): Promise<void> {
    if (this.session !== null) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const timer = this.context.clock.setTimer(timeoutMs, () => {
        unsubscribe();
        reject(this.state.error ?? new ArchipelagoError('timeout', `no connection to ${this.name} within ${timeoutMs} ms`));
      });
      const unsubscribe = this.onUp(() => {
        unsubscribe();
        timer.cancel();
        resolve();
      });
    });
  }

  onUp(listener: (incarnation: number) => void): () => void {
    return subscribe(this.upListeners, listener);
  }

  onDown(listener: (incarnation: number, error: ArchipelagoError) => void): () => void {
    return subscribe(this.downListeners, listener);
  }

  onWritable(listener: () => void): () => void {
    return subscribe(this.writableListeners, listener);
  }

  // What follows is for the host and the session; users of a Link do not see it.

  get link(): Link {
    return this;
  }

  get limits(): Limits {
    return this.context.limits;
  }

  get timing(): Timing {
    return this.context.timing;
  }

  handler(): Handler | null {
    return this.context.handler(this.traffic);
  }

  /** A handshake has succeeded. A connection that was thought alive is replaced: its peer would not dial if it still had it. */
  attach(channel: Channel, agreement: Agreement): void {
    this.detach(new ArchipelagoError('unavailable', 'replaced by a new connection'));
    this.incarnation += 1;
    this.session = new Session(channel, agreement, this);
    this.state = { status: 'connected', error: null };
    this.context.log.info({ peer: this.name, traffic: this.traffic, incarnation: this.incarnation, wireVersion: agreement.version }, 'link up');
    for (const listener of [...this.upListeners]) listener(this.incarnation);
    this.progressed();
  }

  /** Closes the connection, if there is one. */
  detach(error: ArchipelagoError): void {
    this.session?.end(error);
    assert(this.session === null, 'a session that is told to end has ended');
  }

  /** A connection or handshake was attempted, or what came of it. Logged when it changes. */
  setState(state: LinkState): void {
    if (this.session !== null) return;
    const news = state.error !== null && state.error.message !== this.state.error?.message;
    this.state = state.error === null && state.status === 'connecting' ? { status: 'connecting', error: this.state.error } : state;
    if (!news) return;
    const { code, message, hint } = state.error!;
    this.context.log.warn({ peer: this.name, traffic: this.traffic, code, hint }, `link ${state.status}: ${message}`);
  }

  tick(elapsedMs: number): void {
    this.session?.tick(elapsedMs);
  }

  progressed(): void {
    if (!this.blocked || !this.session?.writable) return;
    this.blocked = false;
    for (const listener of [...this.writableListeners]) listener();
  }

  ended(session: Session, error: ArchipelagoError): void {
    assert(session === this.session, 'a link ends the session that it has');
    const incarnation = this.incarnation;
    this.session = null;
    this.state = { status: 'idle', error };
    this.context.log.info({ peer: this.name, traffic: this.traffic, incarnation, reason: error.message }, 'link down');
    // Not `unavailable`: the peer may have done what it was asked.
    session.failOutstanding(new ArchipelagoError('timeout', `connection to ${this.name} lost before its answer: ${error.message}`, { cause: error }));
    for (const listener of [...this.downListeners]) listener(incarnation, error);
    this.context.lost(this);
  }

  private notConnected(): ArchipelagoError {
    const { error } = this.state;
    return new ArchipelagoError('unavailable', `not connected to ${this.name}${error === null ? '' : `: ${error.message}`}`, {
      ...(error === null ? {} : { cause: error }),
    });
  }
}

function subscribe<Listener>(listeners: Set<Listener>, listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
