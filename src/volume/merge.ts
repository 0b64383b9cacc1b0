/**
 * Completes layered blocks in the background: copies what a block's own object lacks from its base, and then records the entry as plain, so
 * that the base may go. A clone becomes independent of its origin in the blocks that it has written; those that it never wrote it shares for
 * good, and that costs nothing.
 *
 * No block is merged at its first write: a walk over the map's layered entries comes by again and again as long as there are any, and takes
 * a block that got no new sub-block since it came by before, or has half of them. A copy is made a few sub-blocks at a time, each with
 * the block to itself; in between the guest goes on, and what it makes its own is not copied any more, or overwrites what was. The copies of
 * several blocks are made durable together, and only then recorded: a plain entry never outlives the power without its data.
 */
import { AssertionFailure, assert } from '../base/index.ts';
import { storeCall } from '../blocker/index.ts';
import { END, LAYERED, MISSING, type OpenMap, type PagedTree, SUB_BLOCKS } from '../mapper/index.ts';
import type { Block } from './block.ts';
import { dataRuns, setPlain } from './entry-change.ts';
import { hasSubBlock, isComplete, NO_SUB_BLOCKS, type Presence, withSubBlocks } from './layers.ts';

/** How much of a block is copied while the guest waits for it: 256 KiB of the usual 4 MiB. */
const STEP_SUB_BLOCKS = 4;
/** Blocks that share one sync. */
const BATCH = 16;
/** What reading a page of the map counts as. */
const PAGE_BYTES = 16 << 10;

/** Paces the merges of all volumes of a process. */
export interface MergePace {
  /** Resolves when so many bytes may be copied. */
  take(bytes: number): Promise<void>;
  /** Resolves when it is time for the next walk. */
  pause(): Promise<void>;
}

/** The copy of one block: the sub-blocks that its own object has from the base, though the entry does not say so. */
export interface BlockMerge {
  copied: Presence;
}

/** What a merge needs of the volume. */
export interface MergedVolume {
  readonly map: OpenMap;
  readonly pages: PagedTree;
  readonly blockSizeBytes: number;
  readonly admits: boolean;
  readonly revoked: boolean;
  /** The block, known from here on. Its page is loaded. */
  blockOf(index: number): Block;
  /** Runs `work` with the block to itself, as one of the volume's operations; false, and nothing is done, when that is not possible at once. */
  withBlock(block: Block, work: () => Promise<void>): Promise<boolean>;
}

type Copy = { readonly block: Block; readonly merge: BlockMerge };

export class Merger {
  private readonly volume: MergedVolume;
  private readonly pace: MergePace;
  mergedBlocks = 0;
  private running = false;
  private again = false;

  constructor(volume: MergedVolume, pace: MergePace) {
    this.volume = volume;
    this.pace = pace;
  }

  /** There is, or may be, a layered block. */
  wanted(): void {
    this.again = true;
    if (this.running) return;
    this.running = true;
    void this.run();
  }

  private async run(): Promise<void> {
    while (this.again && !this.volume.revoked) {
      await this.pace.pause();
      this.again = false;
      try {
        await this.walk();
      } catch (error) {
        // A page that cannot be read, or a failed sync: the guest's own I/O is told of it, and the next walk tries again.
        if (error instanceof AssertionFailure) throw error;
        this.again = true;
      }
    }
    this.running = false;
  }

  private async walk(): Promise<void> {
    const copies: Copy[] = [];
    for (let index = await this.nextLayered(0); index !== END && this.volume.admits; index = await this.nextLayered(index + 1)) {
      // One that cannot be read, or finds no room, does not keep the others; whoever uses it is told, and the next walk tries again.
      const copy = await this.copy(index).catch((error: unknown) => {
        if (error instanceof AssertionFailure) throw error;
        return null;
      });
      if (copy !== null) copies.push(copy);
      if (copies.length === BATCH) await this.record(copies.splice(0));
    }
    // Stopped for a snapshot's cut or a handover: what is still layered afterwards, and still ours, is found by the next walk.
    if (!this.volume.admits) this.again = true;
    await this.record(copies);
  }

