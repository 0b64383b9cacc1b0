/** The client's side of the NBD handshake: structured replies, `base:allocation`, GO. */
import type { Socket } from 'node:net';
import { ArchipelagoError, concatBytes, viewOf } from '../../base/index.ts';
import * as nbd from './protocol.ts';
import type { SocketReader } from './socket-reader.ts';

/** A server has no reason for longer replies to options. */
const MAX_OPTION_REPLY_BYTES = 64 * 1024;
/** Nor for more of them to one option. */
const MAX_OPTION_REPLIES = 1000;

/** What the server offers. */
export interface ExportInfo {
  readonly sizeBytes: number;
  /** The protocol's transmission flags. */
  readonly flags: number;
  readonly minBlockBytes: number;
  readonly maxPayloadBytes: number;
  readonly structuredReplies: boolean;
  /** Id of `base:allocation`, or null when the server has none. */
  readonly allocationId: number | null;
}

interface OptionReply {
  readonly type: number;
  readonly data: Buffer;
}

/** Everything up to the transmission phase. */
export async function shakeHands(socket: Socket, reader: SocketReader, exportName: string, where: string): Promise<ExportInfo> {
  const greeting = await reader.read(18);
  if (greeting.readUInt32BE(0) !== nbd.NBD_MAGIC_HIGH || greeting.readUInt32BE(4) !== nbd.NBD_MAGIC_LOW) {
    throw new ArchipelagoError('unavailable', `${where} is no NBD server`);
  }
  const flags = greeting.readUInt16BE(16);
  if (greeting.readUInt32BE(8) !== nbd.OPTION_MAGIC_HIGH || (flags & nbd.FLAG_FIXED_NEWSTYLE) === 0) {
    throw new ArchipelagoError('unsupported-version', `${where} speaks an NBD older than fixed newstyle`);
  }
  const answer = Buffer.alloc(4);
  answer.writeUInt32BE(nbd.FLAG_FIXED_NEWSTYLE | (flags & nbd.FLAG_NO_ZEROES));
  socket.write(answer);

  const session = { socket, reader, where };
  const [structured] = await ask(session, nbd.OPT_STRUCTURED_REPLY, new Uint8Array(0));
  const structuredReplies = structured?.type === nbd.REP_ACK;
  const allocationId = structuredReplies ? await chooseAllocation(session, exportName) : null;
  return { ...(await go(session, exportName)), structuredReplies, allocationId };
}

interface Session {
  readonly socket: Socket;
  readonly reader: SocketReader;
  readonly where: string;
}

async function chooseAllocation(session: Session, exportName: string): Promise<number | null> {
  const replies = await ask(session, nbd.OPT_SET_META_CONTEXT, concatBytes([lengthAnd(exportName), uint32(1), lengthAnd(nbd.BASE_ALLOCATION)]));
  const context = replies.find(({ type, data }) => type === nbd.REP_META_CONTEXT && data.toString('utf8', 4) === nbd.BASE_ALLOCATION);
  return context === undefined ? null : context.data.readUInt32BE(0);
}

async function go(session: Session, exportName: string): Promise<Pick<ExportInfo, 'sizeBytes' | 'flags' | 'minBlockBytes' | 'maxPayloadBytes'>> {
  const request = concatBytes([lengthAnd(exportName), new Uint8Array([0, 1, 0, nbd.INFO_BLOCK_SIZE])]);
  const replies = await ask(session, nbd.OPT_GO, request);
  const last = replies.at(-1)!;
  if (last.type !== nbd.REP_ACK) throw refusal(last, exportName, session.where);
  let found: { sizeBytes: number; flags: number } | null = null;
  let minBlockBytes = 1;
  let maxPayloadBytes = nbd.MAX_PAYLOAD_BYTES;
  for (const { type, data } of replies) {
    if (type !== nbd.REP_INFO || data.length < 2) continue;
    const info = data.readUInt16BE(0);
    if (info === nbd.INFO_EXPORT && data.length >= 12) found = { sizeBytes: nbd.getUint64(viewOf(data), 2), flags: data.readUInt16BE(10) };
    if (info === nbd.INFO_BLOCK_SIZE && data.length >= 14) {
      minBlockBytes = data.readUInt32BE(2);
      maxPayloadBytes = Math.min(data.readUInt32BE(10), nbd.MAX_PAYLOAD_BYTES);
    }
  }
  if (found === null || !Number.isSafeInteger(found.sizeBytes) || maxPayloadBytes === 0) {
    throw new ArchipelagoError('io-error', `${session.where} described the export '${exportName}' in a way that makes no sense`);
  }
  return { ...found, minBlockBytes, maxPayloadBytes };
}

/** Sends an option and collects its replies; the last one is an ACK or an error. */
async function ask({ socket, reader, where }: Session, option: number, data: Uint8Array): Promise<OptionReply[]> {
  socket.write(concatBytes([uint32(nbd.OPTION_MAGIC_HIGH), uint32(nbd.OPTION_MAGIC_LOW), uint32(option), uint32(data.length), data]));
  const replies: OptionReply[] = [];
  while (replies.length < MAX_OPTION_REPLIES) {
    const header = await reader.read(nbd.OPTION_REPLY_HEADER_BYTES);
    const length = header.readUInt32BE(16);
    const magicIsRight = header.readUInt32BE(0) === nbd.OPTION_REPLY_MAGIC_HIGH && header.readUInt32BE(4) === nbd.OPTION_REPLY_MAGIC_LOW;
    if (!magicIsRight || header.readUInt32BE(8) !== option || length > MAX_OPTION_REPLY_BYTES) break;
    const type = header.readUInt32BE(12);
    replies.push({ type, data: await reader.read(length) });
    if (type === nbd.REP_ACK || type >= nbd.REP_ERROR_BIT) return replies;
  }
  throw new ArchipelagoError('io-error', `${where} broke the NBD protocol in its answer to option ${option}`);
}

function refusal(reply: OptionReply, exportName: string, where: string): ArchipelagoError {
  const said = reply.data.length === 0 ? '' : `: ${reply.data.toString()}`;
  switch (reply.type) {
    case nbd.REP_ERR_UNKNOWN:
      return new ArchipelagoError('not-found', `${where} has no export '${exportName}'${said}`);
    case nbd.REP_ERR_TLS_REQD:
      return new ArchipelagoError('forbidden', `${where} takes clients with TLS only${said}`);
    case nbd.REP_ERR_POLICY:
      return new ArchipelagoError('forbidden', `${where} refused the export '${exportName}'${said}`);
    case nbd.REP_ERR_SHUTDOWN:
      return new ArchipelagoError('unavailable', `${where} cannot serve the export '${exportName}' now${said}`);
    case nbd.REP_ERR_UNSUP:
      return new ArchipelagoError('unsupported-version', `${where} does not know the option GO${said}`);
    default:
      return new ArchipelagoError('io-error', `${where} refused the export '${exportName}' with ${reply.type.toString(16)}${said}`);
  }
}

function uint32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function lengthAnd(text: string): Uint8Array {
  return concatBytes([uint32(Buffer.byteLength(text)), Buffer.from(text)]);
}
