/** A link between two simulated nodes: slow, cut and restored as it is told. */
import { ArchipelagoError, type Clock } from '../../../src/base/index.ts';
import type { CallOptions, Completion, Handler, Link, LinkState, Reply, Responder } from '../../../src/net/index.ts';

import { nextTurn } from '../turns.ts';

const NOTHING = new Uint8Array(0);

interface Outstanding {
  readonly completion: Completion;
  readonly bytes: number;
}

/** One direction's view of a link between two nodes. */
export class SimLink implements Link {
  readonly traffic = 'bulk';
  readonly peerId: string;
  readonly name: string;
  incarnation = 0;
  connected = false;
  /** The other end. */
  peer: SimLink | null = null;
  handler: Handler | null = null;
  /** Frames that have not arrived: each ends up at the peer when `deliver` runs. Null: they arrive at the next turn. */
  slow: (() => void)[] | null = null;
  maxRequests = 64;
  /** Requests by type, for stories that count. */
  readonly sent = new Map<number, number>();
  protected readonly clock: Clock;
  private outstanding = new Set<Outstanding>();
  private readonly up = new Set<(incarnation: number) => void>();
  private readonly down = new Set<(incarnation: number, error: ArchipelagoError) => void>();
  private readonly writableAgain = new Set<() => void>();

  constructor(peerId: string, clock: Clock) {
    this.peerId = peerId;
    this.name = peerId;
    this.clock = clock;
  }

  get state(): LinkState {
    return { status: this.connected ? 'connected' : 'idle', error: null };
  }

  get writable(): boolean {
    return this.connected && this.outstanding.size < this.maxRequests;
  }

  get queuedBytes(): number {
    return 0;
  }

  get outstandingRequests(): number {
    return this.outstanding.size;
  }

  canRequest(): boolean {
    return this.writable;
  }

  send(): boolean {
    return false;
  }

  flush(): void {}

  /** Lets what was held back arrive. */
  deliver(count = Number.POSITIVE_INFINITY): void {
    for (let i = 0; i < count && this.slow !== null && this.slow.length > 0; i++) this.slow.shift()?.();
  }

  /** Brings a frame to the other end, behind those before it. */
  protected carry(frame: () => void): void {
    const { incarnation } = this;
    const arrive = () => {
      if (this.connected && this.incarnation === incarnation) frame();
    };
    if (this.slow !== null) this.slow.push(arrive);
    else void nextTurn().then(arrive);
  }

  request(type: number, metadata: Uint8Array, payload: Uint8Array | null, completion: Completion): void {
    this.sent.set(type, (this.sent.get(type) ?? 0) + 1);
    if (!this.writable) {
      queueMicrotask(() => completion.failed(new ArchipelagoError('unavailable', `no connection to ${this.name}`)));
      return;
    }
    const entry = { completion, bytes: payload?.byteLength ?? 0 };
    this.outstanding.add(entry);
    const copy = payload?.slice() ?? NOTHING;
    const { peer } = this;
    const answer = (how: (completion: Completion) => void) => {
      peer?.carry(() => {
        if (!this.outstanding.delete(entry)) return;
        how(completion);
        for (const listener of [...this.writableAgain]) listener();
      });
    };
    const responder: Responder = {
      replyBytes: 1 << 25,
      reply: (status, replyMetadata, replyPayload = NOTHING) => answer((to) => to.replied(status, replyMetadata.slice(), replyPayload.slice())),
      fail: (error) => answer((to) => to.failed(error)),
    };
    this.carry(() => {
      try {
        peer?.handler?.request(peer, type, metadata.slice(), copy, responder);
      } catch (error) {
        responder.fail(ArchipelagoError.from(error, 'handler'));
      }
    });
  }

  call(type: number, metadata: Uint8Array, payload: Uint8Array | null, { timeoutMs }: CallOptions): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const timer = this.clock.setTimer(timeoutMs, () => reject(new ArchipelagoError('timeout', `no answer from ${this.name}`)));
      this.request(type, metadata, payload, {
        replied: (status, replyMetadata, replyPayload) => {
          timer.cancel();
          resolve({ status, metadata: replyMetadata, payload: replyPayload });
        },
        failed: (error) => {
          timer.cancel();
          reject(error);
        },
      });
    });
  }

  waitUp(timeoutMs: number): Promise<void> {
    if (this.connected) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const timer = this.clock.setTimer(timeoutMs, () => reject(new ArchipelagoError('timeout', `no connection to ${this.name}`)));
      const end = this.onUp(() => {
        end();
        timer.cancel();
        resolve();
      });
    });
  }

  onUp(listener: (incarnation: number) => void): () => void {
    this.up.add(listener);
    return () => this.up.delete(listener);
  }

  onDown(listener: (incarnation: number, error: ArchipelagoError) => void): () => void {
    this.down.add(listener);
    return () => this.down.delete(listener);
  }

  onWritable(listener: () => void): () => void {
    this.writableAgain.add(listener);
    return () => this.writableAgain.delete(listener);
  }

  connect(): void {
    this.connected = true;
    this.incarnation++;
    for (const listener of [...this.up]) listener(this.incarnation);
  }

  /** This end notices that the connection is gone. */
  disconnect(): void {
    if (!this.connected) return;
    this.connected = false;
    this.slow &&= [];
    const error = new ArchipelagoError('timeout', `the connection to ${this.name} is gone`);
    const lost = [...this.outstanding];
    this.outstanding = new Set();
    for (const { completion } of lost) completion.failed(error);
    for (const listener of [...this.down]) listener(this.incarnation, error);
  }
}
