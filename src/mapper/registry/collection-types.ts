/** Commands about the collection of what nothing refers to any more, and the forms of what they leave behind. */
import { z } from 'zod';
import { ERROR_CODES, type ErrorBody, type Generation, type LivenessEpoch, type VolumeId } from '../../base/index.ts';

/** What a cycle has removed from the store. */
export interface Freed {
  /** Block objects, map pages and logs. */
  readonly freedObjects: number;
  /** What they took up in the store. */
  readonly freedBytes: number;
}

export interface RunningCycle {
  readonly cycle: number;
  /** Where it runs: the cycle is over when that node's processes have ended, or another one was begun. */
  readonly node: string;
  readonly livenessEpoch: LivenessEpoch;
  /** ISO 8601. */
  readonly startedAt: string;
}

export interface FinishedCycle extends Freed {
  readonly cycle: number;
  readonly node: string;
  readonly startedAt: string;
  readonly finishedAt: string;
  /** Why it has not come to its end; what it freed until then counts all the same. */
  readonly error: ErrorBody | null;
}

export interface CollectionRecord {
  /** The number of the last cycle that was begun. */
  readonly cycle: number;
  /** A cycle of at least this number is wanted: something was removed, or somebody asked, after `cycle` was begun. */
  readonly wanted: number;
  readonly running: RunningCycle | null;
  readonly last: FinishedCycle | null;
  /** Of all cycles that finished. */
  readonly totals: Freed & { readonly cycles: number };
}

/** What a cycle knows from the command that begins it; every index it sees later is a later one. */
export interface BegunCycle {
  readonly cycle: number;
  /** Only objects of generations below were allocated before the cycle. */
  readonly nextGeneration: Generation;
  readonly nextVolumeId: VolumeId;
}

export type CollectionCommand =
  /** Answered with the number that the next cycle will have; one that is under way may have passed what the sender means. */
  | { readonly type: 'requestCollection' }
  /** Ends whatever cycle runs: one that goes on all the same does no harm. */
  | { readonly type: 'beginCollection'; readonly node: string; readonly livenessEpoch: LivenessEpoch; readonly startedAt: string }
  | ({ readonly type: 'finishCollection'; readonly cycle: number; readonly finishedAt: string; readonly error: ErrorBody | null } & Freed);

const counter = z.int().min(0);
const error: z.ZodType<ErrorBody> = z.strictObject({
  code: z.enum(ERROR_CODES).catch('internal'),
  message: z.string(),
  hint: z.string().nullable(),
});
const freed = { freedObjects: counter, freedBytes: counter };
const livenessEpoch = counter as unknown as z.ZodType<LivenessEpoch>;

export const collectionRecord: z.ZodType<CollectionRecord> = z.strictObject({
  cycle: counter,
  wanted: counter,
  running: z.strictObject({ cycle: counter, node: z.string(), livenessEpoch, startedAt: z.string() }).nullable(),
  last: z
    .strictObject({
      cycle: counter,
      node: z.string(),
      startedAt: z.string(),
      finishedAt: z.string(),
      ...freed,
      error: error.nullable(),
    })
    .nullable(),
  totals: z.strictObject({ cycles: counter, ...freed }),
});

export const begunCycle: z.ZodType<BegunCycle> = z.strictObject({
  cycle: counter,
  nextGeneration: counter as unknown as z.ZodType<Generation>,
  nextVolumeId: counter as unknown as z.ZodType<VolumeId>,
});

export const collectionCommands = [
  z.strictObject({ type: z.literal('requestCollection') }),
  z.strictObject({ type: z.literal('beginCollection'), node: z.string(), livenessEpoch, startedAt: z.string() }),
  z.strictObject({ type: z.literal('finishCollection'), cycle: counter, finishedAt: z.string(), ...freed, error: error.nullable() }),
] as const;

export const NO_COLLECTION: CollectionRecord = {
  cycle: 0,
  wanted: 0,
  running: null,
  last: null,
  totals: { cycles: 0, freedObjects: 0, freedBytes: 0 },
};
