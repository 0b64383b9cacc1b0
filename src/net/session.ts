/**
 * One connection of a link, from the end of the handshake on: requests that wait for answers, answers that wait for handlers, and signs of
 * life. What it was given fails once when it ends; nothing of it goes over to the next connection.
 *
 * Flow control is by credit, never by not reading: two sides that stop reading while their own answers do not get away would wait for each
 * other for ever. Each side bounds what it asks for, in requests and in bytes there and back, by the smaller of its own limits and the
 * peer's, and refuses a peer that asks for more.
 */
import { ArchipelagoError, assert } from '../base/index.ts';
import type { Channel } from './channel.ts';
import { type FrameHeader, KIND_FAILURE, KIND_KEEP_ALIVE, KIND_MESSAGE, KIND_REPLY, KIND_REQUEST, ProtocolError } from './frame.ts';
import { type Agreement, decodeError, encodeError } from './handshake.ts';
import type { Completion, Handler, Limits, Link, Responder, Timing } from './types.ts';

const NOTHING = new Uint8Array(0);
const MAX_REQUEST_ID = 0xffff_ffff;

/** A request without its answer. */
interface Pending {
  completion: Completion;
  /** Its share of the outstanding bytes. */
  bytes: number;
}

export interface SessionOwner {
  readonly link: Link;
  readonly limits: Limits;
  readonly timing: Timing;
  handler(): Handler | null;
  /** Room appeared, for requests or in the queue. */
  progressed(): void;
  /** Called once. The owner lets go of the session before it calls `failOutstanding`, so that what then asks again does not ask a dead one. */
  ended(session: Session, error: ArchipelagoError): void;
}

export class Session {
  readonly version: number;
  /** What a frame and the sum of outstanding requests may have, the peer's limits taken into account. */
  readonly maxPayloadBytes: number;
  readonly maxMetadataBytes: number;
  private readonly maxRequests: number;
  private readonly maxBytes: number;
  private readonly channel: Channel;
  private readonly owner: SessionOwner;
  private readonly pending = new Map<number, Pending>();
  private pendingBytes = 0;
  private nextRequestId = 1;
  /** The peer's requests that no handler has answered, counted as the peer counts them. */
  private inboundRequests = 0;
  private inboundBytes = 0;
  private silentMs = 0;
  private unsaidMs = 0;
  private ended = false;

  constructor(channel: Channel, agreement: Agreement, owner: SessionOwner) {
    const { peerLimits } = agreement;
    this.version = agreement.version;
    this.channel = channel;
    this.owner = owner;
    this.maxPayloadBytes = Math.min(owner.limits.maxPayloadBytes, peerLimits.maxPayloadBytes);
    this.maxMetadataBytes = Math.min(owner.limits.maxMetadataBytes, peerLimits.maxMetadataBytes);
    this.maxRequests = Math.min(owner.limits.maxOutstandingRequests, peerLimits.maxOutstandingRequests);
    this.maxBytes = Math.min(owner.limits.maxOutstandingBytes, peerLimits.maxOutstandingBytes);
    channel.admit(owner.limits.maxMetadataBytes, owner.limits.maxPayloadBytes);
    channel.listen(this.onFrame, this.onEnd, () => owner.progressed());
  }

  get queuedBytes(): number {
    return this.channel.outbox.queuedBytes;
  }

  get outstandingRequests(): number {
    return this.pending.size;
  }

  get writable(): boolean {
    return this.pending.size < this.maxRequests && this.pendingBytes < this.maxBytes && this.queuedBytes < this.owner.limits.maxQueuedBytes;
  }

  canRequest(bytes: number): boolean {
    return this.pending.size < this.maxRequests && this.pendingBytes + bytes <= this.maxBytes;
  }

  sendMessage(type: number, metadata: Uint8Array, payload: Uint8Array): boolean {
    this.checkSizes(metadata, payload);
    if (this.queuedBytes >= this.owner.limits.maxQueuedBytes) return false;
    this.channel.send(KIND_MESSAGE, 0, type, metadata, payload);
    return true;
  }

  flush(): void {
    this.channel.flush();
  }

  /** The caller has checked `canRequest`. */
  sendRequest(type: number, metadata: Uint8Array, payload: Uint8Array, completion: Completion, replyBytes: number): void {
    this.checkSizes(metadata, payload);
    const bytes = payload.byteLength + replyBytes;
    assert(!this.ended && this.canRequest(bytes), 'a request has a connection and room');
    const id = this.takeRequestId();
    this.pending.set(id, { completion, bytes });
    this.pendingBytes += bytes;
    this.channel.send(KIND_REQUEST, id, type, metadata, payload, replyBytes);
  }

  /** Called by the host's clock. `elapsedMs` is already cut to what a running process shows, so that our own pauses do not count. */
  tick(elapsedMs: number): void {
    const { keepAliveMs, deadPeerMs } = this.owner.timing;
    this.silentMs = this.channel.takeHeard() ? 0 : this.silentMs + elapsedMs;
    this.unsaidMs = this.channel.takeSaid() ? 0 : this.unsaidMs + elapsedMs;
    if (this.silentMs >= deadPeerMs) {
      this.end(new ArchipelagoError('unavailable', `${this.owner.link.name} was silent for ${Math.round(this.silentMs)} ms`));
    } else if (this.unsaidMs >= keepAliveMs / 2) {
      this.channel.send(KIND_KEEP_ALIVE, 0, 0, NOTHING);
      this.unsaidMs = 0;
    }
  }

