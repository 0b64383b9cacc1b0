/**
 * The transmission phase of an NBD connection: requests are cut out of what came in and submitted to the device, replies are queued in the
 * order in which the device answers. A small request costs no promise, closure or allocation.
 */
import { ArchipelagoError, assert, type Log } from '../../base/index.ts';
import { type Device, IO_FLUSH, IO_READ, IO_WRITE, IO_ZERO, MAX_EXTENTS } from '../../volume/index.ts';
import { type Intake, LARGE_PAYLOAD_BYTES } from './intake.ts';
import * as nbd from './protocol.ts';
import type { ReplyQueue } from './replies.ts';
import { NbdRequest } from './request.ts';

/** Failures that one connection may log; a failing store would flood the log otherwise. */
const MAX_LOGGED_FAILURES = 10;
const NO_DATA = new Uint8Array(0);
const BASE_ALLOCATION_ID = 1;

/** The flags that each command takes, FUA by all. */
const ALLOWED_FLAGS: readonly number[] = [
  nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_DF,
  nbd.CMD_FLAG_FUA,
  nbd.CMD_FLAG_FUA,
  nbd.CMD_FLAG_FUA,
  nbd.CMD_FLAG_FUA,
  0,
  nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_NO_HOLE,
  nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_REQ_ONE,
];

/** What may be under way on one connection; beyond it the client is not read from. */
export interface TransmissionLimits {
  readonly maxRequests: number;
  readonly maxBytes: number;
}

export interface TransmissionOptions {
  readonly device: Device;
  readonly structuredReplies: boolean;
  readonly baseAllocation: boolean;
  readonly limits: TransmissionLimits;
  readonly intake: Intake;
  readonly replies: ReplyQueue;
  readonly log: Log;
  /** Called when something was answered outside of `advance`. */
  readonly answered: () => void;
}

export class Transmission {
  /** Requests that a device works on or whose payload is coming in. */
  requestsUnderWay = 0;
  /** The client said goodbye, or broke the protocol: nothing more is read. */
  ended = false;
  /** Nobody is there to be answered: the connection is gone, or the client has ended its side of it, as a killed one does. */
  clientGone = false;
  /** Set by the connection when the server stops: explains failures to the client. */
  stopping = false;
  readonly device: Device;
  private readonly structuredReplies: boolean;
  private readonly baseAllocation: boolean;
  private readonly limits: TransmissionLimits;
  private readonly intake: Intake;
  private readonly replies: ReplyQueue;
  private readonly log: Log;
  private readonly answered: () => void;
  private bytesUnderWay = 0;
  private advancing = false;
  private failuresLogged = 0;
  private readonly free: NbdRequest[] = [];
  /** The write whose payload is being collected. */
  private collecting: NbdRequest | null = null;

  constructor(options: TransmissionOptions) {
    this.device = options.device;
    this.structuredReplies = options.structuredReplies;
    this.baseAllocation = options.baseAllocation;
    this.limits = options.limits;
    this.intake = options.intake;
    this.replies = options.replies;
    this.log = options.log;
    this.answered = options.answered;
  }

  /** Nothing shall be read: it is over, or too much is under way for one more request. A payload that has begun is read to its end. */
  get mustPause(): boolean {
    return this.ended || (this.isFull && !this.intake.midPayload);
  }

  private get isFull(): boolean {
    return this.requestsUnderWay >= this.limits.maxRequests || this.bytesUnderWay + this.replies.unsentBytes >= this.limits.maxBytes;
  }

  /** Requests that a device works on. */
  get submittedRequests(): number {
    return this.requestsUnderWay - (this.collecting === null ? 0 : 1);
  }

  /** Serves what has come in, as far as the limits allow. */
  advance(): void {
    this.advancing = true;
    while (!this.ended && this.takeNext());
    this.advancing = false;
  }

  /** The connection is gone: a write whose payload will not come any more is forgotten. */
  abandon(): void {
    this.ended = true;
    this.clientGone = true;
    const request = this.collecting;
    if (request === null) return;
    this.collecting = null;
    this.recycle(request);
  }

  completed(request: NbdRequest, error: ArchipelagoError | null): void {
    assert(request.submitted, 'a device answers each request once');
    request.submitted = false;
    if (error !== null) this.fail(request, error);
    else if (request.command === nbd.CMD_READ) this.replyWithData(request);
    else this.replySimply(request.cookieHigh, request.cookieLow, 0);
    this.recycle(request);
    if (!this.advancing) this.answered();
  }