  private async nextLayered(index: number): Promise<number> {
    const { pages } = this.volume;
    for (;;) {
      const next = pages.nextLayered(index);
      if (next !== MISSING) return next;
      await this.pace.take(PAGE_BYTES);
      await pages.loadNextLayered(index);
    }
  }

  /** Copies all that a block lacks. Null: it is not to be merged, or not now. */
  private async copy(index: number): Promise<Copy | null> {
    const { volume } = this;
    // Evicted between its arrival and this turn, or changed.
    if (volume.pages.generationOf(index) !== LAYERED) {
      this.again = true;
      return null;
    }
    // Shared again: it is copied whole at its next write.
    if (!volume.map.isLive(volume.pages.layered(index).generation)) return null;
    const block = volume.blockOf(index);
    const { layered } = block;
    this.again = true;
    if (layered === null || block.writable === null || (block.freshlyLayered && !isHalf(layered))) {
      block.freshlyLayered = false;
      return null;
    }
    block.merge ??= { copied: NO_SUB_BLOCKS };
    const { merge } = block;
    for (;;) {
      if (block.merge !== merge || block.layered === null) return null;
      if (isComplete(union(block.layered, merge.copied))) return { block, merge };
      await this.pace.take((STEP_SUB_BLOCKS * volume.blockSizeBytes) / SUB_BLOCKS);
      if (!(await volume.withBlock(block, () => this.copyStep(block, merge)))) return null;
    }
  }

  /** Copies the next sub-blocks that are missing. The block is ours alone. */
  private async copyStep(block: Block, merge: BlockMerge): Promise<void> {
    const { layered, base, writable } = block;
    if (block.merge !== merge || layered === null) return;
    assert(base !== null && writable !== null, 'a layered block that is merged has a base, and an object of its own');
    const subBlockBytes = this.volume.blockSizeBytes / SUB_BLOCKS;
    const run = missingRun(union(layered, merge.copied));
    if (run === null) return;
    const start = run.first * subBlockBytes;
    const bytes = new Uint8Array((run.last + 1) * subBlockBytes - start);
    await storeCall((waiter) => base.read(start, bytes, waiter));
    const runs = dataRuns(bytes, subBlockBytes);
    // Zeros are not copied, but a change that failed may have left something in their place.
    if (runs[0]?.data.byteLength !== bytes.byteLength) await storeCall((waiter) => writable.zero(start, bytes.byteLength, waiter));
    for (const { start: at, data } of runs) await storeCall((waiter) => writable.write(start + at, data, waiter));
    merge.copied = withSubBlocks(merge.copied, run.first, run.last);
  }

  /** Makes the copies durable, then records what is complete and was not disturbed meanwhile. */
  private async record(copies: readonly Copy[]): Promise<void> {
    const { map } = this.volume;
    if (copies.length === 0 || !this.volume.admits) return;
    await map.flush();
    for (const { block, merge } of copies) {
      await this.volume.withBlock(block, async () => {
        const { layered, writable } = block;
        if (block.merge !== merge || layered === null || writable === null) return;
        await map.recordChange({ kind: 'plain', index: block.index, generation: writable.generation });
        setPlain(block, writable);
        this.mergedBlocks++;
      });
    }
  }
}

function union(a: Presence, b: Presence): Presence {
  return { presenceLow: (a.presenceLow | b.presenceLow) >>> 0, presenceHigh: (a.presenceHigh | b.presenceHigh) >>> 0 };
}

function isHalf(presence: Presence): boolean {
  let count = 0;
  for (let subBlock = 0; subBlock < SUB_BLOCKS; subBlock++) if (hasSubBlock(presence, subBlock)) count++;
  return count >= SUB_BLOCKS / 2;
}

/** The first sub-blocks that are not in the set, neighbours, as many as make a step. */
function missingRun(presence: Presence): { first: number; last: number } | null {
  let first = 0;
  while (first < SUB_BLOCKS && hasSubBlock(presence, first)) first++;
  if (first === SUB_BLOCKS) return null;
  let last = first;
  while (last + 1 < SUB_BLOCKS && last + 1 < first + STEP_SUB_BLOCKS && !hasSubBlock(presence, last + 1)) last++;
  return { first, last };
}
