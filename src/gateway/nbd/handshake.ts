/** The handshake of an NBD connection: fixed newstyle, from the greeting to the choice of an export. Not a hot path. */
import { ArchipelagoError, concatBytes, type Log } from '../../base/index.ts';
import type { Device, DeviceDirectory } from '../../volume/index.ts';
import type { Intake } from './intake.ts';
import * as nbd from './protocol.ts';

/** An option longer than this is refused unread. No client has a reason for one: names end at 4096 bytes. */
const MAX_OPTION_BYTES = 32 * 1024;
/** An option longer than this ends the connection. */
const MAX_SKIPPED_OPTION_BYTES = 1024 * 1024;
const MIN_BLOCK_BYTES = 1;
const PREFERRED_BLOCK_BYTES = 4096;
const BASE_ALLOCATION_ID = 1;
const EXPORT_NAME_PADDING_BYTES = 124;

/** What the handshake settled. */
export interface HandshakeResult {
  readonly device: Device;
  readonly exportName: string;
  readonly structuredReplies: boolean;
  readonly baseAllocation: boolean;
}

export interface HandshakeOptions {
  readonly directory: DeviceDirectory;
  readonly intake: Intake;
  readonly log: Log;
  readonly send: (bytes: Uint8Array) => void;
  /** The client may go on sending options, or requests when there is a result. Called after each option that had to wait. */
  readonly goOn: () => void;
}

export class Handshake {
  /** Set when the transmission phase begins. */
  result: HandshakeResult | null = null;
  /** Set when the connection shall end. */
  ended = false;
  /** An option waits for a device; until it is answered no other one is looked at. */
  busy = false;
  private readonly directory: DeviceDirectory;
  private readonly intake: Intake;
  private readonly log: Log;
  private readonly send: (bytes: Uint8Array) => void;
  private readonly goOn: () => void;
  private greeted = false;
  private padded = true;
  private structuredReplies = false;
  /** The export that `base:allocation` was chosen for. */
  private allocationFor: string | null = null;

  constructor(options: HandshakeOptions) {
    this.directory = options.directory;
    this.intake = options.intake;
    this.log = options.log;
    this.send = options.send;
    this.goOn = options.goOn;
  }

  /** The server's greeting. */
  greet(): void {
    const greeting = new DataView(new ArrayBuffer(18));
    greeting.setUint32(0, nbd.NBD_MAGIC_HIGH);
    greeting.setUint32(4, nbd.NBD_MAGIC_LOW);
    greeting.setUint32(8, nbd.OPTION_MAGIC_HIGH);
    greeting.setUint32(12, nbd.OPTION_MAGIC_LOW);
    greeting.setUint16(16, nbd.FLAG_FIXED_NEWSTYLE | nbd.FLAG_NO_ZEROES);
    this.send(new Uint8Array(greeting.buffer));
  }

  /** Answers what has come in. */
  advance(): void {
    while (!this.ended && !this.busy && this.result === null && this.takeNext());
  }

  private takeNext(): boolean {
    const intake = this.intake;
    if (intake.midPayload) return intake.skipAvailable();
    const view = intake.buffer.view;
    if (!this.greeted) {
      if (intake.available < 4) return false;
      const flags = view.getUint32(intake.start);
      intake.start += 4;
      return this.takeClientFlags(flags);
    }
    if (intake.available < nbd.OPTION_HEADER_BYTES) return false;
    const at = intake.start;
    if (view.getUint32(at) !== nbd.OPTION_MAGIC_HIGH || view.getUint32(at + 4) !== nbd.OPTION_MAGIC_LOW) {
      return this.breakOff('no NBD option where one must begin', {});
    }
    const option = view.getUint32(at + 8);
    const length = view.getUint32(at + 12);
    if (length > MAX_OPTION_BYTES) return this.refuseOversize(option, length);
    if (intake.available < nbd.OPTION_HEADER_BYTES + length) return false;
    const start = at + nbd.OPTION_HEADER_BYTES;
    // Copied, because the intake's buffer moves on while a device is awaited.
    const data = intake.buffer.bytes.subarray(start, start + length).slice() as Uint8Array;
    intake.start = start + length;
    this.answer(option, Buffer.from(data));
    return true;
  }

  private takeClientFlags(flags: number): boolean {
    this.greeted = true;
    if ((flags & ~(nbd.FLAG_FIXED_NEWSTYLE | nbd.FLAG_NO_ZEROES)) !== 0) {
      return this.breakOff('the client sent no NBD handshake, or flags that nobody knows', { flags });
    }
    this.padded = (flags & nbd.FLAG_NO_ZEROES) === 0;
    return true;
  }

