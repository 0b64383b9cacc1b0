/** What users of `src/net` see, and the limits that both ends of a link keep. */
import { type ArchipelagoError, assert, type Clock, type Log } from '../base/index.ts';
import type { GuestService } from './guests.ts';
import type { Identity } from './identity.ts';

/** Each class of traffic has its own connection, so that heartbeats never queue behind blocks. */
export type Traffic = 'control' | 'bulk';

export const TRAFFIC_CLASSES: readonly Traffic[] = ['control', 'bulk'];

/** Another host that may connect to us and that we connect to. */
export interface Peer {
  peerId: string;
  /** For logs and error messages. */
  name: string;
  /** Multiaddrs without the `/p2p/…` part, tried in this order. */
  addresses: string[];
}

/** Every bound of a host. A peer announces its own in the handshake, and a sender keeps the smaller of both. */
export interface Limits {
  /** Largest payload of a frame; a larger one is refused before memory is allocated for it. */
  maxPayloadBytes: number;
  maxMetadataBytes: number;
  /** Requests that one side of a link may have without an answer. */
  maxOutstandingRequests: number;
  /** Payload bytes of those requests plus the bytes that their replies may bring; at least one full frame each way. */
  maxOutstandingBytes: number;
  /** One-way messages are dropped while more bytes than this wait to be sent on the link. */
  maxQueuedBytes: number;
}

export const DEFAULT_LIMITS: Limits = {
  maxPayloadBytes: 33 * 1024 * 1024,
  maxMetadataBytes: 64 * 1024,
  maxOutstandingRequests: 1024,
  maxOutstandingBytes: 72 * 1024 * 1024,
  maxQueuedBytes: 16 * 1024 * 1024,
};

/** Times of a host in milliseconds. */
export interface Timing {
  /** Something is sent at least this often on each link. */
  keepAliveMs: number;
  /** A peer that was silent for this long counts as dead. */
  deadPeerMs: number;
  /** Connecting, encrypting and the handshake, together. */
  connectTimeoutMs: number;
  /** Pause before the first and before the latest attempt to reconnect; it doubles in between. */
  minBackoffMs: number;
  maxBackoffMs: number;
  /** Pause after the other side said no: configuration rarely changes within seconds. */
  refusedBackoffMs: number;
}

export const DEFAULT_TIMING: Timing = {
  keepAliveMs: 500,
  deadPeerMs: 1500,
  connectTimeoutMs: 3000,
  minBackoffMs: 50,
  maxBackoffMs: 1000,
  refusedBackoffMs: 3000,
};

export interface NetOptions {
  identity: Identity;
  /** Multiaddrs to listen on; `/ip4/127.0.0.1/tcp/0` takes a free port. */
  listen: string[];
  /** Hosts of another cluster are refused. */
  clusterId: string;
  /** Separates the hosts of one node that share its identity: 'control' hosts talk to control hosts, 'data' hosts to data hosts. */
  purpose: string;
  /** The classes that this host connects, both by default: each costs a connection to every peer. All hosts of a purpose name the same ones. */
  traffic?: readonly Traffic[];
  /** Answers questions of hosts that are in no list; nobody else gets in when absent. */
  guests?: GuestService;
  clock: Clock;
  log: Log;
  limits?: Partial<Limits>;
  timing?: Partial<Timing>;
  /** Wire versions that this host speaks; only tests set it. */
  wireVersions?: WireVersions;
}

export interface WireVersions {
  oldest: number;
  newest: number;
}

/** Takes the answer to one request. Exactly one of its methods is called, once, and never before `request` has returned. */
export interface Completion {
  /** The peer answered. Both arrays belong to the callee (see `Handler` for what that means). */
  replied(status: number, metadata: Uint8Array, payload: Uint8Array): void;
  /** The link went down (`timeout`, outcome unknown), the request was never sent (`unavailable`), or the peer's handler failed with this error. */
  failed(error: ArchipelagoError): void;
}

/** Answers one request, at any time and in any order. A link that went down in the meantime makes the answer vanish. */
export interface Responder {
  /** Bytes of payload that the requester allowed for. */
  readonly replyBytes: number;
  /**
   * `metadata` is copied; `payload` is given away: nobody may write to it any more. A payload above `replyBytes` reaches the requester as
   * an `internal` error.
   */
  reply(status: number, metadata: Uint8Array, payload?: Uint8Array): void;
  /** The requester's `failed` gets an error with the same code, message and hint. */
  fail(error: ArchipelagoError): void;
}

