export { LeaseHolder } from './core/holder.ts';
export { LeaseTable } from './core/table.ts';
export type { HeartbeatAnswer, LeaseTiming } from './core/types.ts';
