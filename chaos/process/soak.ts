/** What a soak is: a long loop of faults over real daemons, in a file of its own in `soaks`, which exports it as `soak`. */
import type { AtEnd } from './ending.ts';

export interface Soak {
  readonly name: string;
  /** One line. */
  readonly summary: string;
  /** How long its loop is unless somebody says otherwise. */
  readonly minutes: number;
  run(options: SoakOptions): Promise<SoakResult>;
}

export interface SoakOptions {
  readonly minutes: number;
  /** Decides the faults and what the clients ask; not when which step happens. */
  readonly seed: number;
  /** Tells people how it goes. */
  readonly note: (line: string) => void;
  /** Takes the steps of the clean-up. */
  readonly atEnd: AtEnd;
  /** Ends it early, with what was found until then. */
  readonly signal: AbortSignal;
}

/** Counts, for the last line of the output. A soak that found nothing wrong has no violations; anything else that goes wrong it throws. */
export type SoakResult = Readonly<Record<string, number>> & { readonly violations: number };
