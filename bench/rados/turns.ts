/** How much each case does. */
export interface Turns {
  /** Of one run of fio. */
  readonly seconds: number;
  /** Alternating ones, of which the median counts. */
  readonly turns: number;
  /** Of an owner that is killed. */
  readonly runs: number;
}
