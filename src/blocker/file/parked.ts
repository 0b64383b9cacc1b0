/** Operations on an object that wait because its file is being opened, truncated, claimed or removed. */
import { unreachable } from '../../base/index.ts';
import type { StoreWaiter, WritableBlockObject } from '../store.ts';

export interface ParkedOperation {
  readonly kind: 'read' | 'write' | 'create' | 'zero' | 'remove' | 'claim';
  readonly offset: number;
  readonly length: number;
  readonly bytes: Uint8Array;
  readonly waiter: StoreWaiter;
}

/** Submits it anew; returns true when it was done at once. */
export function performParked(object: WritableBlockObject, { kind, offset, length, bytes, waiter }: ParkedOperation): boolean {
  switch (kind) {
    case 'read':
      return object.read(offset, bytes, waiter);
    case 'write':
      return object.write(offset, bytes, waiter);
    case 'create':
      return object.create(offset, bytes, waiter);
    case 'zero':
      return object.zero(offset, length, waiter);
    case 'remove':
      return object.remove(waiter);
    case 'claim':
      return object.claim(waiter);
    default:
      return unreachable(kind, 'parked operation');
  }
}
