export { ABSENT, END, LAYERED, MISSING } from './core/block-map.ts';
export { decodeHeader } from './core/header.ts';
export { PageCache } from './core/page-cache.ts';
export { type LayeredEntry, type MapChange, type PageRef, SUB_BLOCKS } from './core/types.ts';
export { PageWalk } from './core/walk.ts';
export { type Cut, OpenMap, type OpenMapOptions, type RecordWaiter } from './open-map.ts';
export { PagedTree } from './paged-tree.ts';
export type { RegistryChange } from './registry/state.ts';
export type { Command, CommandValues, NodeRecord, VolumeRecord } from './registry/types.ts';
