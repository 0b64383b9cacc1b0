/**
 * Operations on a Ceph cluster: numbered slots, and a bounded number of operations in librados' hands.
 *
 * An operation is an object that goes back to a pool when it has completed, so that one costs no promise and no closure. It holds what it
 * reads into and writes from until then: librados fills that memory on threads of its own, and no time-out takes it back before. What comes
 * while all slots are taken waits its turn; how much that may be is bounded by who submits.
 */
import { assert, type Clock, type Log, type Timer } from '../../base/index.ts';
import { loadBinding, type NativeBinding, type NativeCluster } from './binding.ts';
import { connectError, SHUT_OUT } from './errors.ts';

/** Operations in librados' hands at a time, and the bytes that they read or write, of which it has copies. */
const SLOTS = 1024;
const MAX_BYTES = 64 << 20;
/** Slots of their own for what is not on the data path, so that a full house does not keep it out. */
const MAINTENANCE_SLOTS = 16;
/** An operation that takes longer is reported. It is not given up: only its completion says what became of it. */
const SLOW_MS = 10_000;
const SLOW_CHECK_MS = 2000;

/** Whom an operation belongs to: is told of its end. */
export interface OperationTarget {
  /** `result` is negative for an error. The operation is reused after this has returned. */
  completed(operation: Operation, result: number): void;
}

export class Operation {
  target: OperationTarget | null = null;
  /** For the target's use. */
  tag = 0;
  waiter: unknown = null;
  begunMs = 0;
  /** `mutate` has steps; anything else is a read. */
  steps = 0;
  kind = 0;
  first = 0;
  second = 0;
  epoch = 0;
  offset = 0;
  length = 0;
  expectedBytes = 0;
  /** Written from, or read into. */
  bytes: Uint8Array | null = null;
  /** In the queue of those that wait. */
  next: Operation | null = null;
}

export interface RadosConnection {
  /** As in `client.USER`, without the `client.`. */
  readonly user: string;
  readonly confFile: string;
  readonly mapsPool: string;
  readonly blocksPool: string;
  readonly namespace: string;
  /**
   * Called when the cluster has shut this client out, before anyone hears of it: it can do nothing any more, and what it had under way may
   * have been done or not. To be answered by ending the process.
   */
  readonly shutOut: () => void;
}

export class RadosClient {
  private readonly binding: NativeBinding;
  private readonly cluster: NativeCluster;
  private readonly results = new Int32Array(2 * (SLOTS + MAINTENANCE_SLOTS));
  private readonly slots: (Operation | null)[] = new Array<Operation | null>(SLOTS + MAINTENANCE_SLOTS).fill(null);
  private readonly free: number[] = Array.from({ length: SLOTS }, (_, slot) => slot);
  private readonly freeForMaintenance: number[] = Array.from({ length: MAINTENANCE_SLOTS }, (_, place) => SLOTS + place);
  private readonly waitingCalls: ((slot: number) => void)[] = [];
  private readonly idle: Operation[] = [];
  /** In the order in which they came, which is kept: nothing overtakes what waits. */
  private firstWaiting: Operation | null = null;
  private lastWaiting: Operation | null = null;
  private waiting = 0;
  private bytesUnderWay = 0;
  private readonly clock: Clock;
  private readonly log: Log;
  private timer: Timer | null = null;
  private slowReported = false;
  private readonly shutOut: () => void;

  private constructor(clock: Clock, log: Log, shutOut: () => void) {
    this.shutOut = shutOut;
    this.clock = clock;
    this.log = log;
    this.binding = loadBinding();
    this.cluster = this.binding.open(this.results, (count) => this.deliver(count));
  }

  static async connect(connection: RadosConnection, clock: Clock, log: Log): Promise<RadosClient> {
    const client = new RadosClient(clock, log, connection.shutOut);
    const { user, confFile, mapsPool, blocksPool, namespace } = connection;
    const { result, text } = await client.call((cluster, slot, binding) =>
      binding.connect(cluster, slot, user, confFile, mapsPool, blocksPool, namespace),
    );
    if (result < 0) {
      await client.close();
      throw connectError(result, text, user, confFile);
    }
    client.watch();
    return client;
  }

  /** An operation to fill and to `submit`. */
  take(target: OperationTarget): Operation {
    const operation = this.idle.pop() ?? new Operation();
    operation.target = target;
    return operation;
  }

