import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ArchipelagoError, crc32, viewOf } from '../../../src/base/index.ts';
import { Leaf } from '../../../src/mapper/core/leaf.ts';
import { decodePage, encodeInner, encodeLeaf, Inner } from '../../../src/mapper/core/page.ts';
import type { PageRef } from '../../../src/mapper/core/types.ts';
import { codeOf, generation, layeredEntry } from './support.ts';

const refOf = (bytes: Uint8Array, blocks: number): PageRef => ({ generation: generation(1), sequence: 1, checksum: crc32(bytes), blocks });
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function leafOf(entries: Record<number, number>, layered: number[] = [], first = 0): Leaf {
  const leaf = new Leaf(first);
  for (const [slot, value] of Object.entries(entries)) leaf.set(Number(slot), value);
  for (const slot of layered) leaf.setLayered(slot, layeredEntry(5, 4, 3, 0x8000_0000));
  return leaf;
}

/** A copy with one integer changed. */
function changed(bytes: Uint8Array, at: number, width: 1 | 2 | 4, value: number): Uint8Array {
  const copy = bytes.slice();
  const view = viewOf(copy);
  if (width === 1) view.setUint8(at, value);
  else if (width === 2) view.setUint16(at, value);
  else view.setUint32(at, value);
  return copy;
}

describe('a page', () => {
  it('is on disk as documented', () => {
    expect(hex(encodeLeaf(leafOf({ 2: 0x1_0000_0007 }, [9], 2048)))).toBe(
      ['41725067', '0001', '00', '01', '0000000000000800', '0002', '0001', '00000000'].join('') +
        ['0002', '0000000100000007', '0009', '4000000000000000'].join('') +
        ['0000000000000005', '0000000000000004', '80000000', '00000003'].join(''),
    );
    const inner = new Inner(1, 2 ** 18);
    inner.children[255] = { generation: generation(6), sequence: 7, checksum: 0xfedc_ba98, blocks: 9 };
    expect(hex(encodeInner(inner))).toBe(
      ['41725067', '0001', '01', '01', '0000000000040000', '0001', '0000', '00000000'].join('') +
        ['00ff', '0000000000000006', '0000000000000007', 'fedcba98', '0000000000000009'].join(''),
    );
  });

  it('takes the smaller of its forms', () => {
    const leaf = new Leaf(0);
    const lengths: number[] = [];
    for (let slot = 0; slot < 1024; slot++) {
      leaf.set(slot, 1 + slot);
      lengths.push(encodeLeaf(leaf).byteLength);
    }
    expect(lengths[0]).toBe(34);
    expect(lengths[818]).toBe(24 + 8190);
    expect(lengths[819]).toBe(24 + 8192);
    expect(lengths[1023]).toBe(24 + 8192);
  });

  it('refuses a wrong checksum, a newer version and kinds that it does not know', () => {
    const bytes = encodeLeaf(leafOf({ 1: 1, 3: 3 }, [2]));
    const decode = (of: Uint8Array, blocks = 3) => codeOf(() => decodePage(refOf(of, blocks), of));
    expect(codeOf(() => decodePage(refOf(bytes, 3), changed(bytes, 30, 1, 77)))).toBe('corrupt');
    expect(decode(changed(bytes, 4, 2, 2))).toBe('unsupported-version');
    expect(decode(changed(bytes, 4, 2, 0))).toBe('corrupt');
    expect(decode(changed(bytes, 0, 4, 1))).toBe('corrupt');
    expect(decode(changed(bytes, 6, 1, 5))).toBe('corrupt');
    expect(decode(changed(bytes, 7, 1, 2))).toBe('unsupported-version');
    expect(decode(changed(bytes, 26, 4, 0x8000_0000))).toBe('unsupported-version');
    expect(decode(changed(bytes, 26, 4, 0x3000_0000))).toBe('corrupt');
    expect(decode(changed(bytes, 8, 4, 0x0100_0000))).toBe('corrupt');
    expect(decode(changed(bytes, 12, 4, 1))).toBe('corrupt');
    expect(decode(changed(bytes, 16, 2, 2))).toBe('corrupt');
    expect(decode(changed(bytes, 40, 4, 1))).toBe('corrupt');
    expect(decode(changed(bytes, 44, 2, 1))).toBe('corrupt');
    expect(decode(bytes, 4)).toBe('corrupt');
    expect(decode(bytes.subarray(0, 20))).toBe('corrupt');
    const swapped = encodeLeaf(leafOf({ 1: 1, 3: 3 }));
    expect(decode(changed(changed(swapped, 24, 2, 3), 34, 2, 1), 2)).toBe('corrupt');
    const inner = new Inner(1, 0);
    inner.children[3] = { generation: generation(6), sequence: 7, checksum: 8, blocks: 9 };
    expect(decode(encodeInner(inner), 10)).toBe('corrupt');
  });

  it('gives back what was put in, whatever its form', () => {
    const slots = fc.uniqueArray(fc.tuple(fc.nat(1023), fc.oneof(fc.constant(0), fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }))), {
      selector: ([slot]) => slot,
      minLength: 1,
      maxLength: 1024,
    });
    fc.assert(
      fc.property(slots, fc.nat(1000), (entries, place) => {
        const leaf = new Leaf(place * 1024);
        for (const [slot, value] of entries) {
          if (value === 0) leaf.setLayered(slot, layeredEntry(slot + 1, slot, slot * 7, slot));
          else leaf.set(slot, value);
        }
        const bytes = encodeLeaf(leaf);
        const back = decodePage(refOf(bytes, entries.length), bytes) as Leaf;
        expect(back.first).toBe(place * 1024);
        expect(back.count).toBe(entries.length);
        for (const [slot, value] of entries) {
          if (value === 0) expect(back.layered(slot)).toEqual(layeredEntry(slot + 1, slot, slot * 7, slot));
          else expect(back.get(slot)).toBe(value);
        }
        expect(encodeLeaf(back)).toEqual(bytes);
      }),
      { numRuns: 50 },
    );
  });

  it('with any byte changed and a checksum to match, is a page or a typed error', () => {
    const inner = new Inner(2, 0);
    for (const slot of [0, 3, 255]) inner.children[slot] = { generation: generation(6), sequence: slot, checksum: slot, blocks: 4 };
    const samples = [
      { bytes: encodeLeaf(leafOf({ 1: 1, 3: 3, 1000: 9 }, [2, 700])), blocks: 5 },
      { bytes: encodeInner(inner), blocks: 12 },
    ];
    for (const { bytes, blocks } of samples) {
      for (let at = 0; at < bytes.byteLength; at++) {
        for (const value of [0, 1, 0x40, 0x7f, 0x80, 0xff]) {
          const copy = changed(bytes, at, 1, value);
          try {
            decodePage(refOf(copy, blocks), copy);
          } catch (error) {
            expect(error).toBeInstanceOf(ArchipelagoError);
          }
        }
      }
    }
  });
});
