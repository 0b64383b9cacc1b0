/**
 * The owner's side of forwarded I/O: sessions of other nodes' data processes. A session belongs to one connection and one epoch of the
 * volume. A node's newer session is accepted only when the store has finished what its older ones had submitted.
 */
import { ArchipelagoError, assert, type Epoch, type LivenessEpoch, type Log, type VolumeId } from '../base/index.ts';
import type { Handler, Link, Responder } from '../net/index.ts';
import { changes, IO_FLUSH, IO_READ, IO_WRITE, IO_ZERO, type IoKind, MAX_EXTENTS, VolumeIo } from './device.ts';
import type { AttemptMessage } from './preparation.ts';
import type { AnsweredWindow } from './sequences.ts';
import type { ServedVolume } from './served-volume.ts';
import type { Volume } from './volume.ts';
import {
  ATTACH,
  type AttachMessage,
  attachCodec,
  CLIENTS,
  DETACH,
  DONE,
  decodeAnswered,
  decodeObjectNames,
  EXTENTS,
  type ExtentsMessage,
  encodeExtents,
  errorCodec,
  extentsCodec,
  FAILED,
  FIRST_WRITE,
  type FirstWriteMessage,
  firstWriteCodec,
  HAND_OVER,
  handOverCodec,
  IO,
  type IoMessage,
  ioCodec,
  MOVED,
  PREPARE,
  prepareCodec,
} from './wire.ts';

/** How long an attach waits for the volume to be served here before the sender is asked to look again. */
const SERVE_WAIT_MS = 800;
const NO_METADATA = new Uint8Array(0);

class ForwardedIo extends VolumeIo {
  session: Session | null = null;
  /** Where the number of a change is remembered; null for what has none. */
  window: AnsweredWindow | null = null;
  responder: Responder | null = null;
  private readonly server: SessionServer;

  constructor(server: SessionServer) {
    super();
    this.server = server;
  }

  override done(error: ArchipelagoError | null): void {
    this.server.answered(this, error);
  }

  /** A node sends its own clients' I/O again; nobody else does it for them. */
  override moved(): boolean {
    this.server.movedAway(this);
    return true;
  }
}

class Session {
  readonly volume: Volume;
  readonly epoch: number;
  readonly peerId: string;
  readonly incarnation: number;
  readonly number: number;
  /** Of the ownership under `epoch`. */
  readonly window: AnsweredWindow;
  clients: number;
  inFlight = 0;
  /** Takes no more I/O. */
  over = false;
  private idleWaiters: (() => void)[] = [];

  constructor(volume: Volume, window: AnsweredWindow, link: Link, message: AttachMessage) {
    this.volume = volume;
    this.window = window;
    this.epoch = message.epoch;
    this.peerId = link.peerId;
    this.incarnation = link.incarnation;
    this.number = message.session;
    this.clients = message.clients;
  }

  whenIdle(): Promise<void> {
    if (this.inFlight === 0) return Promise.resolve();
    return new Promise((resolve) => this.idleWaiters.push(resolve));
  }

  ended(): void {
    this.inFlight--;
    if (this.inFlight > 0) return;
    const waiters = this.idleWaiters;
    this.idleWaiters = [];
    for (const waiter of waiters) waiter();
  }
}

/** What the server needs of the directory of volumes. */
export interface VolumeLookup {
  volumeById(id: VolumeId): Volume | null;
}

export class SessionServer implements Handler {
  private readonly lookup: VolumeLookup;
  private readonly log: Log;
  /** By peer and session number. */
  private readonly sessions = new Map<string, Map<number, Session>>();
  /** Sessions that are over, until the store is done with them. A restarted peer may use their numbers again. */
  private readonly ending = new Set<Session>();
  private readonly idle: ForwardedIo[] = [];

  constructor(lookup: VolumeLookup, log: Log) {
    this.lookup = lookup;
    this.log = log;
  }

  /** Clients that other nodes have attached to a volume through sessions with this one. */
  clientsOf(volume: Volume): number {
    let clients = 0;
    for (const sessions of this.sessions.values()) {
      for (const session of sessions.values()) if (session.volume === volume) clients += session.clients;
    }
    return clients;
  }

  /** The link to a peer went down: its sessions are over. */
  linkDown(peerId: string): void {
    for (const session of this.sessions.get(peerId)?.values() ?? []) this.end(session);
  }

  message(_link: Link, type: number): void {
    this.log.warn({ type }, 'a message of an unknown type was ignored');
  }

