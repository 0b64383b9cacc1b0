import { describe, expect, it } from 'vitest';
import { formatSize, parseBlockSize, parseSize } from '../../../src/gateway/cli/sizes.ts';

const KIB = 1024;

describe('parseSize', () => {
  it.each([
    ['512', 512],
    ['1K', KIB],
    ['64k', 64 * KIB],
    ['10M', 10 * KIB ** 2],
    ['10G', 10 * KIB ** 3],
    ['3T', 3 * KIB ** 4],
    ['7P', 7 * KIB ** 5],
    ['007G', 7 * KIB ** 3],
    [`${7 * KIB ** 5}`, 7 * KIB ** 5],
  ])('reads %s', (text, bytes) => {
    expect(parseSize(text, '--size')).toBe(bytes);
  });

  it.each([
    '',
    'G',
    '0',
    '0G',
    '-1G',
    '+1G',
    '1.5G',
    '1e9',
    '0x200',
    '10GB',
    '10GiB',
    '10 G',
    ' 10G',
    '1_000K',
    '511',
    '513',
    '1023',
    '8P',
    '99999999P',
    '٣K',
    'Infinity',
    'NaN',
  ])('refuses %j', (text) => {
    expect(() => parseSize(text, '--size')).toThrow(
      expect.objectContaining({ code: 'invalid-argument', message: expect.stringContaining(`--size '${text}'`) }),
    );
  });
});

describe('parseBlockSize', () => {
  it.each([
    ['64K', 64 * KIB],
    ['4M', 4 * KIB ** 2],
    ['64M', 64 * KIB ** 2],
    ['65536', 64 * KIB],
  ])('reads %s', (text, bytes) => {
    expect(parseBlockSize(text)).toBe(bytes);
  });

  it.each(['32K', '128M', '3M', '65537', '0', 'x', '100K'])('refuses %s', (text) => {
    expect(() => parseBlockSize(text)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  });
});

describe('formatSize', () => {
  it.each([
    [0, '0'],
    [512, '512'],
    [999, '999'],
    [1000, '1.0K'],
    [1024, '1K'],
    [1536, '1.5K'],
    [10 * KIB ** 3, '10G'],
    [KIB ** 3 + 512, '1.0G'],
    [999 * KIB, '999K'],
    [1023 * KIB, '1.0M'],
    [KIB ** 5 * 2000, '2000P'],
  ])('writes %i as %s', (bytes, text) => {
    expect(formatSize(bytes)).toBe(text);
  });
});
