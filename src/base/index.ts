export { AssertionFailure, assert, broken, unreachable } from './assert.ts';
export { concatBytes, crc32, hex16, isZero, readCounter, viewOf, writeCounter } from './bytes.ts';
export type { Clock, Timer } from './clock.ts';
export { ArchipelagoError, ERROR_CODES, type ErrorBody, type ErrorCode } from './errors.ts';
export { assertCounter, type BlockIndex, type Epoch, type Generation, type LivenessEpoch, type VolumeId } from './ids.ts';
export { type Log, silentLog } from './log.ts';
export { type Counter, type Gauge, type Metrics, noMetrics } from './metrics.ts';
export { Prng } from './prng.ts';
