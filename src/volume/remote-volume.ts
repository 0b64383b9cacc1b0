/**
 * One session with the node that owns a volume: passes I/O on and answers it when the owner has. A session ends for good when its link goes
 * down or the owner refuses it; what was under way is then given back, in the order of submission, to be sent again wherever the volume is.
 * The owner finishes what an older session has in its store before it takes a newer one, so that no first attempt lands over its retry; and a
 * change keeps its number (`sequences.ts`), so that one that was done is answered and not done again.
 */
import { ArchipelagoError, assert, type Epoch, type LivenessEpoch, type VolumeId } from '../base/index.ts';
import type { Completion, Link } from '../net/index.ts';
import { abandonedError, changes, type Extent, IO_READ, IO_WRITE, type VolumeIo } from './device.ts';
import { IoQueue } from './io-queue.ts';
import type { SentSequences } from './sequences.ts';
import {
  ATTACH,
  attachCodec,
  CLIENTS,
  DETACH,
  DONE,
  decodeExtents,
  EXTENT_BYTES,
  EXTENTS,
  errorCodec,
  extentsCodec,
  FIRST_WRITE,
  firstWriteCodec,
  IO,
  ioCodec,
  MOVED,
} from './wire.ts';

/** How long an owner may take to accept a session before the state of things is looked at anew. */
const ATTACH_TIMEOUT_MS = 1000;
/** How long it may take to look for data: the owner waits for its store, and may be held up by its lease. */
const EXTENTS_TIMEOUT_MS = 30_000;

class RemoteIo implements Completion {
  io: VolumeIo | null = null;
  order = 0;
  private readonly session: RemoteVolume;

  constructor(session: RemoteVolume) {
    this.session = session;
  }

  replied(status: number, metadata: Uint8Array, payload: Uint8Array): void {
    this.session.replied(this, status, metadata, payload);
  }

  failed(error: ArchipelagoError): void {
    this.session.failed(this, error);
  }
}

export interface RemoteVolumeOptions {
  readonly link: Link;
  readonly node: string;
  readonly volume: VolumeId;
  readonly epoch: Epoch;
  /** Grows with each session of this process. */
  readonly session: number;
  /** Of this process, at the session's beginning. */
  readonly livenessEpoch: LivenessEpoch;
  readonly clients: number;
  /** Of this process for the volume, over all sessions. */
  readonly sequences: SentSequences;
  /** The session is over; `unanswered` is in the order of submission. Called once, when nothing is under way any more. */
  readonly ended: (unanswered: VolumeIo[]) => void;
}

export class RemoteVolume {
  readonly node: string;
  readonly epoch: Epoch;
  private readonly options: RemoteVolumeOptions;
  private readonly link: Link;
  private readonly sequences: SentSequences;
  private readonly request = { session: 0, kind: 0, offset: 0, length: 0, fua: false, sequence: 0, behind: 0 };
  private readonly idle: RemoteIo[] = [];
  /** All that were ever made here; those with an I/O are under way, or have been given back. */
  private readonly every: RemoteIo[] = [];
  private readonly returned: RemoteIo[] = [];
  private readonly waiting = new IoQueue();
  private readonly unsubscribe: (() => void)[];
  private clients: number;
  private outstanding = 0;
  private nextOrder = 0;
  private state: 'opening' | 'open' | 'ending' | 'ended' = 'opening';

  constructor(options: RemoteVolumeOptions) {
    this.options = options;
    this.node = options.node;
    this.epoch = options.epoch;
    this.link = options.link;
    this.sequences = options.sequences;
    this.clients = options.clients;
    this.request.session = options.session;
    this.unsubscribe = [this.link.onWritable(() => this.sendWaiting()), this.link.onDown(() => this.end())];
  }

  /** Opens the session. Rejects when the owner cannot be reached or does not accept it now; the session is over then. */
  async open(): Promise<void> {
    try {
      await this.link.waitUp(ATTACH_TIMEOUT_MS);
      const message = this.attachMessage();
      const reply = await this.link.call(ATTACH, message, null, { timeoutMs: ATTACH_TIMEOUT_MS });
      if (reply.status !== DONE) throw new ArchipelagoError('stale-epoch', `node ${this.node} does not own the volume under epoch ${this.epoch}`);
      if (this.state !== 'opening') throw new ArchipelagoError('unavailable', `the link to node ${this.node} went down`);
      this.state = 'open';
    } catch (error) {
      this.end();
      throw error;
    }
  }

  submit(io: VolumeIo): void {
    if (this.state === 'open' && this.waiting.empty && this.fits(io)) this.send(io);
    else this.waiting.push(io);
  }

  /** Asks the owner which parts hold data. Rejects with `stale-epoch` or `unavailable` when it has to be asked again elsewhere. */
  async extents(offset: number, length: number, maxExtents: number): Promise<Extent[]> {
    const message = extentsCodec.encode({ session: this.options.session, offset, length, maxExtents });
    const options = { timeoutMs: EXTENTS_TIMEOUT_MS, replyBytes: maxExtents * EXTENT_BYTES };
    while (this.link.connected && !this.link.canRequest(0, options.replyBytes)) await this.linkChange();
    const reply = await this.link.call(EXTENTS, message, null, options);
    if (reply.status === DONE) return decodeExtents(reply.payload);
    if (reply.status === MOVED) throw new ArchipelagoError('stale-epoch', `node ${this.node} does not serve the volume now`);
    throw ArchipelagoError.fromBody(errorCodec.decode(reply.metadata));
  }

