/**
 * What the commands about collection do, and which generations of a volume are open.
 *
 * A generation is open while a map may still come to name an object or page of it that is not named now: its objects are left alone by
 * collection. It is closed by a command of an owner who knows that nobody names by it any more: the snapshot that followed its cut, the
 * release after which everything had been drained, or the removal of the volume. The end of an ownership by itself closes nothing: what
 * the former owner, who may only have been paused, still appends to the log counts until the next one has taken the log over.
 */
import { ArchipelagoError, type Generation } from '../../base/index.ts';
import type { BegunCycle, CollectionCommand, CollectionRecord } from './collection-types.ts';
import { checkTime, quote } from './names.ts';
import type { State } from './state.ts';
import type { VolumeRecord } from './types.ts';

type CommandOf<Type extends CollectionCommand['type']> = Extract<CollectionCommand, { type: Type }>;

/** The generation that was reserved for a snapshot that the present owner may be making; null when there is none. */
export function pendingReservation({ owner, reservation }: VolumeRecord): Generation | null {
  return reservation !== null && owner?.epoch === reservation.epoch ? reservation.generation : null;
}

/** With a generation that was given out just now, and so is the highest. */
export function withOpen({ openGenerations }: VolumeRecord, generation: Generation): readonly Generation[] {
  return [...openGenerations, generation];
}

/** Whether the generations of a record fit with the rest of it, or what is wrong. */
export function generationProblem(record: VolumeRecord, nextGeneration: Generation): string | null {
  const { openGenerations, owner, clean, kind } = record;
  for (const [place, generation] of openGenerations.entries()) {
    if (generation < 1 || generation >= nextGeneration) return 'an open generation was never given out';
    if (place > 0 && generation <= (openGenerations[place - 1] as Generation)) return 'its open generations are out of order';
  }
  if (owner !== null && openGenerations.length === 0) return 'it has an owner and no open generation';
  if ((clean || kind === 'snapshot') && openGenerations.length > 0) return 'it was left clean, and a generation is open';
  const pending = pendingReservation(record);
  if (pending !== null && !openGenerations.includes(pending)) return 'a generation is reserved and not open';
  return null;
}

export function requestCollection(state: State): number {
  return state.wantCollection().wanted;
}

export function beginCollection(state: State, { node, livenessEpoch, startedAt }: CommandOf<'beginCollection'>): BegunCycle {
  checkTime(startedAt);
  const known = state.node(node);
  if (known?.livenessEpoch !== livenessEpoch) {
    throw new ArchipelagoError('stale-epoch', `node ${quote(node)} is not there under liveness epoch ${livenessEpoch}: its processes have restarted`);
  }
  const before = state.collection();
  const cycle = before.cycle + 1;
  state.putCollection({ ...before, cycle, running: { cycle, node, livenessEpoch, startedAt } });
  return { cycle, ...state.nextNumbers() };
}

export function finishCollection(state: State, command: CommandOf<'finishCollection'>): CollectionRecord {
  const { cycle, finishedAt, error, freedObjects, freedBytes } = command;
  checkTime(finishedAt);
  const before = state.collection();
  const { running, totals } = before;
  if (running?.cycle !== cycle) throw new ArchipelagoError('stale-epoch', `cycle ${cycle} is not the one that runs: another was begun since`);
  const { node, startedAt } = running;
  return state.putCollection({
    ...before,
    running: null,
    last: { cycle, node, startedAt, finishedAt, freedObjects, freedBytes, error },
    totals: { cycles: totals.cycles + 1, freedObjects: totals.freedObjects + freedObjects, freedBytes: totals.freedBytes + freedBytes },
  });
}
