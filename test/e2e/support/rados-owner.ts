/**
 * An owner in a process of its own, which can be stopped: `rados-owner.ts PLACE`. It makes its objects, says so, and when it is told to,
 * submits changes of every kind. It tells what became of each.
 */
import type { ArchipelagoError } from '../../../src/base/index.ts';
import type { VolumeStore } from '../../../src/blocker/index.ts';
import { done, generationOf, owner, pattern } from '../../contract/store-support.ts';
import { openAt, type Place } from './rados.ts';

export const GENERATION = generationOf(7);
/** Together they are more than the buffers of a socket hold, so that most of them have not left this process when it is stopped. */
export const OBJECTS = 14;
export const OBJECT_BYTES = 4 << 20;
export const RECORD_BYTES = 100;

/** What the owner makes, and then writes over it. */
export const FIRST = pattern(1, OBJECT_BYTES);
export const SECOND = pattern(2, OBJECT_BYTES);

export type Told = 'made' | 'submitted' | { readonly ends: readonly (string | null)[] };

/** One after the other, as a volume's owner does it: objects, records of the journal, the header. */
function submitAll(volume: VolumeStore): Promise<void>[] {
  const object = (index: number) => volume.object(GENERATION, index);
  const changes = Array.from({ length: OBJECTS }, (_, index) => done((waiter) => object(index).write(0, SECOND, waiter)));
  changes.push(
    done((waiter) => object(0).zero(0, 4096, waiter)),
    done((waiter) => object(1).claim(waiter)),
    done((waiter) => object(2).remove(waiter)),
    done((waiter) => object(OBJECTS).create(0, SECOND, waiter)),
    done((waiter) => volume.appendJournal(1, RECORD_BYTES, pattern(2, RECORD_BYTES), waiter)),
    done((waiter) => volume.appendJournal(5, 0, pattern(2, RECORD_BYTES), waiter)),
    volume.writeHeader(pattern(2, RECORD_BYTES)),
    volume.dropSegments(2),
  );
  return changes;
}

async function work(place: Place, tell: (what: Told) => void): Promise<void> {
  const volume = await owner(await openAt(place), 1, 1);
  await volume.writeHeader(FIRST.subarray(0, RECORD_BYTES));
  for (const segment of [1, 2]) await done((waiter) => volume.appendJournal(segment, 0, pattern(1, RECORD_BYTES), waiter));
  for (let index = 0; index < OBJECTS; index++) await done((waiter) => volume.object(GENERATION, index).create(0, FIRST, waiter));
  tell('made');
  process.once('message', () => {
    const changes = submitAll(volume);
    tell('submitted');
    void Promise.all(
      changes.map((change) =>
        change.then(
          () => null,
          (error: ArchipelagoError) => error.code,
        ),
      ),
    ).then((ends) => tell({ ends }));
  });
}

// Else it is imported for its constants.
if (process.send !== undefined && process.argv[2]?.startsWith('{') === true) {
  await work(JSON.parse(process.argv[2]) as Place, (what) => process.send?.(what));
}
