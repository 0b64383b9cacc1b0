/** A seeded pseudo-random generator (sfc32, Chris Doty-Humphrey, PractRand), so that every run can be replayed from its seed. */
import { assert, broken } from './assert.ts';

export class Prng {
  private a: number;
  private b: number;
  private c: number;
  private counter = 1;

  /** `seed` is any safe integer. */
  constructor(seed: number) {
    assert(Number.isSafeInteger(seed), 'a seed is a safe integer');
    this.a = seed >>> 0;
    this.b = Math.floor(seed / 0x1_0000_0000) >>> 0;
    this.c = 0x9e3779b9;
    for (let i = 0; i < 12; i++) this.next32();
  }

  /** Uniform over 0 … 2^32 - 1. */
  next32(): number {
    const sum = (this.a + this.b + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = ((this.c << 21) | (this.c >>> 11)) + sum;
    return sum >>> 0;
  }

  /** Uniform over 0 … `bound` - 1, for a bound of at most 2^32. */
  below(bound: number): number {
    if (!(bound > 0 && bound <= 0x1_0000_0000)) broken(`bound out of range: ${bound}`);
    return Math.floor((this.next32() / 0x1_0000_0000) * bound);
  }

  /** Uniform over [0, 1). */
  unit(): number {
    return this.next32() / 0x1_0000_0000;
  }

  /** True with the given probability. */
  chance(probability: number): boolean {
    return this.unit() < probability;
  }

  /** An independent generator, so that one part's draws do not shift another's. */
  fork(): Prng {
    return new Prng(this.next32() * 0x20_0000 + (this.next32() >>> 11));
  }
}
