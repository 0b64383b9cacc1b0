/** What a planted bug is. Bugs live here only: each wraps methods of an open map, a served volume or a collector of the world. */
import type { Hooks } from '../setting.ts';

export interface Bug {
  readonly name: string;
  /** The mistake, as one would make it. */
  readonly mistake: string;
  /** The shortest history in which it shows. */
  readonly history?: string;
  readonly hooks: Hooks;
}
