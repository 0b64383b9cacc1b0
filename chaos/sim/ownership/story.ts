/**
 * Words to tell a history of the ownership protocol in: three nodes and one volume of eight blocks, of which node a is the owner at first.
 * Time stands still unless somebody waits for it, so nothing happens in the background that the story does not say.
 */
import { ArchipelagoError } from '../../../src/base/index.ts';
import type { OpenMap } from '../../../src/mapper/index.ts';
import { type Device, IO_FLUSH, IO_READ, IO_WRITE, IO_ZERO } from '../../../src/volume/device.ts';
import { SECTOR_BYTES } from '../../checkers/never-torn-nor-foreign.ts';
import { Stuck } from '../scenario.ts';
import type { Fence } from '../volume/disk.ts';
import { type HistoryBug, watchServed, wrap } from './bugs/bug.ts';
import { BLOCK_BYTES, Cluster, type Node } from './cluster.ts';
import { submit } from './io.ts';
import { Ledger, placeOf, sectorOf, writeIn } from './ledger.ts';

export const BLOCKS = 8;
/** Turns in which everything that is not held comes to rest. */
const REST_TURNS = 60;
const PATIENCE_MS = 15_000;

export interface StoryOptions {
  readonly bug: HistoryBug | null;
  readonly fence: Fence;
  readonly merges: boolean;
}

export interface Place {
  readonly block?: number;
  readonly sector?: number;
}

export class Story {
  readonly cluster: Cluster;
  readonly ledger = new Ledger();
  private readonly devices = new Map<string, Device>();
  private readonly pending = new Map<Promise<void>, string>();
  private readonly writesToHold = new Set<string>();
  private readonly walks: (() => void)[] = [];

  constructor({ bug, fence, merges }: StoryOptions) {
    const pause = () => new Promise<void>((resolve) => this.walks.push(resolve));
    this.cluster = new Cluster(['a', 'b', 'c'], {
      fence,
      ...(merges && { mergePace: { take: () => Promise.resolve(), pause } }),
      started: (node) => {
        node.store.atOnce = 0;
        this.ledger.watch(node);
        watchServed(node, ({ map }) => this.watchWrites(node, map));
        bug?.plant(node);
      },
    });
  }

  async begin(): Promise<void> {
    this.cluster.registry.onChange((change) => {
      if (change.kind !== 'volume' || change.volume.name !== 'v') return;
      try {
        this.ledger.followed.changed(change.volume.owner?.node ?? null, this.nowMs);
      } catch (error) {
        this.ledger.failure ??= error;
      }
    });
    this.cluster.create('v', BLOCKS);
    await this.own('a');
    for (const name of ['a', 'b']) await this.attach(name);
  }

  node(name: string): Node {
    return this.cluster.node(name);
  }

  get volume() {
    return this.cluster.record('v');
  }

  /** A guest at a node, which takes part from here on in who becomes the owner. */
  async attach(name: string): Promise<void> {
    const device = await this.settle(this.node(name).volumes.attach('v'));
    this.devices.set(name, device);
    this.ledger.followed.attached(device, name);
  }

  /** The guest at a node goes, with nothing under way. */
  async leave(name: string): Promise<void> {
    const device = this.device(name);
    this.devices.delete(name);
    this.ledger.followed.left(device);
    await device.close();
  }

  private get nowMs(): number {
    return this.cluster.host.clock.nowMs();
  }

  own(name: string): Promise<unknown> {
    return this.settle(this.node(name).volumes.own(this.volume.id));
  }

  // ---- guests ----

  /** A write that may stay unanswered. */
  submit(at: string, write: number, place: Place = {}): Promise<void> {
    const sector = sectorNumber(place);
    const operation = this.ledger.begin('write', placeOf(this.volume.id, sector), write);
    this.ledger.followed.wrote(this.device(at), this.nowMs);
    const done = submit(this.device(at), IO_WRITE, sector * SECTOR_BYTES, sectorOf(write, sector)).then(
      () => this.ledger.end(operation),
      (error: unknown) => this.ledger.failed(`write ${write}`, error),
    );
    return this.remember(at, done);
  }