  request(link: Link, type: number, metadata: Uint8Array, payload: Uint8Array, responder: Responder): void {
    switch (type) {
      case IO:
        this.forwarded(link, ioCodec.decode(metadata), payload, responder);
        return;
      case ATTACH:
        this.attach(link, attachCodec.decode(metadata)).then(
          (status) => responder.reply(status, NO_METADATA),
          (error: unknown) => responder.fail(ArchipelagoError.from(error, 'attach')),
        );
        return;
      case CLIENTS: {
        const { session: number, clients } = attachCodec.decode(metadata);
        const session = this.sessions.get(link.peerId)?.get(number);
        if (session) session.clients = clients;
        responder.reply(session ? DONE : MOVED, NO_METADATA);
        return;
      }
      case DETACH: {
        const session = this.sessions.get(link.peerId)?.get(attachCodec.decode(metadata).session);
        if (session) {
          session.volume.served?.answered.forget(link.name);
          this.end(session);
        }
        responder.reply(DONE, NO_METADATA);
        return;
      }
      case FIRST_WRITE:
        responder.reply(this.firstWrite(link, firstWriteCodec.decode(metadata)) ? DONE : MOVED, NO_METADATA);
        return;
      case EXTENTS:
        this.extents(link, extentsCodec.decode(metadata), responder);
        return;
      case PREPARE:
        this.prepare(prepareCodec.decode(metadata) as AttemptMessage, payload).then(
          (status) => responder.reply(status, NO_METADATA),
          (error: unknown) => responder.fail(ArchipelagoError.from(error, 'prepare a handover')),
        );
        return;
      case HAND_OVER: {
        const { nextPageSequence, answered, placed, ...message } = handOverCodec.decode(metadata);
        const attempt = message as AttemptMessage;
        const told = { nextPageSequence, answered: decodeAnswered(answered), placed };
        const taken = this.lookup.volumeById(attempt.volume)?.receiveHandOver(attempt, decodeObjectNames(payload), told) ?? false;
        // An owner that was told nothing could never serve.
        responder.reply(taken ? DONE : MOVED, NO_METADATA);
        return;
      }
      default:
        throw new ArchipelagoError('unsupported-version', `request type ${type} is not known here`, { hint: 'run the same version on all nodes' });
    }
  }

  private async prepare(message: AttemptMessage, payload: Uint8Array): Promise<number> {
    const volume = this.lookup.volumeById(message.volume);
    return (await volume?.preparations.prepare(message, decodeObjectNames(payload), volume.record)) ? DONE : MOVED;
  }

  /** DONE when the session is open, MOVED when the volume is not served here under that epoch. */
  private async attach(link: Link, message: AttachMessage): Promise<number> {
    const volume = this.lookup.volumeById(message.volume as VolumeId);
    if (!volume) return MOVED;
    let sessions = this.sessions.get(link.peerId);
    if (!sessions) {
      sessions = new Map();
      this.sessions.set(link.peerId, sessions);
    }
    const { incarnation } = link;
    for (const session of [...sessions.values()]) if (session.volume === volume) this.end(session);
    const older = [...this.ending].filter((session) => session.volume === volume && session.peerId === link.peerId);
    await Promise.all(older.map((session) => session.whenIdle()));
    // Whatever the reason, the sender is told to look where the volume is now. It may have heard of this ownership before we have.
    const served = await volume.own(SERVE_WAIT_MS, message.epoch as Epoch).catch(() => null);
    // Anything may have happened in between; what counts is how things are now.
    if (!served || served.epoch !== message.epoch || link.incarnation !== incarnation || !link.connected) return MOVED;
    for (const session of [...sessions.values()]) {
      if (session.volume !== volume) continue;
      // Opened while this one waited: either the sender has given this attach up, or it never used that one.
      if (session.inFlight > 0 || (session.incarnation === incarnation && session.number > message.session)) return MOVED;
      this.end(session);
    }
    sessions.set(message.session, new Session(volume, served.answered.of(link.name, message.origin), link, message));
    return DONE;
  }

  /** The session that a request names; null when the volume is not served under it here and now. */
  private servedSession(link: Link, number: number): { session: Session; served: ServedVolume } | null {
    const session = this.sessions.get(link.peerId)?.get(number);
    const served = session?.volume.served;
    const here = session && !session.over && session.incarnation === link.incarnation && served?.admits && served.epoch === session.epoch;
    return here ? { session, served } : null;
  }

  /** False: the sender has to tell whoever is the owner then. */
  private firstWrite(link: Link, { session: number, livenessEpoch, attachedEpoch }: FirstWriteMessage): boolean {
    const session = this.servedSession(link, number)?.session;
    if (session === undefined) return false;
    session.volume.followWriter.wrote({
      node: link.name,
      livenessEpoch: livenessEpoch as LivenessEpoch,
      attachedEpoch: attachedEpoch as Epoch,
      present: () => !session.over && session.clients > 0,
    });
    return true;
  }