  private refuseOversize(option: number, length: number): boolean {
    if (length > MAX_SKIPPED_OPTION_BYTES) return this.breakOff('an NBD option of an absurd length', { option, length });
    this.log.warn({ option, length }, 'refused an NBD option that is too long');
    this.reply(option, nbd.REP_ERR_TOO_BIG, `options end at ${MAX_OPTION_BYTES} bytes`);
    this.intake.start += nbd.OPTION_HEADER_BYTES;
    this.intake.skip(length);
    return true;
  }

  private answer(option: number, data: Buffer): void {
    switch (option) {
      case nbd.OPT_EXPORT_NAME:
        this.wait(this.chooseByName(data.toString()));
        return;
      case nbd.OPT_ABORT:
        this.reply(option, nbd.REP_ACK, '');
        this.ended = true;
        return;
      case nbd.OPT_LIST:
        this.list(data);
        return;
      case nbd.OPT_INFO:
      case nbd.OPT_GO:
        this.wait(this.go(option, data));
        return;
      case nbd.OPT_STRUCTURED_REPLY:
        if (data.length > 0) {
          this.reply(option, nbd.REP_ERR_INVALID, 'the option takes no data');
          return;
        }
        this.structuredReplies = true;
        this.reply(option, nbd.REP_ACK, '');
        return;
      case nbd.OPT_LIST_META_CONTEXT:
      case nbd.OPT_SET_META_CONTEXT:
        this.chooseContexts(option, data);
        return;
      default:
        this.reply(option, nbd.REP_ERR_UNSUP, 'the option is not supported');
    }
  }

  private wait(work: Promise<void>): void {
    this.busy = true;
    void work
      .catch((error: Error) => this.breakOff(error.message, {}))
      .then(() => {
        this.busy = false;
        this.goOn();
      });
  }

  /** EXPORT_NAME: the old way, which knows no error reply. */
  private async chooseByName(name: string): Promise<void> {
    let device: Device;
    try {
      device = await this.attach(name);
    } catch (error) {
      this.breakOff(ArchipelagoError.from(error, 'attaching').message, { exportName: name });
      return;
    }
    const reply = new DataView(new ArrayBuffer(10 + (this.padded ? EXPORT_NAME_PADDING_BYTES : 0)));
    nbd.setUint64(reply, 0, device.sizeBytes);
    reply.setUint16(8, this.transmissionFlags(device));
    this.send(new Uint8Array(reply.buffer));
    this.begin(device, name);
  }

  private async go(option: number, data: Buffer): Promise<void> {
    const request = parseInfoRequest(data);
    if (request === null) {
      this.reply(option, nbd.REP_ERR_INVALID, 'malformed option');
      return;
    }
    let device: Device;
    try {
      device = await this.attach(request.name);
    } catch (error) {
      const failure = ArchipelagoError.from(error, 'attaching');
      this.log.info({ exportName: request.name, code: failure.code }, `refused an NBD client: ${failure.message}`);
      this.reply(option, replyTypeOf(failure), failure.message);
      return;
    }
    const info = new DataView(new ArrayBuffer(12));
    info.setUint16(0, nbd.INFO_EXPORT);
    nbd.setUint64(info, 2, device.sizeBytes);
    info.setUint16(10, this.transmissionFlags(device));
    this.reply(option, nbd.REP_INFO, new Uint8Array(info.buffer));
    if (request.infos.includes(nbd.INFO_NAME)) {
      this.reply(option, nbd.REP_INFO, concatBytes([new Uint8Array([0, nbd.INFO_NAME]), Buffer.from(request.name)]));
    }
    const sizes = new DataView(new ArrayBuffer(14));
    sizes.setUint16(0, nbd.INFO_BLOCK_SIZE);
    sizes.setUint32(2, MIN_BLOCK_BYTES);
    sizes.setUint32(6, PREFERRED_BLOCK_BYTES);
    sizes.setUint32(10, nbd.MAX_PAYLOAD_BYTES);
    this.reply(option, nbd.REP_INFO, new Uint8Array(sizes.buffer));
    this.reply(option, nbd.REP_ACK, '');
    if (option === nbd.OPT_GO) this.begin(device, request.name);
    else await device.close();
  }

  private async attach(name: string): Promise<Device> {
    if (name === '') throw new ArchipelagoError('not-found', 'unknown export: name the volume', { hint: 'use the URI that `volume uri` prints' });
    if (Buffer.byteLength(name) > nbd.MAX_STRING_BYTES) throw new ArchipelagoError('invalid-argument', 'the export name is too long');
    return this.directory.attach(name);
  }

  private begin(device: Device, exportName: string): void {
    const { structuredReplies } = this;
    this.result = { device, exportName, structuredReplies, baseAllocation: this.allocationFor === exportName };
  }