  /** A write that the store has begun and not done: its first operation stays under way. */
  async submitHeld(at: string, write: number, place: Place = {}): Promise<void> {
    this.hold(at, 1);
    void this.submit(at, write, place);
    await this.rest();
  }

  /** A write and its answer. */
  async write(at: string, write: number, place: Place = {}): Promise<void> {
    await this.settle(this.submit(at, write, place));
  }

  /** A read that may stay unanswered. */
  look(at: string, place: Place = {}): Promise<void> {
    const sector = sectorNumber(place);
    const operation = this.ledger.begin('read', placeOf(this.volume.id, sector));
    const bytes = new Uint8Array(SECTOR_BYTES).fill(0xee);
    const done = submit(this.device(at), IO_READ, sector * SECTOR_BYTES, bytes).then(
      () => this.ledger.end(operation, writeIn(bytes, sector)),
      (error: unknown) => this.ledger.failed(`a read of sector ${sector}`, error),
    );
    return this.remember(at, done);
  }

  async read(at: string, place: Place = {}): Promise<void> {
    await this.settle(this.look(at, place));
  }

  async flush(at: string): Promise<void> {
    await this.settle(submit(this.device(at), IO_FLUSH, 0, new Uint8Array(0)).catch((error: unknown) => this.ledger.failed('a flush', error)));
  }

  /** Zeros over a whole block, answered or not. */
  trim(at: string, block: number): Promise<void> {
    const sectors = BLOCK_BYTES / SECTOR_BYTES;
    const first = sectorNumber({ block });
    const operation = this.ledger.begin('write', placeOf(this.volume.id, first), 0);
    this.ledger.followed.wrote(this.device(at), this.nowMs);
    const done = submit(this.device(at), IO_ZERO, first * SECTOR_BYTES, new Uint8Array(sectors * SECTOR_BYTES)).then(
      () => this.ledger.end(operation),
      (error: unknown) => this.ledger.failed(`a trim of block ${block}`, error),
    );
    return this.remember(at, done);
  }

  /** A snapshot's sector, read at node c. */
  async readSnapshot(name: string, place: Place = {}): Promise<void> {
    const device = await this.settle(this.node('c').volumes.attach(name));
    const sector = sectorNumber(place);
    const bytes = new Uint8Array(SECTOR_BYTES).fill(0xee);
    await this.settle(
      submit(device, IO_READ, sector * SECTOR_BYTES, bytes).catch((error: unknown) => this.ledger.failed(`a read of snapshot ${name}`, error)),
    );
    this.ledger.snapshots.read(`${name} sector ${sector}`, writeIn(bytes, sector));
    await device.close();
  }

  private device(at: string): Device {
    return this.devices.get(at) as Device;
  }

  private remember(at: string, done: Promise<void>): Promise<void> {
    this.pending.set(done, at);
    // Whoever waits for it hears of an error, at the latest at the end.
    done.catch(() => undefined);
    return done;
  }

  // ---- administrators ----

  snapshot(at: string, name: string): Promise<unknown> {
    return this.node(at).volumes.snapshot(this.volume.id, name);
  }

  handOver(from: string, to: string): Promise<unknown> {
    this.ledger.followed.placed(to);
    return this.node(from).volumes.handOver(this.volume.id, this.node(to));
  }

  // ---- what happens to nodes ----

  /** The node is paused for longer than its lease, or cut off: it hears of nothing any more, and what it has under way lands when it likes. */
  pause(name: string): void {
    const node = this.node(name);
    node.behind ??= [];
    Object.assign(node.lease, { deadlineMs: 0 });
  }

  /** The node hears what has happened meanwhile. It has no lease before it is revived. */
  resume(name: string): void {
    const node = this.node(name);
    const behind = node.behind ?? [];
    node.behind = null;
    for (const see of behind) see();
  }

  /** The leader has waited until the lease was over. */
  expire(name: string): void {
    const { livenessEpoch } = this.node(name);
    this.cluster.apply({ type: 'expireNode', node: name, livenessEpoch, term: 1 });
  }