  /** Takes one step; false when more bytes, or fewer requests under way, are needed for the next. */
  private takeNext(): boolean {
    const intake = this.intake;
    if (intake.midPayload) {
      if (this.collecting === null) return intake.skipAvailable();
      if (!intake.fillPayload()) return false;
      this.submitCollected(this.collecting);
      return true;
    }
    if (intake.available < nbd.REQUEST_BYTES || this.isFull) return false;
    const view = intake.buffer.view;
    const at = intake.start;
    if (view.getUint32(at) !== nbd.REQUEST_MAGIC) {
      this.breakOff('no NBD request where one must begin', { magic: view.getUint32(at) });
      return false;
    }
    const flags = view.getUint16(at + 4);
    const command = view.getUint16(at + 6);
    const length = view.getUint32(at + 24);
    // Reading the header again when the rest is there is cheaper than remembering it.
    if (command === nbd.CMD_WRITE && length < LARGE_PAYLOAD_BYTES && intake.available < nbd.REQUEST_BYTES + length) return false;
    const cookieHigh = view.getInt32(at + 8);
    const cookieLow = view.getInt32(at + 12);
    const offset = nbd.getUint64(view, at + 16);
    intake.start = at + nbd.REQUEST_BYTES;
    const refusal = this.refusal(command, flags, offset, length);
    if (refusal !== 0) return this.refuse(command, length, cookieHigh, cookieLow, refusal);
    if (command === nbd.CMD_DISC) {
      this.ended = true;
      return false;
    }
    const request = this.acquire();
    request.command = command;
    request.cookieHigh = cookieHigh;
    request.cookieLow = cookieLow;
    request.offset = offset;
    request.length = length;
    request.fua = (flags & nbd.CMD_FLAG_FUA) !== 0;
    this.start(request, flags);
    return true;
  }

  /** The errno for a request that no device shall see, or 0. */
  private refusal(command: number, flags: number, offset: number, length: number): number {
    if (command >= ALLOWED_FLAGS.length || (flags & ~ALLOWED_FLAGS[command]!) !== 0) return nbd.EINVAL;
    const pastEnd = offset + length > this.device.sizeBytes;
    switch (command) {
      case nbd.CMD_READ:
        return length === 0 || length > nbd.MAX_PAYLOAD_BYTES || pastEnd ? nbd.EINVAL : 0;
      case nbd.CMD_WRITE:
        if (this.device.readOnly) return nbd.EPERM;
        if (length === 0 || length > nbd.MAX_PAYLOAD_BYTES) return nbd.EINVAL;
        return pastEnd ? nbd.ENOSPC : 0;
      case nbd.CMD_TRIM:
      case nbd.CMD_WRITE_ZEROES:
        if (this.device.readOnly) return nbd.EPERM;
        if (length === 0) return nbd.EINVAL;
        if (pastEnd) return command === nbd.CMD_TRIM ? nbd.EINVAL : nbd.ENOSPC;
        return 0;
      case nbd.CMD_BLOCK_STATUS:
        return !this.baseAllocation || length === 0 || pastEnd ? nbd.EINVAL : 0;
      case nbd.CMD_FLUSH:
      case nbd.CMD_DISC:
        return 0;
      default:
        return nbd.EINVAL;
    }
  }

  /** Answers with an error, and ignores the payload without keeping it. */
  private refuse(command: number, length: number, cookieHigh: number, cookieLow: number, errno: number): boolean {
    if (this.failuresLogged++ < MAX_LOGGED_FAILURES) this.log.warn({ command, length, errno }, 'refused an NBD request');
    if (command === nbd.CMD_WRITE && length > 2 * nbd.MAX_PAYLOAD_BYTES) {
      // Nobody sends this on purpose, and reading gigabytes to ignore them serves nobody.
      this.breakOff('an NBD write longer than twice the limit', { length });
      return false;
    }
    this.replyWithError(command, cookieHigh, cookieLow, errno, '');
    if (command === nbd.CMD_WRITE) this.intake.skip(length);
    return true;
  }

