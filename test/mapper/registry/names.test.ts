import { describe, expect, it } from 'vitest';
import { ArchipelagoError } from '../../../src/base/index.ts';
import {
  checkBlockSize,
  checkLabel,
  checkLabels,
  checkNodeName,
  checkSize,
  checkVolumeName,
  MAX_BLOCK_BYTES,
  MAX_LABELS,
  MAX_VOLUME_BYTES,
  MIN_BLOCK_BYTES,
  quote,
} from '../../../src/mapper/registry/names.ts';
import { KIB, MIB } from './story.ts';

/** The message and hint of a refusal, or 'fine'. */
function verdict(check: () => void): string {
  try {
    check();
  } catch (error) {
    if (!(error instanceof ArchipelagoError)) throw error;
    expect(error.code).toBe('invalid-argument');
    expect(error.hint).toMatch(/./);
    return error.message;
  }
  return 'fine';
}

describe('a volume name', () => {
  const TOO_LONG = 'is longer than 255 bytes';
  const cases: [string, string][] = [
    ['disk', 'fine'],
    ['.', 'fine'],
    ['a b', 'fine'],
    ['Ελληνικά-δίσκος', 'fine'],
    ['💾', 'fine'],
    ['100%', 'fine'],
    ['"quoted"', 'fine'],
    ['x'.repeat(255), 'fine'],
    // 63 characters of four bytes each are 252 bytes; with three more it is full.
    [`${'💾'.repeat(63)}xyz`, 'fine'],
    ['', 'empty'],
    ['a/b', 'has a "/"'],
    ['/', 'has a "/"'],
    ['a\nb', 'control character'],
    ['\u0000', 'control character'],
    ['\u007f', 'control character'],
    ['\u0085', 'control character'],
    ['\ud83d', 'not well-formed'],
    ['x'.repeat(256), TOO_LONG],
    ['é'.repeat(128), TOO_LONG],
    [`${'💾'.repeat(63)}wxyz`, TOO_LONG],
  ];
  it.each(cases)('%j: %s', (name, expected) => expect(verdict(() => checkVolumeName(name))).toContain(expected));

  it('is shown in messages without control characters, and shortened', () => {
    expect(verdict(() => checkVolumeName('a\u001b[31m\u009b\u007f'))).toBe(String.raw`volume name "a\u001b[31m\u009b\u007f" has a control character`);
    expect(verdict(() => checkVolumeName('x'.repeat(10_000))).length).toBeLessThan(150);
    expect(quote(`${'x'.repeat(79)}💾`)).toBe(`"${'x'.repeat(79)}${String.raw`\ud83d`}…"`);
  });
});

describe('a node name', () => {
  const cases: [string, boolean][] = [
    ['n1', true],
    ['rack-3.node_7', true],
    ['X'.repeat(63), true],
    ['X'.repeat(64), false],
    ['', false],
    ['-n', false],
    ['.n', false],
    ['a b', false],
    ['a/b', false],
    ['ñ', false],
    ['a\n', false],
  ];
  it.each(cases)('%j: %s', (name, fine) => expect(verdict(() => checkNodeName(name)) === 'fine').toBe(fine));
});

describe('a size', () => {
  const cases: [number, number, string][] = [
    [512, 4 * MIB, 'fine'],
    [MAX_VOLUME_BYTES, 4 * MIB, 'fine'],
    [MAX_VOLUME_BYTES, MAX_BLOCK_BYTES, 'fine'],
    [2 ** 48, 64 * KIB, 'fine'],
    [0, 4 * MIB, 'not above zero'],
    [-512, 4 * MIB, 'not above zero'],
    [Number.NaN, 4 * MIB, 'not above zero'],
    [Number.POSITIVE_INFINITY, 4 * MIB, 'not above zero'],
    [511, 4 * MIB, 'not a multiple of 512'],
    [512.5, 4 * MIB, 'not a multiple of 512'],
    [MAX_VOLUME_BYTES + 512, 4 * MIB, 'above the limit of 4 PiB'],
    [2 ** 48 + 512, 64 * KIB, 'more than 2^32 blocks'],
  ];
  it.each(cases)('%d in blocks of %d: %s', (size, blockSize, expected) => expect(verdict(() => checkSize(size, blockSize))).toContain(expected));

  it('comes with the size to use instead', () => {
    expect(() => checkSize(1000, MIB)).toThrow(expect.objectContaining({ hint: 'the next larger multiple is 1024' }));
  });
});

describe('a block size', () => {
  it('is a power of two from 64 KiB to 64 MiB', () => {
    const allowed: number[] = [];
    for (let size = 1; size <= 2 ** 40; size *= 2) if (verdict(() => checkBlockSize(size)) === 'fine') allowed.push(size);
    expect(allowed).toHaveLength(11);
    expect([allowed[0], allowed.at(-1)]).toEqual([MIN_BLOCK_BYTES, MAX_BLOCK_BYTES]);
    for (const size of [0, -65536, 3 * MIB, 65537, 65536.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(verdict(() => checkBlockSize(size))).toContain(`block size ${size} is not allowed`);
    }
  });
});

describe('labels', () => {
  const cases: [string, string, boolean][] = [
    ['a', '', true],
    ['ganeti/metadata', 'originstname+instance1.example.com', true],
    ['9.A_z-x', 'ü'.repeat(127), true],
    ['a', 'ü'.repeat(128), false],
    ['a', 'tab\t', false],
    ['a', '\udc00', false],
    ['', 'x', false],
    ['_a', 'x', false],
    ['__proto__', 'x', false],
    ['a=b', 'x', false],
    ['a b', 'x', false],
    ['k'.repeat(63), 'x', true],
    ['k'.repeat(64), 'x', false],
  ];
  it.each(cases)('%j = %j: %s', (key, value, fine) => expect(verdict(() => checkLabel(key, value)) === 'fine').toBe(fine));

  it('are bounded in number', () => {
    const some = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, '']));
    expect(verdict(() => checkLabels(some(MAX_LABELS)))).toBe('fine');
    expect(verdict(() => checkLabels(some(MAX_LABELS + 1)))).toContain('too many');
    expect(verdict(() => checkLabels({ fine: '', 'not fine': '' }))).toContain('"not fine"');
  });
});
