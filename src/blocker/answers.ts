/** How drivers answer what was not done at once, and what their errors say. */
import { ArchipelagoError, hex16, type VolumeId } from '../base/index.ts';
import type { StoreWaiter } from './store.ts';

function deliver(waiter: StoreWaiter, error: ArchipelagoError): void {
  waiter.storeDone(error);
}

/** Refuses a call: the answer comes after the call has returned, as `StoreWaiter` promises. Returns what the call returns. */
export function refuse(waiter: StoreWaiter, error: ArchipelagoError): false {
  process.nextTick(deliver, waiter, error);
  return false;
}

export function hex8(value: number): string {
  return value.toString(16).padStart(8, '0');
}

/** An object or page as messages name it, and as the file driver names its files. */
function objectText(generation: number, index: number): string {
  return `object ${hex16(generation)}/${hex8(index)}`;
}

export function volumeText(volume: VolumeId): string {
  return `volume ${hex16(volume)}`;
}

export function objectMissing(generation: number, index: number): ArchipelagoError {
  return new ArchipelagoError('not-found', `${objectText(generation, index)} does not exist`);
}

export function objectExists(generation: number, index: number): ArchipelagoError {
  return new ArchipelagoError('exists', `${objectText(generation, index)} exists already`);
}

export function pageMissing(generation: number, sequence: number): ArchipelagoError {
  return new ArchipelagoError('not-found', `page ${hex16(generation)}/${hex16(sequence)} does not exist`);
}

export function superseded(volume: VolumeId, ours: number, theirs: number): ArchipelagoError {
  return new ArchipelagoError('stale-epoch', `${volumeText(volume)} was taken over under epoch ${theirs}, ours is ${ours}`);
}

export function storeClosed(what: string): ArchipelagoError {
  return new ArchipelagoError('io-error', `${what} is closed`);
}