  private start(request: NbdRequest, flags: number): void {
    const { command, length } = request;
    this.intake.expectLarge = command === nbd.CMD_WRITE && length >= LARGE_PAYLOAD_BYTES;
    switch (command) {
      case nbd.CMD_READ: {
        const headerBytes = this.structuredReplies ? nbd.DATA_CHUNK_BYTES : nbd.SIMPLE_REPLY_BYTES;
        const replies = this.replies;
        replies.reserve(headerBytes + length);
        request.reply = replies.reservedBuffer;
        request.replyStart = replies.reservedStart;
        request.data = request.reply.slice(request.replyStart + headerBytes, length);
        request.kind = IO_READ;
        request.hole = false;
        // A hole's chunk has to fit where the data would have been.
        request.takesHoles = this.structuredReplies && length >= nbd.HOLE_CHUNK_BYTES - nbd.DATA_CHUNK_BYTES;
        this.bytesUnderWay += length;
        break;
      }
      case nbd.CMD_WRITE:
        request.kind = IO_WRITE;
        this.bytesUnderWay += length;
        if (this.intake.available < length) {
          this.intake.beginPayload(length);
          this.collecting = request;
          return;
        }
        this.useInPlace(request);
        break;
      case nbd.CMD_FLUSH:
        request.kind = IO_FLUSH;
        request.offset = 0;
        request.length = 0;
        break;
      case nbd.CMD_BLOCK_STATUS:
        this.describe(request, (flags & nbd.CMD_FLAG_REQ_ONE) !== 0);
        return;
      default:
        request.kind = IO_ZERO;
    }
    request.submitted = true;
    this.device.submit(request);
  }

  /** Writes from where the payload was received. */
  private useInPlace(request: NbdRequest): void {
    const intake = this.intake;
    request.input = intake.buffer;
    intake.buffer.references++;
    request.data = intake.buffer.slice(intake.start, request.length);
    intake.start += request.length;
  }

  private submitCollected(request: NbdRequest): void {
    this.collecting = null;
    request.input = this.intake.takePayload();
    request.data = request.input.slice(0, request.length);
    request.submitted = true;
    this.device.submit(request);
  }

  /** Serves BLOCK_STATUS: too rare to avoid a promise. */
  private describe(request: NbdRequest, one: boolean): void {
    this.device.extents(request.offset, request.length, one ? 1 : MAX_EXTENTS).then(
      (shown) => {
        assert(shown.length > 0 && shown.length <= (one ? 1 : MAX_EXTENTS), 'a device describes at least one extent and no more than asked for');
        const length = 4 + 8 * shown.length;
        this.replies.reserve(nbd.CHUNK_HEADER_BYTES + length);
        const { reservedBuffer: buffer, reservedStart: at } = this.replies;
        this.writeChunkHeader(buffer.view, at, nbd.REPLY_BLOCK_STATUS, request.cookieHigh, request.cookieLow, length);
        buffer.view.setUint32(at + nbd.CHUNK_HEADER_BYTES, BASE_ALLOCATION_ID);
        shown.forEach((extent, i) => {
          buffer.view.setUint32(at + nbd.CHUNK_HEADER_BYTES + 4 + 8 * i, extent.lengthBytes);
          buffer.view.setUint32(at + nbd.CHUNK_HEADER_BYTES + 8 + 8 * i, extent.allocated ? 0 : nbd.STATE_HOLE | nbd.STATE_ZERO);
        });
        this.replies.commit(buffer, at, nbd.CHUNK_HEADER_BYTES + length);
        this.recycle(request);
        this.answered();
      },
      (error: unknown) => {
        this.fail(request, ArchipelagoError.from(error, 'describing extents'));
        this.recycle(request);
        this.answered();
      },
    );
  }

  private fail(request: NbdRequest, error: ArchipelagoError): void {
    if (this.failuresLogged++ < MAX_LOGGED_FAILURES) {
      const { command, offset, length } = request;
      this.log.warn({ command, offset, length, code: error.code, reason: error.message }, 'an NBD request failed');
    }
    if (request.reply !== null) this.replies.release(request.reply);
    request.reply = null;
    this.replyWithError(request.command, request.cookieHigh, request.cookieLow, this.errnoOf(error), error.message);
  }

  private errnoOf(error: ArchipelagoError): number {
    switch (error.code) {
      case 'no-space':
        return nbd.ENOSPC;
      case 'read-only':
      case 'forbidden':
        return nbd.EPERM;
      case 'invalid-argument':
        return nbd.EINVAL;
      case 'unavailable':
        return this.stopping ? nbd.ESHUTDOWN : nbd.EIO;
      default:
        return nbd.EIO;
    }
  }

