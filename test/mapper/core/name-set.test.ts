import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Generation, Prng } from '../../../src/base/index.ts';
import { NAME_SET_MIN_BYTES, type Name, NameSet } from '../../../src/mapper/core/name-set.ts';

const generationOf = (value: number) => value as Generation;
const isBefore = (a: Name, b: Name) => a.generation < b.generation || (a.generation === b.generation && a.index < b.index);

/** What the set must say, from a list of all that was added. */
class NaiveNames {
  private readonly names = new Set<string>();

  add({ generation, index }: Name): boolean {
    const text = `${generation}/${index}`;
    if (this.names.has(text)) return false;
    this.names.add(text);
    return true;
  }

  has({ generation, index }: Name): boolean {
    return this.names.has(`${generation}/${index}`);
  }
}

const name = fc.record({
  generation: fc.integer({ min: 1, max: 4 }).map(generationOf),
  // Close together, at the borders of containers, and as high as indexes go.
  index: fc.oneof(
    fc.nat(200),
    fc.nat(300_000),
    fc.tuple(fc.constantFrom(65_536, 131_072, 2 ** 32, 2 ** 42 - 3), fc.integer({ min: -2, max: 2 })).map(([border, offset]) => border + offset),
  ),
});

describe('a set of names', () => {
  it('agrees with a naive one while there is room', () => {
    fc.assert(
      fc.property(fc.array(name, { maxLength: 400 }), fc.array(name, { maxLength: 50 }), (added, asked) => {
        const set = new NameSet(Number.POSITIVE_INFINITY);
        const twin = new NaiveNames();
        for (const one of added) expect(set.add(one.generation, one.index)).toBe(twin.add(one));
        for (const one of [...added, ...asked]) expect(set.has(one.generation, one.index)).toBe(twin.has(one));
        expect(set.limit).toBeNull();
      }),
      { numRuns: 100 },
    );
  });

  it('is a bitmap where it is dense, and stays exact on the way there', () => {
    const set = new NameSet(Number.POSITIVE_INFINITY);
    const prng = new Prng(5);
    const twin = new Set<number>();
    for (let i = 0; i < 30_000; i++) {
      const index = prng.below(65_536);
      expect(set.add(generationOf(1), index)).toBe(!twin.has(index));
      twin.add(index);
    }
    for (let index = 0; index < 65_536; index++) if (set.has(generationOf(1), index) !== twin.has(index)) throw new Error(`wrong about ${index}`);
    expect(set.bytes).toBeLessThan(10_000);
  });

  it.each([1, 2, 3, 4])('forgets only the highest names when it is full, and says so; passes cover everything (seed %d)', (seed) => {
    const prng = new Prng(seed);
    const names = Array.from({ length: 20_000 }, () => ({
      generation: generationOf(1 + prng.below(seed % 2 === 0 ? 40 : 400)),
      index: prng.below(seed % 2 === 0 ? 5_000_000 : 2_000),
    }));
    const covered = new Set<string>();
    let from: Name | null = null;
    let passes = 0;
    for (;;) {
      passes++;
      const set: NameSet = new NameSet(NAME_SET_MIN_BYTES, from);
      for (const { generation, index } of names) set.add(generation, index);
      expect(set.bytes).toBeLessThanOrEqual(NAME_SET_MIN_BYTES);
      for (const one of names) {
        const inside: boolean = (from === null || !isBefore(one, from)) && (set.limit === null || isBefore(one, set.limit));
        expect(set.covers(one.generation, one.index)).toBe(inside);
        if (!inside) continue;
        expect(set.has(one.generation, one.index)).toBe(true);
        covered.add(`${one.generation}/${one.index}`);
      }
      if (set.limit === null) break;
      if (from !== null) expect(isBefore(from, set.limit)).toBe(true);
      from = set.limit;
    }
    expect(covered.size).toBe(new Set(names.map(({ generation, index }) => `${generation}/${index}`)).size);
    expect(passes).toBeGreaterThan(1);
  });

  it('holds ten million objects of full volumes in little memory', () => {
    const set = new NameSet(64 << 20);
    for (let generation = 1; generation <= 100; generation++) for (let index = 0; index < 100_000; index++) set.add(generationOf(generation), index);
    expect(set.limit).toBeNull();
    expect(set.bytes).toBeLessThan(2 << 20);
  });
});
