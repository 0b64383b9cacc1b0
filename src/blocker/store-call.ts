/** A store operation as a promise, for the paths where one more promise does not count. */
import type { StoreWaiter } from './store.ts';

/** Starts an operation with a waiter of its own; `start` returns what the store call returned. */
export function storeCall(start: (waiter: StoreWaiter) => boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    if (start({ storeDone: (error) => (error ? reject(error) : resolve()) })) resolve();
  });
}