  /** What was found counts for the session's clients because the volume answers it as it answers reads. */
  private extents(link: Link, { session: number, offset, length, maxExtents }: ExtentsMessage, responder: Responder): void {
    const found = this.servedSession(link, number);
    if (!found || offset >= found.served.sizeBytes) {
      responder.reply(MOVED, NO_METADATA);
      return;
    }
    found.served.extents(offset, length, Math.min(maxExtents, MAX_EXTENTS)).then(
      (extents) => responder.reply(DONE, NO_METADATA, encodeExtents(extents)),
      (cause: unknown) => {
        const { code, message, hint } = ArchipelagoError.from(cause, 'looking for data');
        if (code === 'stale-epoch') responder.reply(MOVED, NO_METADATA);
        else responder.reply(FAILED, errorCodec.encode({ code, message, hint: hint ?? '' }));
      },
    );
  }

  private forwarded(link: Link, message: IoMessage, payload: Uint8Array, responder: Responder): void {
    const found = this.servedSession(link, message.session);
    if (found === null) {
      responder.reply(MOVED, NO_METADATA);
      return;
    }
    const { session, served } = found;
    const { window } = session;
    if (message.sequence !== 0) {
      window.heard(message.sequence - message.behind);
      if (!window.covers(message.sequence)) throw new ArchipelagoError('invalid-argument', `change ${message.sequence} was answered before`);
      if (window.isUnderWay(message.sequence)) {
        // No session sends a change twice, and a new one waits for what those before it have under way.
        responder.reply(MOVED, NO_METADATA);
        return;
      }
      if (window.isDone(message.sequence)) {
        // Done by an earlier attempt. Since then somebody may have read it and have written over it.
        responder.reply(DONE, NO_METADATA);
        return;
      }
    }
    const io = this.idle.pop() ?? new ForwardedIo(this);
    io.session = session;
    io.responder = responder;
    io.kind = checkKind(message.kind);
    io.offset = message.offset;
    io.length = message.length;
    io.fua = message.fua;
    const refusal =
      io.offset + io.length > served.sizeBytes
        ? new ArchipelagoError('invalid-argument', 'past the end of the volume')
        : session.volume.restricted && changes(io.kind)
          ? session.volume.changeRefusal(link.name)
          : null;
    if (refusal !== null) {
      io.session = null;
      this.idle.push(io);
      responder.reply(FAILED, errorCodec.encode({ code: refusal.code, message: refusal.message, hint: refusal.hint ?? '' }));
      return;
    }
    if (message.sequence !== 0) {
      io.window = window;
      io.sequence = message.sequence;
      window.begin(message.sequence);
    }
    // Read data is given to the link, so it gets memory of its own; net has made memory for what is to be written.
    if (io.kind === IO_READ) io.data = Buffer.allocUnsafeSlow(io.length);
    else io.data = payload;
    session.inFlight++;
    served.submit(io);
  }

  /** For a `ForwardedIo`. */
  answered(io: ForwardedIo, error: ArchipelagoError | null): void {
    const { session, responder } = io;
    assert(session !== null && responder !== null, 'an I/O that is answered was forwarded');
    if (error === null) io.window?.done(io.sequence);
    else io.window?.forget(io.sequence);
    if (error === null) responder.reply(DONE, NO_METADATA, io.kind === IO_READ ? io.data : undefined);
    else responder.reply(FAILED, errorCodec.encode({ code: error.code, message: error.message, hint: error.hint ?? '' }));
    this.release(io, session);
  }

  /** For a `ForwardedIo`: it was submitted here under an epoch that has ended. */
  movedAway(io: ForwardedIo): void {
    const { session, responder } = io;
    assert(session !== null && responder !== null, 'an I/O that moves was forwarded');
    io.window?.forget(io.sequence);
    responder.reply(MOVED, NO_METADATA);
    this.release(io, session);
  }

  private release(io: ForwardedIo, session: Session): void {
    io.session = null;
    io.window = null;
    io.sequence = 0;
    io.responder = null;
    io.data = NO_METADATA;
    this.idle.push(io);
    session.ended();
    if (session.over && session.inFlight === 0) this.ending.delete(session);
  }

  private end(session: Session): void {
    session.over = true;
    const sessions = this.sessions.get(session.peerId);
    if (sessions?.get(session.number) === session) sessions.delete(session.number);
    if (session.inFlight > 0) this.ending.add(session);
  }
}

function checkKind(kind: number): IoKind {
  if (kind !== IO_READ && kind !== IO_WRITE && kind !== IO_FLUSH && kind !== IO_ZERO) {
    throw new ArchipelagoError('unsupported-version', `I/O kind ${kind} is not known here`, { hint: 'run the same version on all nodes' });
  }
  return kind;
}
