/** Numbers of the NBD protocol (github.com/NetworkBlockDevice/nbd, doc/proto.md), under the names that it gives them. */

/** 'NBDMAGIC' and 'IHAVEOPT', as two 32-bit halves each. */
export const NBD_MAGIC_HIGH = 0x4e42444d;
export const NBD_MAGIC_LOW = 0x41474943;
export const OPTION_MAGIC_HIGH = 0x49484156;
export const OPTION_MAGIC_LOW = 0x454f5054;
export const OPTION_REPLY_MAGIC_HIGH = 0x0003e889;
export const OPTION_REPLY_MAGIC_LOW = 0x045565a9;
export const REQUEST_MAGIC = 0x25609513;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;

/** Handshake flags, the same bits in both directions. */
export const FLAG_FIXED_NEWSTYLE = 1;
export const FLAG_NO_ZEROES = 2;

export const OPT_EXPORT_NAME = 1;
export const OPT_ABORT = 2;
export const OPT_LIST = 3;
export const OPT_STARTTLS = 5;
export const OPT_INFO = 6;
export const OPT_GO = 7;
export const OPT_STRUCTURED_REPLY = 8;
export const OPT_LIST_META_CONTEXT = 9;
export const OPT_SET_META_CONTEXT = 10;

export const REP_ACK = 1;
export const REP_SERVER = 2;
export const REP_INFO = 3;
export const REP_META_CONTEXT = 4;
/** Set in all replies that are errors. */
export const REP_ERROR_BIT = 0x8000_0000;
export const REP_ERR_UNSUP = 0x8000_0001;
export const REP_ERR_POLICY = 0x8000_0002;
export const REP_ERR_INVALID = 0x8000_0003;
export const REP_ERR_TLS_REQD = 0x8000_0005;
export const REP_ERR_UNKNOWN = 0x8000_0006;
export const REP_ERR_SHUTDOWN = 0x8000_0007;
export const REP_ERR_TOO_BIG = 0x8000_0009;

export const INFO_EXPORT = 0;
export const INFO_NAME = 1;
export const INFO_BLOCK_SIZE = 3;

export const TRANSMIT_HAS_FLAGS = 1 << 0;
export const TRANSMIT_READ_ONLY = 1 << 1;
export const TRANSMIT_SEND_FLUSH = 1 << 2;
export const TRANSMIT_SEND_FUA = 1 << 3;
export const TRANSMIT_SEND_TRIM = 1 << 5;
export const TRANSMIT_SEND_WRITE_ZEROES = 1 << 6;
export const TRANSMIT_SEND_DF = 1 << 7;
export const TRANSMIT_CAN_MULTI_CONN = 1 << 8;

export const CMD_READ = 0;
export const CMD_WRITE = 1;
export const CMD_DISC = 2;
export const CMD_FLUSH = 3;
export const CMD_TRIM = 4;
export const CMD_WRITE_ZEROES = 6;
export const CMD_BLOCK_STATUS = 7;

export const CMD_FLAG_FUA = 1;
export const CMD_FLAG_NO_HOLE = 2;
export const CMD_FLAG_DF = 4;
export const CMD_FLAG_REQ_ONE = 8;

export const REPLY_FLAG_DONE = 1;
export const REPLY_NONE = 0;
export const REPLY_OFFSET_DATA = 1;
export const REPLY_OFFSET_HOLE = 2;
export const REPLY_BLOCK_STATUS = 5;
/** Types of chunks from here on are errors. */
export const REPLY_ERROR_BIT = 0x8000;
export const REPLY_ERROR = 0x8001;

/** Bits of an extent in `base:allocation`. */
export const STATE_HOLE = 1;
export const STATE_ZERO = 2;
export const BASE_ALLOCATION = 'base:allocation';

export const EPERM = 1;
export const EIO = 5;
export const EINVAL = 22;
export const ENOSPC = 28;
export const ESHUTDOWN = 108;

export const OPTION_HEADER_BYTES = 16;
export const OPTION_REPLY_HEADER_BYTES = 20;
export const REQUEST_BYTES = 28;
export const SIMPLE_REPLY_BYTES = 16;
/** Magic, flags, type, cookie and length of the payload. */
export const CHUNK_HEADER_BYTES = 20;
/** In front of the data of an OFFSET_DATA chunk: its header and the offset. */
export const DATA_CHUNK_BYTES = CHUNK_HEADER_BYTES + 8;
/** A whole OFFSET_HOLE chunk: its header, the offset and the length of the hole. */
export const HOLE_CHUNK_BYTES = DATA_CHUNK_BYTES + 4;

/** Longest payload of a READ or WRITE; the protocol's default, which clients that do not ask rely on. */
export const MAX_PAYLOAD_BYTES = 32 * 1024 * 1024;
/** Longest export name and longest message that the protocol allows. */
export const MAX_STRING_BYTES = 4096;

const TWO_TO_32 = 0x1_0000_0000;

/** Writes an offset or size that is known to be a safe integer. */
export function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / TWO_TO_32));
  view.setUint32(at + 4, value % TWO_TO_32);
}

/** Reads an unsigned 64-bit number; above 2^53 it is rounded, which for an offset is past every end. */
export function getUint64(view: DataView, at: number): number {
  return view.getUint32(at) * TWO_TO_32 + view.getUint32(at + 4);
}
