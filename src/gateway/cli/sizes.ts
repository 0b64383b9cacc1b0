/** Sizes as people write and read them. */
import { ArchipelagoError } from '../../base/index.ts';
import { blockSizeProblem, sizeProblem } from '../http/names.ts';

const UNITS = ['', 'K', 'M', 'G', 'T', 'P'];

/** Bytes, or a number with K, M, G, T or P, which are powers of 1024. `option` is what the message names. */
export function parseSize(text: string, option: string): number {
  const match = /^(\d+)([KMGTP]?)$/i.exec(text);
  const fail = (why: string) =>
    new ArchipelagoError('invalid-argument', `${option} '${text}' ${why}`, { hint: 'sizes are bytes or a whole number with K, M, G, T or P: 10G' });
  if (match === null) throw fail('is not a size');
  const bytes = Number(match[1]) * 1024 ** UNITS.indexOf(match[2]!.toUpperCase());
  const problem = sizeProblem(bytes);
  if (problem !== null) throw fail(problem);
  return bytes;
}

export function parseBlockSize(text: string): number {
  const bytes = parseSize(text, '--block-size');
  const problem = blockSizeProblem(bytes);
  if (problem !== null) throw new ArchipelagoError('invalid-argument', `--block-size '${text}' ${problem}`);
  return bytes;
}

/** In the largest unit that keeps at most three digits before the point: 10G, 1.5M, 512. */
export function formatSize(bytes: number): string {
  let unit = 0;
  let value = bytes;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || value >= 100 || Number.isInteger(value) ? 0 : 1;
  return `${value.toFixed(digits)}${UNITS[unit]}`;
}
