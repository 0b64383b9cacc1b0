/** Bugs in cuts, merges and what a volume tells of its data. */
import type { Generation } from '../../../../src/base/index.ts';
import type { LayeredEntry, OpenMap } from '../../../../src/mapper/index.ts';
import type { Block } from '../../../../src/volume/block.ts';
import type { BlockMerge } from '../../../../src/volume/merge.ts';
import type { Bug } from './bug.ts';

interface MapInside {
  isLive: OpenMap['isLive'];
}

const inside = (map: OpenMap): MapInside => map as unknown as MapInside;

export const SHARING_BUGS: readonly Bug[] = [
  {
    name: 'cut-does-not-wait',
    mistake: 'a cut does not wait for what is under way',
    hooks: {
      served(served) {
        const stop = served.stopAdmitting.bind(served);
        served.stopAdmitting = async () => void stop();
        served.forgetBlocks = () => undefined;
      },
    },
  },
  {
    name: 'live-set-not-closed-at-cut',
    mistake: 'the live set is not closed at a cut',
    hooks: {
      map(map) {
        const isLive = map.isLive.bind(map);
        const ever = new Set<Generation>();
        inside(map).isLive = (generation) => {
          if (isLive(generation)) ever.add(generation);
          return ever.has(generation);
        };
      },
    },
  },
  {
    name: 'merge-does-not-keep-guest-away',
    mistake: 'a merge does not keep the guest from its block',
    hooks: {
      served(served) {
        served.withBlock = async (_block, work) => {
          await work();
          return true;
        };
      },
    },
  },
  {
    name: 'merge-overwrites-newer-write',
    mistake: "a merge copies over what is not the base's any more",
    hooks: {
      served(served) {
        const merger = (served as unknown as { merger: { copyStep(block: Block, merge: BlockMerge): Promise<void> } }).merger;
        const copyStep = merger.copyStep.bind(merger);
        // Goes by the presence of when the merge began.
        const began = new WeakMap<BlockMerge, LayeredEntry>();
        merger.copyStep = async (block, merge) => {
          const { layered } = block;
          if (layered === null) return;
          if (!began.has(merge)) began.set(merge, layered);
          block.layered = began.get(merge) as LayeredEntry;
          await copyStep(block, merge).finally(() => {
            block.layered = layered;
          });
        };
      },
    },
  },
  {
    name: 'data-called-hole',
    mistake: 'data is called a hole',
    hooks: {
      served(served) {
        const extents = served.extents.bind(served);
        // As one that takes the first byte of a sub-block for all of it.
        served.extents = async (...asked) =>
          (await extents(...asked)).map((extent) => ({ ...extent, allocated: extent.allocated && extent.lengthBytes > 1024 }));
      },
    },
  },
  {
    name: 'zeros-called-data',
    mistake: 'zeros are called data',
    hooks: {
      served(served) {
        const extents = served.extents.bind(served);
        served.extents = async (...asked) =>
          (await extents(...asked)).map((extent) => ({ ...extent, allocated: extent.allocated || extent.lengthBytes < 20_000 }));
      },
    },
  },
];