/**
 * Takes what peers send on one class of traffic. Called synchronously, in the order of sending; a peer's next frame waits for the return.
 *
 * Ownership: `metadata` and `payload` belong to the handler, which may keep and change them without a copy; nothing of ours touches their
 * bytes again. Small ones are views into a received piece of at most 64 KiB, which stays in memory for as long as any of its views: who keeps
 * many small payloads for long copies them. A payload that came in several pieces has a buffer of its own.
 *
 * A handler may throw an ArchipelagoError from `request`: the peer gets it as its failure. Anything else that it throws stops the process.
 */
export interface Handler {
  message(link: Link, type: number, metadata: Uint8Array, payload: Uint8Array): void;
  request(link: Link, type: number, metadata: Uint8Array, payload: Uint8Array, responder: Responder): void;
}

export interface Reply {
  status: number;
  metadata: Uint8Array;
  payload: Uint8Array;
}

export interface CallOptions {
  timeoutMs: number;
  /** Bytes of payload that the reply may have; `DEFAULT_REPLY_BYTES` unless told. */
  replyBytes?: number;
}

/** What a reply may carry when the requester says nothing else. */
export const DEFAULT_REPLY_BYTES = 64 * 1024;

export interface LinkState {
  /** `idle`: the peer is not in the list, or it is the one that dials and it has not come. `refused`: one side said no in the handshake. */
  status: 'connected' | 'connecting' | 'refused' | 'idle';
  /** Why there is no connection, as far as it is known. */
  error: ArchipelagoError | null;
}

/** The way to one peer for one class of traffic. The object lives as long as its host, across any number of connections. */
export interface Link {
  readonly peerId: string;
  readonly traffic: Traffic;
  /** The peer's name from `setPeers`, or its PeerId. */
  readonly name: string;
  readonly connected: boolean;
  /** Counts connections. A request belongs to the one it was sent on and fails with it; it is never sent again. */
  readonly incarnation: number;
  readonly state: LinkState;
  /** False when there is no connection or too much is outstanding; `onWritable` tells when that has changed. */
  readonly writable: boolean;
  /** Bytes of frames that wait for the network. */
  readonly queuedBytes: number;
  readonly outstandingRequests: number;
  /** Whether a request with these sizes would be taken now. */
  canRequest(payloadBytes: number, replyBytes?: number): boolean;
  /**
   * Sends a message that needs no answer. False: not connected, or the queue is full, and the message is dropped. `metadata` is copied,
   * `payload` is given away: nobody may write to it any more.
   */
  send(type: number, metadata: Uint8Array, payload?: Uint8Array): boolean;
  /**
   * Gives the network at once what was sent in this turn of the event loop, which otherwise leaves at the end of it: for who goes on with
   * something that the other side need not wait for. Each call may cost a system call.
   */
  flush(): void;
  /**
   * Sends a request. `metadata` is copied; `payload` is lent until the completion is called. `replyBytes` bounds the payload of the reply and
   * counts as outstanding, so that neither side's memory grows with a slow network. Without connection or room the completion fails with
   * `unavailable`.
   */
  request(type: number, metadata: Uint8Array, payload: Uint8Array | null, completion: Completion, replyBytes?: number): void;
  /**
   * The same with a promise, for slow paths. After a `timeout` the outcome is unknown and, while the link is up, the request still holds its
   * place until the peer answers; `payload` is lent that long.
   */
  call(type: number, metadata: Uint8Array, payload: Uint8Array | null, options: CallOptions): Promise<Reply>;
  /** Resolves when the link is connected, at once if it is. Rejects with the link's last error, or `timeout`. */
  waitUp(timeoutMs: number): Promise<void>;
  /** Each returns the function that ends the subscription. */
  onUp(listener: (incarnation: number) => void): () => void;
  /** Called after the outstanding requests of that incarnation have failed. */
  onDown(listener: (incarnation: number, error: ArchipelagoError) => void): () => void;
  onWritable(listener: () => void): () => void;
}

export function checkLimits(limits: Limits): void {
  assert(limits.maxPayloadBytes >= 1 && limits.maxMetadataBytes >= 1024, 'frames carry something');
  assert(limits.maxPayloadBytes + limits.maxMetadataBytes < 2 ** 31, 'a frame length fits its field');
  assert(limits.maxOutstandingRequests >= 1, 'a request can be sent');
  assert(limits.maxOutstandingBytes >= 2 * limits.maxPayloadBytes, 'the largest request and its reply fit the outstanding bytes');
}

export function checkTiming(timing: Timing): void {
  assert(timing.deadPeerMs >= 2 * timing.keepAliveMs, 'a living peer is heard at least twice before it counts as dead');
  assert(timing.minBackoffMs <= timing.maxBackoffMs, 'the back-off grows');
}