  private replyWithData(request: NbdRequest): void {
    const { cookieHigh, cookieLow, length, reply, replyStart } = request;
    assert(reply !== null, 'a read has room for its reply');
    request.reply = null;
    if (request.hole) {
      this.writeChunkHeader(reply.view, replyStart, nbd.REPLY_OFFSET_HOLE, cookieHigh, cookieLow, nbd.HOLE_CHUNK_BYTES - nbd.CHUNK_HEADER_BYTES);
      nbd.setUint64(reply.view, replyStart + nbd.CHUNK_HEADER_BYTES, request.offset);
      reply.view.setUint32(replyStart + nbd.DATA_CHUNK_BYTES, length);
      this.replies.commit(reply, replyStart, nbd.HOLE_CHUNK_BYTES);
    } else if (this.structuredReplies) {
      this.writeChunkHeader(reply.view, replyStart, nbd.REPLY_OFFSET_DATA, cookieHigh, cookieLow, length + 8);
      nbd.setUint64(reply.view, replyStart + nbd.CHUNK_HEADER_BYTES, request.offset);
      this.replies.commit(reply, replyStart, nbd.DATA_CHUNK_BYTES + length);
    } else {
      writeSimpleHeader(reply.view, replyStart, cookieHigh, cookieLow, 0);
      this.replies.commit(reply, replyStart, nbd.SIMPLE_REPLY_BYTES + length);
    }
  }

  private replySimply(cookieHigh: number, cookieLow: number, errno: number): void {
    const replies = this.replies;
    replies.reserve(nbd.SIMPLE_REPLY_BYTES);
    writeSimpleHeader(replies.reservedBuffer.view, replies.reservedStart, cookieHigh, cookieLow, errno);
    replies.commit(replies.reservedBuffer, replies.reservedStart, nbd.SIMPLE_REPLY_BYTES);
  }

  private replyWithError(command: number, cookieHigh: number, cookieLow: number, errno: number, message: string): void {
    // A simple reply may answer all but these, and some clients know no structured error for a write.
    if (!this.structuredReplies || (command !== nbd.CMD_READ && command !== nbd.CMD_BLOCK_STATUS)) {
      this.replySimply(cookieHigh, cookieLow, errno);
      return;
    }
    const text = Buffer.from(message).subarray(0, nbd.MAX_STRING_BYTES);
    this.replies.reserve(nbd.CHUNK_HEADER_BYTES + 6 + text.length);
    const { reservedBuffer: buffer, reservedStart: at } = this.replies;
    this.writeChunkHeader(buffer.view, at, nbd.REPLY_ERROR, cookieHigh, cookieLow, 6 + text.length);
    buffer.view.setUint32(at + nbd.CHUNK_HEADER_BYTES, errno);
    buffer.view.setUint16(at + nbd.CHUNK_HEADER_BYTES + 4, text.length);
    buffer.bytes.set(text, at + nbd.CHUNK_HEADER_BYTES + 6);
    this.replies.commit(buffer, at, nbd.CHUNK_HEADER_BYTES + 6 + text.length);
  }

  private writeChunkHeader(view: DataView, at: number, type: number, cookieHigh: number, cookieLow: number, length: number): void {
    view.setUint32(at, nbd.STRUCTURED_REPLY_MAGIC);
    view.setUint16(at + 4, nbd.REPLY_FLAG_DONE);
    view.setUint16(at + 6, type);
    view.setInt32(at + 8, cookieHigh);
    view.setInt32(at + 12, cookieLow);
    view.setUint32(at + 16, length);
  }

  private breakOff(reason: string, context: object): void {
    this.ended = true;
    this.log.warn(context, `closing the connection: ${reason}`);
  }

  private acquire(): NbdRequest {
    this.requestsUnderWay++;
    return this.free.pop() ?? new NbdRequest(this);
  }

  private recycle(request: NbdRequest): void {
    if (request.command === nbd.CMD_READ || request.command === nbd.CMD_WRITE) this.bytesUnderWay -= request.length;
    if (request.input !== null) {
      this.replies.release(request.input);
      request.input = null;
    }
    request.data = NO_DATA;
    this.requestsUnderWay--;
    this.free.push(request);
  }
}

function writeSimpleHeader(view: DataView, at: number, cookieHigh: number, cookieLow: number, errno: number): void {
  view.setUint32(at, nbd.SIMPLE_REPLY_MAGIC);
  view.setUint32(at + 4, errno);
  view.setInt32(at + 8, cookieHigh);
  view.setInt32(at + 12, cookieLow);
}