  end(error: ArchipelagoError): void {
    this.channel.end(error);
  }

  /** Fails what was asked and not answered. Called once, when the session has ended. */
  failOutstanding(error: ArchipelagoError): void {
    assert(this.ended, 'requests fail when their connection has ended');
    const waiting = [...this.pending.values()];
    this.pending.clear();
    this.pendingBytes = 0;
    for (const { completion } of waiting) completion.failed(error);
  }

  /** An answer to the peer; `bytes` is what its request counted for. */
  answer(kind: number, id: number, status: number, metadata: Uint8Array, payload: Uint8Array, bytes: number): void {
    if (this.ended) return;
    this.inboundRequests -= 1;
    this.inboundBytes -= bytes;
    assert(this.inboundRequests >= 0 && this.inboundBytes >= 0, 'only counted requests are answered');
    this.channel.send(kind, id, status, metadata, payload);
  }

  private checkSizes(metadata: Uint8Array, payload: Uint8Array): void {
    if (metadata.byteLength > this.maxMetadataBytes || payload.byteLength > this.maxPayloadBytes) {
      throw new ArchipelagoError(
        'invalid-argument',
        `frame of ${metadata.byteLength} + ${payload.byteLength} bytes is too large for ${this.owner.link.name}`,
      );
    }
  }

  private takeRequestId(): number {
    let id = this.nextRequestId;
    // After 2^32 requests an old one may still wait under the next number.
    while (this.pending.has(id)) id = id === MAX_REQUEST_ID ? 1 : id + 1;
    this.nextRequestId = id === MAX_REQUEST_ID ? 1 : id + 1;
    return id;
  }

  private readonly onFrame = (header: FrameHeader, metadata: Uint8Array, payload: Uint8Array): void => {
    switch (header.kind) {
      case KIND_MESSAGE:
        this.owner.handler()?.message(this.owner.link, header.type, metadata, payload);
        break;
      case KIND_REQUEST:
        this.takeRequest(header, metadata, payload);
        break;
      case KIND_REPLY:
        this.settle(header.requestId)?.replied(header.type, metadata, payload);
        this.owner.progressed();
        break;
      case KIND_FAILURE:
        this.settle(header.requestId)?.failed(decodeError(metadata));
        this.owner.progressed();
        break;
      case KIND_KEEP_ALIVE:
        break;
      default:
        throw new ProtocolError(`frame of unknown kind ${header.kind}`);
    }
  };

  private takeRequest(header: FrameHeader, metadata: Uint8Array, payload: Uint8Array): void {
    const { limits, link } = this.owner;
    const bytes = header.payloadBytes + header.replyBytes;
    this.inboundRequests += 1;
    this.inboundBytes += bytes;
    if (this.inboundRequests > limits.maxOutstandingRequests || this.inboundBytes > limits.maxOutstandingBytes) {
      throw new ProtocolError(`${link.name} sends more requests than it was allowed`);
    }
    const answer = new Answer(this, header.requestId, header.replyBytes, bytes);
    const handler = this.owner.handler();
    if (handler === null) {
      answer.fail(new ArchipelagoError('unavailable', 'the node is still starting'));
      return;
    }
    try {
      handler.request(link, header.type, metadata, payload, answer);
    } catch (error) {
      if (!(error instanceof ArchipelagoError)) throw error;
      answer.fail(error);
    }
  }

  /** The completion of a request whose answer has come; null for one that nobody waits for. */
  private settle(id: number): Completion | null {
    const pending = this.pending.get(id);
    if (pending === undefined) return null;
    this.pending.delete(id);
    this.pendingBytes -= pending.bytes;
    return pending.completion;
  }

  private readonly onEnd = (error: ArchipelagoError): void => {
    assert(!this.ended, 'a session ends once');
    this.ended = true;
    this.owner.ended(this, error);
  };
}

/** The responder that handlers get. */
class Answer implements Responder {
  readonly replyBytes: number;
  private readonly session: Session;
  private readonly id: number;
  private readonly bytes: number;
  private answered = false;

  constructor(session: Session, id: number, replyBytes: number, bytes: number) {
    this.session = session;
    this.id = id;
    this.replyBytes = replyBytes;
    this.bytes = bytes;
  }

  reply(status: number, metadata: Uint8Array, payload: Uint8Array = NOTHING): void {
    if (payload.byteLength > this.replyBytes || payload.byteLength > this.session.maxPayloadBytes) {
      this.fail(new ArchipelagoError('internal', `reply of ${payload.byteLength} bytes where the requester allowed ${this.replyBytes}`));
    } else if (metadata.byteLength > this.session.maxMetadataBytes) {
      this.fail(new ArchipelagoError('internal', `reply with ${metadata.byteLength} bytes of metadata is too large`));
    } else {
      this.send(KIND_REPLY, status, metadata, payload);
    }
  }

  fail(error: ArchipelagoError): void {
    this.send(KIND_FAILURE, 0, encodeError(error, this.session.maxMetadataBytes), NOTHING);
  }

  private send(kind: number, status: number, metadata: Uint8Array, payload: Uint8Array): void {
    assert(!this.answered, 'a request is answered once');
    this.answered = true;
    this.session.answer(kind, this.id, status, metadata, payload, this.bytes);
  }
}
