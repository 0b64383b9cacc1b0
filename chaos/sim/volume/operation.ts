/** Operations of a simulated store that are under way. */

export interface Operation {
  readonly run: () => void;
  /** How it lands when its process dies before it ends. */
  readonly die: () => void;
  /** Of what is asked of an object, or of a journal. */
  readonly kind?: OperationKind;
}

/** Only changes need room, of which one is a write into an object that there is; a cut gives some back. */
export type OperationKind = 'change' | 'write' | 'cut' | 'read';

export const NOTHING = (): void => undefined;
