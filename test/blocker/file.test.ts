import type { FileStoreOptions } from '../../src/blocker/index.ts';
import { blockStoreContract } from '../contract/block-store.ts';
import type { StoreUnderTest } from '../contract/store-support.ts';
import { freshDirectory, openFiles, removeDirectory } from './support.ts';

/** Two daemons of one host. */
async function openTwice(options: Partial<FileStoreOptions> = {}): Promise<StoreUnderTest> {
  const directory = freshDirectory();
  const [first, second] = await Promise.all([openFiles(directory, options), openFiles(directory, options)]);
  return {
    first,
    second,
    async end() {
      await Promise.all([first.close(), second.close()]);
      removeDirectory(directory);
    },
  };
}

blockStoreContract('file', () => openTwice(), { guardsObjects: false });

// All descriptors are wanted by somebody else all the time.
blockStoreContract('file, 2 descriptors', () => openTwice({ maxDescriptors: 2 }), { guardsObjects: false });