  /** Tells the owner that a client here has written for the first time. False: it has not heard of it. */
  async askForOwnership(attachedEpoch: Epoch): Promise<boolean> {
    const { session, livenessEpoch } = this.options;
    const message = firstWriteCodec.encode({ session, livenessEpoch, attachedEpoch });
    try {
      while (this.link.connected && !this.link.canRequest(0)) await this.linkChange();
      return (await this.link.call(FIRST_WRITE, message, null, { timeoutMs: ATTACH_TIMEOUT_MS })).status === DONE;
    } catch {
      // The link was lost or the owner is slow; the next owner is told.
      return false;
    }
  }

  private linkChange(): Promise<void> {
    return new Promise((resolve) => {
      const changed = (): void => {
        for (const end of ends) end();
        resolve();
      };
      const ends = [this.link.onWritable(changed), this.link.onDown(changed)];
    });
  }

  private fits(io: VolumeIo): boolean {
    if (changes(io.kind) && io.sequence === 0 && !this.sequences.room) return false;
    return this.link.canRequest(io.kind === IO_WRITE ? io.length : 0, io.kind === IO_READ ? io.length : 0);
  }

  private send(io: VolumeIo): void {
    const { request, sequences } = this;
    if (changes(io.kind)) sequences.number(io);
    request.sequence = io.sequence;
    request.behind = io.sequence === 0 ? 0 : io.sequence - sequences.oldest;
    request.kind = io.kind;
    request.offset = io.offset;
    request.length = io.length;
    request.fua = io.fua;
    const remote = this.idle.pop() ?? this.newIo();
    remote.io = io;
    remote.order = this.nextOrder++;
    this.outstanding++;
    this.link.request(IO, ioCodec.encode(request), io.kind === IO_WRITE ? io.data : null, remote, io.kind === IO_READ ? io.length : 0);
  }

  private newIo(): RemoteIo {
    const remote = new RemoteIo(this);
    this.every.push(remote);
    return remote;
  }

  private sendWaiting(): void {
    while (this.state === 'open') {
      const io = this.waiting.first;
      if (io === null || !this.fits(io)) return;
      this.waiting.shift();
      if (io.isAbandoned()) {
        this.sequences.retire(io);
        io.done(abandonedError());
      } else this.send(io);
    }
  }

  /** For a `RemoteIo`: the owner has answered. */
  replied(remote: RemoteIo, status: number, metadata: Uint8Array, payload: Uint8Array): void {
    const { io } = remote;
    if (this.state === 'ended') return;
    assert(io !== null, 'an answer belongs to an I/O under way');
    if (status === MOVED) {
      this.giveBack(remote);
      return;
    }
    this.outstanding--;
    remote.io = null;
    this.idle.push(remote);
    this.sequences.retire(io);
    if (status === DONE) {
      if (io.kind === IO_READ) {
        assert(payload.byteLength === io.length, 'the owner answers a read with all its bytes');
        io.data.set(payload);
      }
      io.done(null);
    } else {
      io.done(ArchipelagoError.fromBody(errorCodec.decode(metadata)));
    }
    if (this.state === 'ending') this.tryEnd();
    else if (!this.waiting.empty) this.sendWaiting();
  }

  /** For a `RemoteIo`: the link went down, or the owner could not even look at it. */
  failed(remote: RemoteIo, error: ArchipelagoError): void {
    if (this.state === 'ended') return;
    if (error.code === 'unavailable' || error.code === 'timeout') {
      this.giveBack(remote);
      return;
    }
    const { io } = remote;
    assert(io !== null, 'an answer belongs to an I/O under way');
    this.outstanding--;
    remote.io = null;
    this.idle.push(remote);
    this.sequences.retire(io);
    io.done(error);
    if (this.state === 'ending') this.tryEnd();
  }

  /** Keeps an I/O that the owner may or may not have done, or has refused, for whoever comes after this session. */
  private giveBack(remote: RemoteIo): void {
    this.outstanding--;
    this.returned.push(remote);
    if (this.state === 'ending') this.tryEnd();
    else this.end();
  }

  /** Tells the owner how many clients there are here now. */
  setClients(clients: number): void {
    if (clients === this.clients) return;
    this.clients = clients;
    if (this.state === 'open') this.tell(CLIENTS);
  }

  /** Tells the owner that the clients are gone. Nothing may be under way. */
  close(): void {
    this.clients = 0;
    if (this.state === 'open') this.tell(DETACH);
    this.end();
  }

  private attachMessage(): Uint8Array {
    const { volume, epoch, session } = this.options;
    return attachCodec.encode({ volume, epoch, session, clients: this.clients, origin: this.sequences.origin });
  }

  private tell(type: number): void {
    const message = this.attachMessage();
    // An owner that does not hear it learns the same when the link goes, or at the next attach.
    this.link.call(type, message, null, { timeoutMs: ATTACH_TIMEOUT_MS }).catch(() => undefined);
  }

  /** Sends nothing more; what the owner still answers is answered. */
  end(): void {
    if (this.state === 'ending' || this.state === 'ended') return;
    this.state = 'ending';
    for (const end of this.unsubscribe) end();
    this.tryEnd();
  }

  /**
   * The ownership was taken from the owner, who may be paused for long or have lost the way to the others: waits for no answer. What it still does
   * is fenced off: what is sent again claims its object first, also from a write whose bytes leave this process only after they were used again.
   */
  abandon(): void {
    if (this.state === 'ended') return;
    for (const end of this.unsubscribe) end();
    this.finish(this.every.filter((remote) => remote.io !== null));
  }

  private tryEnd(): void {
    if (this.outstanding === 0) this.finish(this.returned);
  }

  private finish(remotes: RemoteIo[]): void {
    this.state = 'ended';
    const unanswered = remotes.sort((a, b) => a.order - b.order).map((remote) => remote.io as VolumeIo);
    for (let io = this.waiting.shift(); io !== null; io = this.waiting.shift()) unanswered.push(io);
    this.options.ended(unanswered);
  }
}