  submit(operation: Operation): void {
    operation.begunMs = this.clock.nowMs();
    if (this.lastWaiting === null) this.firstWaiting = operation;
    else this.lastWaiting.next = operation;
    this.lastWaiting = operation;
    this.waiting++;
    this.startWaiting();
  }

  private startWaiting(): void {
    for (let next = this.firstWaiting; next !== null; next = this.firstWaiting) {
      const size = next.bytes?.byteLength ?? 0;
      // One that is larger than the limit goes alone.
      if (this.free.length === 0 || (this.bytesUnderWay > 0 && this.bytesUnderWay + size > MAX_BYTES)) return;
      this.firstWaiting = next.next;
      if (next.next === null) this.lastWaiting = null;
      next.next = null;
      this.waiting--;
      this.start(this.free.pop() as number, next);
    }
  }

  private start(slot: number, operation: Operation): void {
    this.slots[slot] = operation;
    const { kind, first, second, offset, bytes } = operation;
    this.bytesUnderWay += bytes?.byteLength ?? 0;
    if (operation.steps === 0) {
      assert(bytes !== null, 'a read has memory to read into');
      this.binding.read(this.cluster, slot, kind, first, second, offset, bytes);
      return;
    }
    const { steps, epoch, length, expectedBytes } = operation;
    this.binding.mutate(this.cluster, slot, kind, first, second, steps, epoch, offset, length, bytes, expectedBytes);
  }

  private deliver(count: number): void {
    const { results, slots } = this;
    for (let at = 0; at < count; at++) {
      const slot = results[2 * at] as number;
      const result = results[2 * at + 1] as number;
      if (result === SHUT_OUT) this.shutOut();
      const operation = slots[slot];
      assert(operation != null, 'what completes was submitted');
      slots[slot] = null;
      if (slot < SLOTS) this.free.push(slot);
      this.bytesUnderWay -= operation.bytes?.byteLength ?? 0;
      this.ended(operation, result);
      if (slot >= SLOTS) this.maintenanceEnded(slot);
    }
    this.startWaiting();
  }

  private maintenanceEnded(slot: number): void {
    const next = this.waitingCalls.shift();
    if (next) next(slot);
    else this.freeForMaintenance.push(slot);
  }

  private ended(operation: Operation, result: number): void {
    const { target } = operation;
    target?.completed(operation, result);
    operation.target = null;
    operation.waiter = null;
    operation.bytes = null;
    operation.steps = 0;
    operation.epoch = 0;
    operation.offset = 0;
    operation.length = 0;
    operation.expectedBytes = 0;
    this.idle.push(operation);
  }

  /** For what is not on the data path: resolves to librados' result and the text that the call has left. */
  async call(start: (cluster: NativeCluster, slot: number, binding: NativeBinding) => void): Promise<{ result: number; text: string }> {
    const slot = this.freeForMaintenance.pop() ?? (await new Promise<number>((resolve) => this.waitingCalls.push(resolve)));
    return new Promise((resolve) => {
      const operation = this.take({ completed: (_, result) => resolve({ result, text: this.binding.takeText(this.cluster, slot) }) });
      operation.begunMs = this.clock.nowMs();
      this.slots[slot] = operation;
      start(this.cluster, slot, this.binding);
    });
  }

  /** One operation as a promise of its result. `fill` sets what it consists of. */
  run(fill: (operation: Operation) => void): Promise<number> {
    return new Promise((resolve) => {
      const operation = this.take({ completed: (_, result) => resolve(result) });
      fill(operation);
      this.submit(operation);
    });
  }

  private watch(): void {
    this.timer = this.clock.setTimer(SLOW_CHECK_MS, () => {
      const nowMs = this.clock.nowMs();
      const slow = this.slots.reduce((count, operation) => count + (operation !== null && nowMs - operation.begunMs > SLOW_MS ? 1 : 0), 0);
      if (slow > 0 && !this.slowReported) this.log.warn({ slow, waiting: this.waiting }, 'Ceph has not answered for some time; I/O waits');
      if (slow === 0 && this.slowReported) this.log.info({}, 'Ceph answers again');
      this.slowReported = slow > 0;
      this.watch();
    });
  }

  /** After everything has completed. */
  async close(): Promise<void> {
    this.timer?.cancel();
    await this.call((cluster, slot, binding) => binding.close(cluster, slot));
    this.binding.dispose(this.cluster);
  }
}
