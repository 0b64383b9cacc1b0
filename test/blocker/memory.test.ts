import { openMemoryStore } from '../../src/blocker/index.ts';
import { blockStoreContract } from '../contract/block-store.ts';

const open = async (store: ReturnType<typeof openMemoryStore>) => ({ first: store, second: store, end: () => store.close() });

blockStoreContract('memory', () => open(openMemoryStore()), { guardsObjects: true });

// As the simulator uses it: everything is answered later, in turns.
blockStoreContract('memory, deferred', () => open(openMemoryStore({ defer: (run) => void setImmediate(run) })), { guardsObjects: true });
