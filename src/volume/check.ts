/** Verification: reads every page of a map and looks for every object that it names. Repairs nothing. */
import { ArchipelagoError, type Generation } from '../base/index.ts';
import type { BlockStore, ObjectName } from '../blocker/index.ts';
import { type PageRef, PageWalk } from '../mapper/index.ts';

export const MAX_PROBLEMS = 1000;
/** Objects looked for at a time. */
const PARALLEL = 16;

export interface CheckResult {
  readonly blocks: number;
  readonly pages: number;
  readonly problems: string[];
}

/** Follows `root`, whose pages and objects nobody changes or removes meanwhile. Memory grows with the objects of one page. */
export async function checkMap(store: BlockStore, root: PageRef | null, sizeBytes: number, blockSizeBytes: number): Promise<CheckResult> {
  const problems: string[] = [];
  const note = (problem: string): void => {
    if (problems.length < MAX_PROBLEMS) problems.push(problem);
  };
  let pages = 0;
  let objects: ObjectName[] = [];
  const walk = new PageWalk({
    page: () => pages++,
    object: (generation: Generation, index: number) => {
      if (generation > 0) objects.push({ generation, index });
    },
  });
  walk.add(root);
  for (let page = walk.next(); page !== null; page = walk.next()) {
    const place = `page ${page.generation}/${page.sequence}, from block ${page.first} on`;
    try {
      walk.supply(page, await store.readPage(page.generation, page.sequence));
    } catch (error) {
      const failure = ArchipelagoError.from(error, place);
      if (failure.code === 'not-found') walk.skip();
      else if (failure.code !== 'corrupt') throw failure;
      note(`${place}: ${failure.message}`);
    }
    await checkObjects(store, objects, Math.ceil(sizeBytes / blockSizeBytes), note);
    objects = [];
  }
  return { blocks: root?.blocks ?? 0, pages, problems };
}

async function checkObjects(store: BlockStore, objects: readonly ObjectName[], endIndex: number, note: (problem: string) => void): Promise<void> {
  for (let at = 0; at < objects.length; at += PARALLEL) {
    const some = objects.slice(at, at + PARALLEL);
    const found = await Promise.all(some.map((name) => store.objectExists(name)));
    some.forEach(({ generation, index }, place) => {
      if (!found[place]) note(`block ${index}: its object of generation ${generation} is missing`);
      if (index >= endIndex) note(`block ${index}: beyond the end of the volume`);
    });
  }
}
