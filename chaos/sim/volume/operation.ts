/** Operations of a simulated store that are under way. */

export interface Operation {
  readonly run: () => void;
  /** How it lands when its process dies before it ends. */
  readonly die: () => void;
}

/** Only a change needs room; a cut gives some back. */
export type OperationKind = 'change' | 'cut' | 'read';

export const NOTHING = (): void => undefined;
