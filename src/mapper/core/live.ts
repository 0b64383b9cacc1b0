/** Which generations an owner may write in place, and how that changes. Pure functions over the fields of the volume's header. */
import { assert, type Generation, unreachable } from '../../base/index.ts';
import type { GenerationChange, MapChange, VolumeHeader } from './types.ts';

/** What the header says of generations. */
export type LiveState = Pick<VolumeHeader, 'namingGeneration' | 'liveGenerations' | 'uncleanGenerations' | 'nextPageSequence'>;

/** Whether objects of `generation` may be written in place. There are few live ones: one, and one for each unclean takeover since. */
export function isLive(state: Pick<LiveState, 'liveGenerations'>, generation: Generation): boolean {
  return state.liveGenerations.includes(generation);
}

/** Whether an object of `generation` has to be claimed before its first use. */
export function isUnclean(state: Pick<LiveState, 'uncleanGenerations'>, generation: Generation): boolean {
  return state.uncleanGenerations.includes(generation);
}

/**
 * What a record of the journal changes. Doing it twice changes nothing more, because a record may be in a header already when it is replayed.
 */
export function applyGenerations<State extends LiveState>(state: State, change: GenerationChange): State {
  switch (change.kind) {
    case 'naming':
      return applyNaming(state, change);
    case 'takeover':
      return applyTakeover(state, change.generation);
    case 'claimed':
      return { ...state, uncleanGenerations: [] };
    default:
      return unreachable(change, 'change of generations');
  }
}

/** At a cut the list of unclean generations is empty: a snapshot waits for that, and the record is the proof that it did. */
function applyNaming<State extends LiveState>(state: State, change: Extract<MapChange, { kind: 'naming' }>): State {
  const { generation, closeOthers } = change;
  assert(generation > 0, 'generation zero is never allocated');
  const nextPageSequence = generation === state.namingGeneration ? state.nextPageSequence : FIRST_PAGE_SEQUENCE;
  const liveGenerations = closeOthers ? [generation] : withGeneration(state.liveGenerations, generation);
  const uncleanGenerations = closeOthers ? [] : state.uncleanGenerations;
  return { ...state, namingGeneration: generation, liveGenerations, uncleanGenerations, nextPageSequence };
}

/** All that the owner before could write in place is unclean. */
function applyTakeover<State extends LiveState>(state: State, generation: Generation): State {
  if (isLive(state, generation)) return state;
  let uncleanGenerations = state.uncleanGenerations;
  for (const live of state.liveGenerations) uncleanGenerations = withGeneration(uncleanGenerations, live);
  return applyNaming({ ...state, uncleanGenerations }, { kind: 'naming', generation, closeOthers: false });
}

/** Pages of each generation are numbered from here. */
const FIRST_PAGE_SEQUENCE = 1;

/** The state of a volume that never had an owner: the first one names a generation before anything else. */
export const NO_GENERATIONS: LiveState = {
  namingGeneration: 0 as Generation,
  liveGenerations: [],
  uncleanGenerations: [],
  nextPageSequence: FIRST_PAGE_SEQUENCE,
};

/** `generations` with one more, ascending. */
function withGeneration(generations: readonly Generation[], generation: Generation): readonly Generation[] {
  if (generations.includes(generation)) return generations;
  return [...generations, generation].sort((a, b) => a - b);
}
