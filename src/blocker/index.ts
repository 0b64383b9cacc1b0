export { type FileStoreOptions, openFileStore } from './file/store.ts';
export { checkFileStore } from './file/superblock.ts';
export { type MemoryStoreOptions, openMemoryStore } from './memory.ts';
export { ObjectNames } from './object-names.ts';
export { openRadosStore, type RadosStoreOptions } from './rados/store.ts';
export type {
  BlockObject,
  BlockStore,
  CollectedKind,
  JournalSegment,
  ObjectName,
  Removed,
  StoreKind,
  StoreStatus,
  StoreWaiter,
  Takeover,
  UnsyncedWatch,
  VolumeLog,
  VolumeStore,
  WritableBlockObject,
} from './store.ts';
export { storeCall } from './store-call.ts';
