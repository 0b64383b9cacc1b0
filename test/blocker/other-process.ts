/** Another daemon on the store of a test: `other-process.ts DIRECTORY CLUSTER open|work [on]`. Reports to the test that forked it. */
import { done, generationOf, owner, pattern } from '../contract/store-support.ts';
import { openFiles } from './support.ts';

export interface Report {
  readonly error: string | null;
  /** How many objects and records have been answered. */
  readonly answered: number;
}

const [directory, clusterId, task, on] = process.argv.slice(2) as [string, string, string, string | undefined];

function tell(report: Report): void {
  process.send?.(report);
}

async function work(): Promise<void> {
  const store = await openFiles(directory, { clusterId });
  if (task === 'open') return;
  const volume = await owner(store, 1, 1);
  await volume.writeHeader(pattern(1, 100));
  for (let count = 0; count < 20; count++) {
    await done((waiter) => volume.object(generationOf(1), count).create(0, pattern(count, 512), waiter));
    await done((waiter) => volume.appendJournal(1, count * 10, pattern(2, 10), waiter));
  }
  tell({ error: null, answered: 20 });
  // Goes on as an owner that does not know that it was superseded; a new segment each time.
  for (let segment = 2; on !== undefined; segment++) {
    await done((waiter) => volume.appendJournal(segment, 0, pattern(7, 10), waiter));
    if (segment % 100 === 0) await volume.writeHeader(pattern(8, 100));
  }
  await new Promise(() => {});
}

// Kept alive by its channel to the test.
process.on('message', () => {});
work().then(
  () => tell({ error: null, answered: 0 }),
  (error: { code?: string }) => tell({ error: error.code ?? String(error), answered: 0 }),
);
