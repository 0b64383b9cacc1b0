/** Verification: reads every page of a map and looks for every object that it names. Repairs nothing. */
import { ArchipelagoError, type Generation } from '../base/index.ts';
import type { BlockStore } from '../blocker/index.ts';
import { END, LAYERED, type PagedTree } from '../mapper/index.ts';

const MAX_PROBLEMS = 1000;

export interface CheckResult {
  readonly blocks: number;
  readonly problems: string[];
}

/** What is written, dropped or shared meanwhile may or may not be looked at; an entry that changed under the check is looked at again. */
export async function checkMap(store: BlockStore, pages: PagedTree, sizeBytes: number, blockSizeBytes: number): Promise<CheckResult> {
  const problems: string[] = [];
  const note = (problem: string): void => {
    if (problems.length < MAX_PROBLEMS) problems.push(problem);
  };
  let blocks = 0;
  try {
    for (let index = await pages.nextAllocated(0); index !== END; index = await pages.nextAllocated(index + 1)) {
      blocks++;
      if (index * blockSizeBytes >= sizeBytes) note(`block ${index}: beyond the end of the volume`);
      for (const generation of objectsOf(pages, index)) {
        if (await store.objectExists({ generation, index })) continue;
        if (objectsOf(pages, index).includes(generation)) note(`block ${index}: object of generation ${generation} is missing`);
      }
    }
  } catch (error) {
    const failure = ArchipelagoError.from(error, 'map');
    if (failure.code !== 'corrupt' && failure.code !== 'not-found' && failure.code !== 'unsupported-version') throw failure;
    note(`map page: ${failure.message}`);
  }
  return { blocks, problems };
}

function objectsOf(pages: PagedTree, index: number): Generation[] {
  const generation = pages.generationOf(index);
  if (generation > 0) return [generation as Generation];
  if (generation !== LAYERED) return [];
  const { generation: own, base } = pages.layered(index);
  return base > 0 ? [own, base] : [own];
}
