/** Verification: reads every page of a map and looks for every object that it names. Repairs nothing. */
import { ArchipelagoError, type Generation } from '../base/index.ts';
import type { BlockStore, ObjectName } from '../blocker/index.ts';
import { decodeHeader, type PageRef, PageWalk, type VolumeRecord } from '../mapper/index.ts';

export const MAX_PROBLEMS = 1000;
/** Objects looked for at a time. */
const PARALLEL = 16;

export interface CheckResult {
  readonly blocks: number;
  readonly pages: number;
  readonly problems: string[];
}

/** What a map has to be held against. */
export interface CheckedMap {
  readonly root: PageRef | null;
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  /** Generations that other volumes write, with the name of one that does. */
  readonly writtenElsewhere: ReadonlyMap<Generation, string>;
}

/** Follows the map's root, whose pages and objects nobody changes or removes meanwhile. Memory grows with the objects of one page. */
export async function checkMap(store: BlockStore, map: CheckedMap): Promise<CheckResult> {
  const { root, sizeBytes, blockSizeBytes, writtenElsewhere } = map;
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
      const writer = writtenElsewhere.get(generation);
      if (writer !== undefined) note(`block ${index}: its object of generation ${generation} may be changed by volume '${writer}'`);
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

/**
 * The generations whose objects the given volumes may change in place, as the registry and their headers say. A generation has one writer:
 * what any other map refers to is never among these. A header says more than holds when its volume has made a snapshot since, but never of
 * that snapshot's generations, because it is replaced before the snapshot exists.
 */
export async function writtenGenerations(store: BlockStore, volumes: readonly VolumeRecord[]): Promise<Map<Generation, string>> {
  const written = new Map<Generation, string>();
  const add = async ({ id, name, openGenerations }: VolumeRecord): Promise<void> => {
    const bytes = await store.readHeader(id);
    for (const generation of openGenerations) written.set(generation, name);
    if (bytes === null) return;
    try {
      for (const generation of decodeHeader(bytes, id).header.liveGenerations) written.set(generation, name);
    } catch (error) {
      // A check of that volume reports it.
      if (!(error instanceof ArchipelagoError)) throw error;
    }
  };
  for (let at = 0; at < volumes.length; at += PARALLEL) await Promise.all(volumes.slice(at, at + PARALLEL).map(add));
  return written;
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