  /** The node gets a new liveness epoch, and a lease for it. */
  revive(name: string): void {
    const node = this.node(name);
    const { livenessEpoch } = node;
    node.begin(this.cluster.apply({ type: 'reviveNode', node: name, livenessEpoch }).livenessEpoch);
  }

  /** The owner's lease is over, the registry expires it, and another node becomes the owner. */
  async takeover(from: string, to: string): Promise<void> {
    this.pause(from);
    this.expire(from);
    await this.own(to);
  }

  /** The node's next operations in the store stay under way. */
  hold(name: string, count = Number.POSITIVE_INFINITY): void {
    this.node(name).store.holding = count;
  }

  /** The node's next write into an object stays under way, whatever else it asks for before. */
  holdWrites(name: string): void {
    this.writesToHold.add(name);
  }

  private watchWrites(node: Node, map: OpenMap): void {
    wrap(map.store, 'object', (object) => (generation, index) => {
      const made = object(generation, index);
      wrap(made, 'write', (write) => (offset, data, waiter) => {
        if (this.writesToHold.delete(node.name)) node.store.holding = 1;
        return write(offset, data, waiter);
      });
      return made;
    });
  }

  /** Lets each merge that waits walk over its map once. */
  async walkMerges(): Promise<void> {
    for (const walk of this.walks.splice(0)) walk();
    await this.rest();
  }

  /** The node's processes die, and their guests with them. */
  kill(name: string): void {
    this.cluster.kill(name);
    for (const [done, at] of this.pending) if (at === name) this.pending.delete(done);
    this.devices.delete(name);
    this.cluster.voidOwnerships(name);
  }

  /** What is held lands, and everything comes to rest. */
  async land(name: string): Promise<void> {
    this.node(name).store.land();
    await this.rest();
  }

  /** Time passes. */
  pass(ms: number): Promise<void> {
    return this.cluster.turns(20, ms);
  }

  /** What has to fail. */
  async refused(work: Promise<unknown>): Promise<void> {
    if (await isDone(work)) throw new Error('what has to be refused was done');
  }

  /** What may be done or refused, whenever it is; any other failure is heard at the end. */
  attempt(at: string, work: Promise<unknown>): void {
    // Nobody asks which of the two it was.
    void this.remember(
      at,
      isDone(work).then(() => undefined),
    );
  }

  async rest(): Promise<void> {
    await this.cluster.turns(REST_TURNS);
  }

  /** Waits for something: first as long as time stands still, then with time. */
  async settle<Result>(work: Promise<Result>): Promise<Result> {
    let ended = false;
    const end = () => {
      ended = true;
    };
    work.then(end, end);
    for (let turns = 0; !ended && turns < REST_TURNS * 4; turns++) await this.cluster.turns(1);
    const { clock } = this.cluster.host;
    const deadlineMs = clock.nowMs() + PATIENCE_MS;
    while (!ended) {
      if (clock.nowMs() > deadlineMs) throw new Stuck(`after ${PATIENCE_MS} ms something that was waited for has not come`);
      await this.cluster.turns(5, 20);
    }
    return work;
  }

  /** All faults end; what is under way has to be answered, and nothing may be wrong. */
  async end(): Promise<void> {
    for (const node of this.cluster.nodes) {
      if (!node.alive) continue;
      this.resume(node.name);
      if (this.cluster.registry.node(node.name)?.alive === false) this.revive(node.name);
      else node.lease.extend(Number.POSITIVE_INFINITY);
      node.store.land();
      node.heldProposals = null;
    }
    await this.settle(Promise.all(this.pending.keys()));
    for (const name of this.devices.keys()) for (let block = 0; block < BLOCKS; block++) await this.read(name, { block });
    this.ledger.check();
  }
}

/** False if it is refused. Rejects with what is no refusal. */
function isDone(work: Promise<unknown>): Promise<boolean> {
  return work.then(
    () => true,
    (error: unknown) => {
      if (error instanceof ArchipelagoError) return false;
      throw error;
    },
  );
}

function sectorNumber({ block = 0, sector = 0 }: Place): number {
  return (block * BLOCK_BYTES) / SECTOR_BYTES + sector;
}
