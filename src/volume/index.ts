export type { HandOverState, RegistryPort, VolumeContext } from './context.ts';
export {
  type Device,
  type DeviceDirectory,
  type Extent,
  IO_FLUSH,
  IO_READ,
  IO_WRITE,
  IO_ZERO,
  type IoKind,
  MAX_EXTENTS,
  VolumeIo,
} from './device.ts';
export type { DiffPage, DiffRequest } from './diff.ts';
export { NodeLease } from './lease.ts';
export { ClockedMergePace } from './merge-pace.ts';
export type { RemovedVolume } from './operations.ts';
export { type VolumeStats, Volumes } from './volumes.ts';
