export { type MemoryStoreOptions, openMemoryStore } from './memory.ts';
export type {
  BlockObject,
  BlockStore,
  JournalSegment,
  ObjectName,
  StoreKind,
  StoreStatus,
  StoreWaiter,
  Takeover,
  VolumeStore,
  WritableBlockObject,
} from './store.ts';
