/**
 * What names, sizes and labels are allowed. The registry refuses what breaks a rule; the CLI and the API ask the same functions early.
 * Each `check…` throws `invalid-argument` with a message that names the value and the rule.
 */
import { ArchipelagoError, assert } from '../../base/index.ts';

const SECTOR_BYTES = 512;
export const MIN_BLOCK_BYTES = 64 * 1024;
export const MAX_BLOCK_BYTES = 64 * 1024 * 1024;
/** 4 PiB: the sum of any two offsets stays a number that memory holds exactly. */
export const MAX_VOLUME_BYTES = 2 ** 52;
/** Block indexes are 32 bits wide. */
const MAX_BLOCKS = 2 ** 32;
const MAX_VOLUME_NAME_BYTES = 255;
export const MAX_LABELS = 64;
export const MAX_LABEL_VALUE_BYTES = 255;
export const MAX_ADDRESSES = 32;
const MAX_ADDRESS_BYTES = 255;
const MAX_SHOWN = 80;

assert(Number.isSafeInteger(MAX_VOLUME_BYTES * 2 - SECTOR_BYTES), 'sums of offsets are exact');
assert(MAX_VOLUME_BYTES % MAX_BLOCK_BYTES === 0, 'the largest volume is whole blocks');

const encoder = new TextEncoder();
const CONTROL = /\p{Cc}/u;
const NODE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const LABEL_KEY = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/;
const PEER_ID = /^[A-Za-z0-9]{1,128}$/;
const VERSION = /^[!-~]{1,64}$/;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/;

/** Volumes and snapshots. Names are compared byte by byte, without any Unicode normalisation. */
export function checkVolumeName(name: string): void {
  const rule = 'a name is 1 to 255 bytes of UTF-8 without "/" and control characters';
  if (name === '') throw invalid('the volume name is empty', rule);
  checkText(name, `volume name ${quote(name)}`, MAX_VOLUME_NAME_BYTES, rule);
  if (name.includes('/')) throw invalid(`volume name ${quote(name)} has a "/"`, rule);
}

export function checkNodeName(name: string): void {
  if (NODE_NAME.test(name)) return;
  throw invalid(`node name ${quote(name)} is not allowed`, 'a node name is 1 to 63 of A-Z a-z 0-9 . _ - and starts with a letter or digit');
}

/** Also checks that the volume's block indexes fit. */
export function checkSize(sizeBytes: number, blockSizeBytes: number): void {
  const size = `size ${sizeBytes}`;
  if (!Number.isFinite(sizeBytes) || sizeBytes <= 0) throw invalid(`${size} is not above zero`, 'a size is a positive multiple of 512 bytes');
  if (sizeBytes > MAX_VOLUME_BYTES) throw invalid(`${size} is above the limit of 4 PiB`, `the largest volume has ${MAX_VOLUME_BYTES} bytes`);
  if (sizeBytes % SECTOR_BYTES !== 0) {
    throw invalid(`${size} is not a multiple of 512`, `the next larger multiple is ${Math.ceil(sizeBytes / SECTOR_BYTES) * SECTOR_BYTES}`);
  }
  if (Math.ceil(sizeBytes / blockSizeBytes) > MAX_BLOCKS) {
    const hint = `with this block size a volume has at most ${blockSizeBytes * MAX_BLOCKS} bytes; a larger block size allows more`;
    throw invalid(`${size} needs more than 2^32 blocks of ${blockSizeBytes} bytes`, hint);
  }
}

export function checkBlockSize(blockSizeBytes: number): void {
  const inRange = blockSizeBytes >= MIN_BLOCK_BYTES && blockSizeBytes <= MAX_BLOCK_BYTES;
  if (inRange && Number.isInteger(Math.log2(blockSizeBytes))) return;
  throw invalid(`block size ${blockSizeBytes} is not allowed`, 'a block size is a power of two from 64K (65536) to 64M (67108864)');
}

export function checkLabel(key: string, value: string): void {
  if (!LABEL_KEY.test(key)) {
    throw invalid(`label key ${quote(key)} is not allowed`, 'a label key is 1 to 63 of A-Z a-z 0-9 . _ - / and starts with a letter or digit');
  }
  checkText(
    value,
    `value ${quote(value)} of label ${quote(key)}`,
    MAX_LABEL_VALUE_BYTES,
    'a label value is up to 255 bytes of UTF-8 without control characters',
  );
}

/** All labels of a volume. */
export function checkLabels(labels: Readonly<Record<string, string>>): void {
  const entries = Object.entries(labels);
  if (entries.length > MAX_LABELS) throw invalid(`${entries.length} labels are too many`, `a volume has at most ${MAX_LABELS}; remove some first`);
  for (const [key, value] of entries) checkLabel(key, value);
}

export function checkPeerId(peerId: string): void {
  if (!PEER_ID.test(peerId)) throw invalid(`${quote(peerId)} is not a PeerId`, 'a PeerId is 1 to 128 letters and digits');
}

export function checkAddresses(addresses: readonly string[]): void {
  if (addresses.length > MAX_ADDRESSES)
    throw invalid(`${addresses.length} addresses are too many`, `a node has at most ${MAX_ADDRESSES} of each kind`);
  for (const address of addresses) {
    const rule = 'an address is a multiaddr of up to 255 bytes, as /ip4/192.0.2.1/tcp/7001';
    checkText(address, `address ${quote(address)}`, MAX_ADDRESS_BYTES, rule);
    if (!address.startsWith('/')) throw invalid(`address ${quote(address)} does not start with "/"`, rule);
  }
}

export function checkProgramVersion(version: string): void {
  if (!VERSION.test(version)) throw invalid(`${quote(version)} is not a program version`, 'a version is 1 to 64 visible ASCII characters');
}

export function checkTime(time: string): void {
  if (!TIME.test(time)) throw invalid(`${quote(time)} is not a time`, 'times are ISO 8601 in UTC, as 2026-01-31T12:00:00.000Z');
}

/** A value as messages show it: shortened, in quotes, and without a character that could upset a terminal. */
export function quote(value: string): string {
  const shown = value.length > MAX_SHOWN ? `${value.slice(0, MAX_SHOWN)}…` : value;
  return JSON.stringify(shown).replace(/\p{Cc}/gu, (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function checkText(text: string, what: string, maxBytes: number, rule: string): void {
  if (!text.isWellFormed()) throw invalid(`${what} is not well-formed Unicode`, rule);
  if (CONTROL.test(text)) throw invalid(`${what} has a control character`, rule);
  // No character takes less than a byte, so most long texts are refused without encoding them.
  if (text.length > maxBytes || encoder.encode(text).byteLength > maxBytes) throw invalid(`${what} is longer than ${maxBytes} bytes`, rule);
}

function invalid(message: string, hint: string): ArchipelagoError {
  return new ArchipelagoError('invalid-argument', message, { hint });
}