  private transmissionFlags(device: Device): number {
    let flags = nbd.TRANSMIT_HAS_FLAGS | nbd.TRANSMIT_SEND_FLUSH | nbd.TRANSMIT_SEND_FUA | nbd.TRANSMIT_CAN_MULTI_CONN;
    if (device.readOnly) flags |= nbd.TRANSMIT_READ_ONLY;
    else flags |= nbd.TRANSMIT_SEND_TRIM | nbd.TRANSMIT_SEND_WRITE_ZEROES;
    if (this.structuredReplies) flags |= nbd.TRANSMIT_SEND_DF;
    return flags;
  }

  private list(data: Buffer): void {
    if (data.length > 0) {
      this.reply(nbd.OPT_LIST, nbd.REP_ERR_INVALID, 'the option takes no data');
      return;
    }
    for (const name of this.directory.names()) {
      const bytes = Buffer.from(name);
      const entry = Buffer.alloc(4 + bytes.length);
      entry.writeUInt32BE(bytes.length);
      entry.set(bytes, 4);
      this.reply(nbd.OPT_LIST, nbd.REP_SERVER, entry);
    }
    this.reply(nbd.OPT_LIST, nbd.REP_ACK, '');
  }

  private chooseContexts(option: number, data: Buffer): void {
    const setting = option === nbd.OPT_SET_META_CONTEXT;
    if (setting) this.allocationFor = null;
    const request = parseContextRequest(data);
    if (request === null || !this.structuredReplies) {
      this.reply(option, nbd.REP_ERR_INVALID, request === null ? 'malformed option' : 'negotiate structured replies first');
      return;
    }
    if (request.name === '') {
      this.reply(option, nbd.REP_ERR_UNKNOWN, 'unknown export: name the volume');
      return;
    }
    const { queries } = request;
    const everything = !setting && (queries.length === 0 || queries.includes('base:'));
    if (everything || queries.includes(nbd.BASE_ALLOCATION)) {
      const context = Buffer.alloc(4 + nbd.BASE_ALLOCATION.length);
      context.writeUInt32BE(setting ? BASE_ALLOCATION_ID : 0);
      context.write(nbd.BASE_ALLOCATION, 4);
      this.reply(option, nbd.REP_META_CONTEXT, context);
      if (setting) this.allocationFor = request.name;
    }
    this.reply(option, nbd.REP_ACK, '');
  }

  private reply(option: number, type: number, payload: Uint8Array | string): void {
    const data = typeof payload === 'string' ? Buffer.from(payload).subarray(0, nbd.MAX_STRING_BYTES) : payload;
    const header = new DataView(new ArrayBuffer(nbd.OPTION_REPLY_HEADER_BYTES));
    header.setUint32(0, nbd.OPTION_REPLY_MAGIC_HIGH);
    header.setUint32(4, nbd.OPTION_REPLY_MAGIC_LOW);
    header.setUint32(8, option);
    header.setUint32(12, type);
    header.setUint32(16, data.length);
    this.send(concatBytes([new Uint8Array(header.buffer), data]));
  }

  private breakOff(reason: string, context: object): false {
    this.ended = true;
    this.log.warn(context, `closing the connection: ${reason}`);
    return false;
  }
}

function replyTypeOf(error: ArchipelagoError): number {
  switch (error.code) {
    case 'not-found':
      return nbd.REP_ERR_UNKNOWN;
    case 'invalid-argument':
      return nbd.REP_ERR_INVALID;
    case 'unavailable':
    case 'timeout':
      // Clients take it for 'try again later'.
      return nbd.REP_ERR_SHUTDOWN;
    default:
      return nbd.REP_ERR_POLICY;
  }
}

/** The data of INFO and GO: name length, name, number of information requests, requests. */
function parseInfoRequest(data: Buffer): { name: string; infos: number[] } | null {
  if (data.length < 6) return null;
  const nameLength = data.readUInt32BE(0);
  if (nameLength > data.length - 6) return null;
  const count = data.readUInt16BE(4 + nameLength);
  if (data.length !== 6 + nameLength + 2 * count) return null;
  const infos = Array.from({ length: count }, (_, i) => data.readUInt16BE(6 + nameLength + 2 * i));
  return { name: data.toString('utf8', 4, 4 + nameLength), infos };
}

/** The data of LIST_META_CONTEXT and SET_META_CONTEXT: name, number of queries, queries, each string with its length. */
function parseContextRequest(data: Buffer): { name: string; queries: string[] } | null {
  let at = 0;
  const readString = (): string | null => {
    if (data.length - at < 4) return null;
    const length = data.readUInt32BE(at);
    if (data.length - at - 4 < length) return null;
    at += 4 + length;
    return data.toString('utf8', at - length, at);
  };
  const name = readString();
  if (name === null || data.length - at < 4) return null;
  const count = data.readUInt32BE(at);
  at += 4;
  const queries: string[] = [];
  while (queries.length < count) {
    const query = readString();
    if (query === null) return null;
    queries.push(query);
  }
  return at === data.length ? { name, queries } : null;
}
