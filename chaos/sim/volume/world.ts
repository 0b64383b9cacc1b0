/**
 * Volumes over a simulated disk, without a network: random I/O, flushes, folds, snapshots, clones, handovers, faults, deaths and power
 * failures, while collectors remove what nothing refers to; each read compared with the twin. One seed is one history.
 */

import { ArchipelagoError, type Epoch, type Generation, Prng, silentLog, type VolumeId } from '../../../src/base/index.ts';
import type { Collection } from '../../../src/mapper/collection/collector.ts';
import { OpenMap, PageCache, PagedTree, type PageRef, SUB_BLOCKS, type VolumeRecord } from '../../../src/mapper/index.ts';
import { IO_FLUSH, IO_READ, IO_WRITE, IO_ZERO, type IoKind, VolumeIo } from '../../../src/volume/device.ts';
import { Lease } from '../../../src/volume/lease.ts';
import type { MergePace } from '../../../src/volume/merge.ts';
import { ServedVolume } from '../../../src/volume/served-volume.ts';
import { checkExtents, type ToldVolume } from '../../checkers/extents-are-true.ts';
import { fillSector, SECTOR_BYTES, sectorId } from '../../checkers/never-torn-nor-foreign.ts';
import { checkFlushFails } from '../../checkers/no-flush-after-failure.ts';
import { checkFound } from '../../checkers/no-live-object-freed.ts';
import { checkSnapshotSector } from '../../checkers/snapshots-never-change.ts';
import { ManualClock } from '../manual-clock.ts';
import { Stuck } from '../scenario.ts';
import { nextTurn } from '../turns.ts';
import { expectNothingDead, WorldCollector } from './collector.ts';
import { SimDisk } from './disk.ts';
import { WorldRegistry } from './registry.ts';
import { SimStore } from './store.ts';
import { type PendingChange, Twin } from './twin.ts';

const BLOCK_BYTES = 64 * 1024;
const BLOCK_SECTORS = BLOCK_BYTES / SECTOR_BYTES;
const SUB_BLOCK_SECTORS = BLOCK_SECTORS / SUB_BLOCKS;
/** The blocks that are used: neighbours, and some that are far away in the map's tree. */
const USED_BLOCKS = [0, 1, 2, 700, 701, 90_000];
/** The last block is cut short. */
const SIZE_BYTES = 90_000 * BLOCK_BYTES + 37 * SECTOR_BYTES;
const MAX_IN_FLIGHT = 12;
const MAX_VOLUMES = 4;
const MAX_SNAPSHOTS = 5;
const MAX_STALE = 3;
const LEASE_END_MS = 1e9;
/** Time that passes in a step. */
const STEP_MS = 0.5;

/** What a planted bug may replace. */
export interface Hooks {
  readonly map?: (map: OpenMap) => void;
  readonly served?: (served: ServedVolume) => void;
  readonly collection?: (collection: Collection) => void;
}

export interface WorldOptions {
  readonly seed: number;
  readonly steps: number;
  readonly faults: boolean;
  readonly hooks?: Hooks;
  /** How often, in a step. */
  readonly deaths?: number;
  /** The same, for an owner that is only paused: what it has under way lands later. */
  readonly failovers?: number;
  readonly handOvers?: number;
  readonly collections?: number;
}

/** What a crash may cut short. */
type CutShort = 'write' | 'flush' | 'snapshot' | 'clone' | 'remove' | 'fold' | 'merge' | 'handOver' | 'collect';

class WorldIo extends VolumeIo {
  readonly finished: (error: ArchipelagoError | null) => void;

  constructor(finished: (error: ArchipelagoError | null) => void) {
    super();
    this.finished = finished;
  }

  override done(error: ArchipelagoError | null): void {
    this.finished(error);
  }
}

class Disk {
  readonly id: VolumeId;
  readonly initialRoot: PageRef | null;
  readonly twin: Twin;
  map: OpenMap | null = null;
  served: ServedVolume | null = null;
  inFlight = 0;
  maintained = false;

  constructor(id: VolumeId, initialRoot: PageRef | null, twin: Twin) {
    this.id = id;
    this.initialRoot = initialRoot;
    this.twin = twin;
  }
}

interface Snapshot {
  readonly id: VolumeId;
  readonly root: PageRef | null;
  /** Null until it was read for the first time. */
  values: Map<number, number> | null;
  readonly possible: Map<number, number[]>;
}

/** A process: its lease is over when its clock says so. */
class Process {
  readonly store: SimStore;
  readonly clock = new ManualClock();
  readonly lease = new Lease(this.clock);

  constructor(store: SimStore) {
    this.store = store;
    this.lease.extend(LEASE_END_MS);
  }

  /** Paused until its lease was over, it goes on with what it has under way, and answers nobody. */
  expire(): void {
    this.clock.advance(LEASE_END_MS);
  }
}

export class World {
  readonly disk: SimDisk;
  process: Process;
  ios = 0;
  deaths = 0;
  powerFailures = 0;
  failovers = 0;
  snapshotsTaken = 0;
  extentsFound = 0;
  handovers = 0;
  acknowledgedWrites = 0;
  /** Of a process or the power, by the operation that they cut short. */
  readonly crashes: Record<CutShort, number> = { write: 0, flush: 0, snapshot: 0, clone: 0, remove: 0, fold: 0, merge: 0, handOver: 0, collect: 0 };
  private readonly underWay = new Map<CutShort, number>();
  private readonly prng: Prng;
  private readonly options: WorldOptions;
  /** Owners that were paused while their volumes were taken over. */
  private stale: Process[] = [];
  private cache = new PageCache();
  private volumes: Disk[] = [];
  private snapshots: Snapshot[] = [];
  private readonly registry = new WorldRegistry();
  private collectors: WorldCollector[] = [];
  /** Objects and pages that collectors have removed. */
  collected = 0;
  /** Cycles that ended because another one had gone by a newer header. */
  overtaken = 0;
  private nextWrite = 1;
  private life = 0;
  private failure: unknown = null;
  private readonly everServed: ServedVolume[] = [];
  /** Steps of merges that wait for their turn. */
  private mergeWaits: (() => void)[] = [];
  private readonly mergePace: MergePace = { take: () => this.mergeTurn(), pause: () => this.mergeTurn() };

  constructor(options: WorldOptions) {
    this.options = options;
    this.prng = new Prng(options.seed);
    this.disk = new SimDisk(this.prng.chance(0.5) ? 'guard' : 'copy');
    this.process = new Process(new SimStore(this.disk, this.prng.next32()));
  }

  get store(): SimStore {
    return this.process.store;
  }

  get merges(): number {
    return this.everServed.reduce((sum, { mergedBlocks }) => sum + mergedBlocks, 0);
  }

  async run(): Promise<void> {
    this.addVolume(this.registry.create(SIZE_BYTES, BLOCK_BYTES), new Twin());
    for (let step = 0; step < this.options.steps; step++) {
      await this.oneStep();
      if (this.failure) throw this.failure;
    }
    this.calm();
    await this.die(true);
    await this.openAll();
    for (const snapshot of this.snapshots) await this.checkSnapshot(snapshot);
    await this.collectAll();
    for (const snapshot of this.snapshots) await this.checkSnapshot(snapshot);
  }

  private async oneStep(): Promise<void> {
    const { prng } = this;
    if (this.volumes.some(({ served }) => served === null)) await this.openAll();
    const volume = this.pick(this.volumes);
    const count = prng.below(4);
    for (let i = 0; i < count; i++) this.randomIo(volume);
    if (prng.chance(0.03)) this.guard(this.lookForData(volume));
    for (let i = prng.below(6); i > 0; i--) this.store.step();
    this.stepStale();
    this.process.clock.advance(STEP_MS);
    for (let i = prng.below(4); i > 0 && this.mergeWaits.length > 0; i--) this.mergeWaits.splice(prng.below(this.mergeWaits.length), 1)[0]?.();
    if (prng.chance(0.02)) this.guard(this.fold(volume));
    if (prng.chance(0.015)) this.guard(this.snapshot(volume));
    if (prng.chance(this.options.handOvers ?? 0.01)) this.guard(this.handOver(volume));
    if (prng.chance(0.01) && this.snapshots.length > 0) await this.checkSnapshot(this.pick(this.snapshots));
    // Soon after it was taken as well, while a stale owner may have something under way.
    const unread = this.snapshots.find(({ values }) => values === null);
    if (unread && prng.chance(0.1)) await this.checkSnapshot(unread);
    if (prng.chance(0.02)) this.cloneOne();
    if (prng.chance(0.005)) this.guard(this.remove(volume));
    this.stepCollectors();
    if (prng.chance(0.03)) this.disk.writeBack(prng);
    if (prng.chance(0.05)) this.cache.evict(0);
    if (prng.chance(0.02)) this.changeWeather();
    // Removals are short and rare.
    const deaths = (this.options.deaths ?? 0.004) + ((this.underWay.get('remove') ?? 0) > 0 ? 0.1 : 0);
    if (prng.chance(deaths) || this.volumes.some(({ map }) => map?.failed && prng.chance(0.05))) await this.die(prng.chance(0.5));
    if (prng.chance(this.options.failovers ?? 0.004)) await this.failOver();
    await nextTurn();
  }

  /** Stale owners are slow, and end one day. */
  private stepStale(): void {
    const { prng, stale } = this;
    for (const process of [...stale]) {
      if (prng.chance(0.1)) for (let i = prng.below(4); i > 0; i--) process.store.step();
      if (prng.chance(0.1)) process.clock.advance(STEP_MS);
      if (!prng.chance(0.01)) continue;
      process.store.die();
      stale.splice(stale.indexOf(process), 1);
    }
  }

  private mergeTurn(): Promise<void> {
    return new Promise((resolve) => this.mergeWaits.push(resolve));
  }

  private changeWeather(): void {
    const { prng, store } = this;
    this.calm();
    store.atOnce = this.pick([0, 0.1, 0.5, 0.95]);
    if (!this.options.faults || prng.chance(0.6)) return;
    store.faults.noSpace = this.pick([0, 0.02, 0.3]);
    store.faults.ioError = this.pick([0, 0, 0.01]);
    store.faults.syncError = this.pick([0, 0, 0, 0.2]);
  }

  private calm(): void {
    const { faults } = this.store;
    faults.noSpace = 0;
    faults.ioError = 0;
    faults.syncError = 0;
  }

  private pick<Value>(values: readonly Value[]): Value {
    return values[this.prng.below(values.length)] as Value;
  }

  private guard(work: Promise<void>): void {
    work.catch((error: unknown) => {
      this.failure ??= error;
    });
  }

  // ---- I/O ----

  private randomIo(volume: Disk): void {
    const { prng } = this;
    if (!volume.served?.admits || volume.inFlight >= MAX_IN_FLIGHT) return;
    const lot = prng.below(100);
    const kind: IoKind = lot < 35 ? IO_READ : lot < 80 ? IO_WRITE : lot < 91 ? IO_ZERO : IO_FLUSH;
    if (kind === IO_FLUSH) this.submit(volume, kind, 0, 0, false);
    else {
      const [first, count] = this.randomRange();
      this.submit(volume, kind, first, count, kind !== IO_READ && prng.chance(0.1));
    }
  }

  /** In sectors: small ones, whole sub-blocks, whole blocks, and such as reach into the next block. */
  private randomRange(): [number, number] {
    const { prng } = this;
    const block = this.pick(USED_BLOCKS);
    const endSector = SIZE_BYTES / SECTOR_BYTES;
    const blockStart = block * BLOCK_SECTORS;
    const style = prng.below(10);
    let first = blockStart + prng.below(prng.chance(0.5) ? 8 : BLOCK_SECTORS);
    let count = 1 + prng.below(5);
    if (style === 0) [first, count] = [blockStart, BLOCK_SECTORS];
    else if (style === 1 && (block < 2 || block === 700)) [first, count] = [blockStart + BLOCK_SECTORS - 1 - prng.below(20), 2 + prng.below(40)];
    else if (style <= 3) [first, count] = [blockStart + 2 * prng.below(BLOCK_SECTORS / 2), 2 * (1 + prng.below(20))];
    else if (style === 4) count = 1 + prng.below(BLOCK_SECTORS);
    const limit = USED_BLOCKS.includes(block + 1) ? blockStart + 2 * BLOCK_SECTORS : blockStart + BLOCK_SECTORS;
    first = Math.min(first, endSector - 1);
    return [first, Math.min(count, limit - first, endSector - first)];
  }

  private submit(volume: Disk, kind: IoKind, first: number, count: number, fua: boolean): void {
    const { twin, served, map } = volume;
    if (served === null) return;
    const { life } = this;
    const words = new Uint32Array((count * SECTOR_BYTES) / 4);
    const start = twin.now();
    const failed = map?.failed ?? null;
    let change: PendingChange | null = null;
    if (kind === IO_WRITE || kind === IO_ZERO) {
      // Now and then what is written is all zeros.
      const id = kind === IO_ZERO || this.prng.chance(0.03) ? 0 : this.nextWrite++;
      for (let place = 0; place < count; place++) fillSector(words, place, id, first + place);
      change = twin.beginChange(first, count, id);
    } else if (kind === IO_READ) words.fill(0xdead);
    const end = change ? this.begin('write') : kind === IO_FLUSH ? this.begin('flush') : null;
    const io = new WorldIo((error) => {
      // Of a process that has died.
      if (life !== this.life) return;
      end?.();
      volume.inFlight--;
      this.ios++;
      if (change && error === null) this.acknowledgedWrites++;
      try {
        if (change) twin.endChange(change, error === null, error === null && fua);
        else if (error === null && kind === IO_READ) twin.checkRead(first, words, start);
        else if (error === null) twin.endFlush(start);
        checkFlushFails(failed !== null, error === null && (fua || kind === IO_FLUSH));
        if (error !== null) checkFound(error);
        if (error !== null && !['no-space', 'io-error'].includes(error.code)) throw error;
        if (error !== null && !this.options.faults) throw error;
      } catch (violation) {
        this.failure ??= violation;
      }
    });
    io.kind = kind;
    io.offset = first * SECTOR_BYTES;
    io.length = count * SECTOR_BYTES;
    io.data = new Uint8Array(words.buffer);
    io.fua = fua;
    volume.inFlight++;
    served.submit(io);
  }

  /** What is called a hole reads as zeros; and while nothing changes, what is called data does not. */
  private async lookForData(volume: Disk): Promise<void> {
    const { served, twin } = volume;
    const { life } = this;
    if (!served?.admits) return;
    const [first, count] = this.randomRange();
    const start = twin.now();
    try {
      const { changes } = twin;
      const quiet = !twin.changing;
      const extents = await served.extents(first * SECTOR_BYTES, count * SECTOR_BYTES, 1 + this.prng.below(8));
      if (life !== this.life) return;
      this.extentsFound += extents.length;
      checkExtents(toldOf(twin, start), extents, first, quiet && twin.changes === changes);
    } catch (error) {
      const { code } = error as ArchipelagoError;
      if (code !== 'stale-epoch') this.expected(error, life);
    }
  }

  // ---- maintenance ----

  private async fold(volume: Disk): Promise<void> {
    const { life } = this;
    const end = this.begin('fold');
    await volume.map?.fold().catch((error: unknown) => this.expected(error, life));
    end();
  }

  /** Notes that something is under way, until the result is called or the process dies. */
  private begin(what: CutShort): () => void {
    const { life, underWay } = this;
    underWay.set(what, (underWay.get(what) ?? 0) + 1);
    return () => void (life === this.life && underWay.set(what, (underWay.get(what) ?? 0) - 1));
  }

  private noteCrash(power: boolean): void {
    for (const [what, count] of this.underWay) if (count > 0) this.crashes[what]++;
    if (this.mergeWaits.length > 0) this.crashes.merge++;
    // A clone begins at its snapshot, until its first header is there.
    if (this.volumes.some(({ id, initialRoot }) => initialRoot !== null && !this.disk.hasHeader(id))) this.crashes.clone++;
    if (power && this.collectors.length > 0) this.crashes.collect++;
    this.underWay.clear();
  }

  private expected(error: unknown, life = this.life): void {
    const { code } = error as ArchipelagoError;
    if (life === this.life) checkFound(error as ArchipelagoError);
    if (life === this.life && !['no-space', 'io-error'].includes(code)) throw error;
  }

  /** As `snapshotVolume` does it. */
  private async snapshot(volume: Disk): Promise<void> {
    const { served, map } = volume;
    const { life } = this;
    if (!served || !map || volume.maintained) return;
    await served.claimAll().catch((error: unknown) => this.expected(error, life));
    if (life !== this.life || volume.served !== served || volume.maintained || map.hasUnclean) return;
    volume.maintained = true;
    const end = this.begin('snapshot');
    let reserved: Generation | null = null;
    try {
      await map.prepareCut();
      if (life !== this.life) return;
      reserved = this.registry.reserve(volume.id);
      const generation = reserved;
      await served.stopAdmitting();
      const possible = volume.twin.possibleNow(usedSectors());
      const cut = await map.cut(generation).finally(() => {
        served.forgetBlocks();
        served.resumeAdmitting();
      });
      await cut.durable;
      if (life !== this.life) return;
      this.snapshotsTaken++;
      const id = this.registry.snapshot(volume.id, generation, cut.root);
      this.snapshots.push({ id, root: cut.root, values: null, possible });
      if (this.snapshots.length > MAX_SNAPSHOTS) this.dropSnapshot(this.prng.below(MAX_SNAPSHOTS));
    } catch (error) {
      if (life === this.life && reserved !== null) this.registry.cancel(volume.id, reserved);
      this.expected(error, life);
    } finally {
      end();
      if (life === this.life) volume.maintained = false;
    }
  }

  /** As `handOverVolume` does it, to another process of the same host. */
  private async handOver(volume: Disk): Promise<void> {
    const { served, map } = volume;
    const { life } = this;
    if (!served || !map || volume.maintained) return;
    const end = this.begin('handOver');
    volume.maintained = true;
    try {
      await map.fold();
      await served.stopAdmitting();
      await map.drain();
      if (map.failed) throw map.failed;
      const unsynced = map.store.unsynced();
      const naming = { nextPageSequence: map.pageSequence };
      served.forgetBlocks();
      await map.close();
      if (life !== this.life) return;
      volume.served = null;
      volume.map = null;
      const epoch = this.registry.handOver(volume.id);
      const takeover = await this.store.takeOver(volume.id, epoch, true);
      if (life !== this.life) return;
      takeover.store.adoptUnsynced(unsynced);
      await this.serve(volume, epoch, takeover, naming);
      this.handovers++;
    } catch (error) {
      this.expected(error, life);
      if (life !== this.life) return;
      if (volume.served) volume.served.resumeAdmitting();
      // Handed over, and the new owner could not open it: it is as good as dead.
      else this.registry.void(volume.id);
    } finally {
      end();
      if (life === this.life) volume.maintained = false;
    }
  }

  /** As `removeVolume` does it. */
  private async remove(volume: Disk): Promise<void> {
    const { served, map } = volume;
    const { life } = this;
    if (!served || !map || volume.maintained || this.volumes.length < 2) return;
    volume.maintained = true;
    const end = this.begin('remove');
    try {
      await served.stopAdmitting();
      if (life !== this.life) return;
      this.registry.remove(volume.id);
      this.volumes.splice(this.volumes.indexOf(volume), 1);
      served.forgetBlocks();
      await map.drain();
      if (life === this.life) await this.store.removeLog(volume.id);
    } catch (error) {
      this.expected(error, life);
    } finally {
      end();
    }
  }

  private cloneOne(): void {
    const known = this.snapshots.filter(({ values }) => values !== null);
    if (known.length === 0 || this.volumes.length >= MAX_VOLUMES || this.volumes.some(({ maintained }) => maintained)) return;
    const { id, values } = this.pick(known);
    this.addVolume(this.registry.clone(id), Twin.of(values as Map<number, number>));
  }

  private addVolume({ id, root }: VolumeRecord, twin: Twin): void {
    this.volumes.push(new Disk(id, root, twin));
  }

  private dropSnapshot(place: number): void {
    const [gone] = this.snapshots.splice(place, 1);
    if (gone) this.registry.remove(gone.id);
  }

  // ---- collection ----

  private stepCollectors(): void {
    const { prng } = this;
    if (this.collectors.length < 2 && prng.chance(this.options.collections ?? 0.02)) this.startCollector();
    // Now and then one is paused for long.
    for (const { store } of this.collectors) if (prng.chance(0.6)) for (let i = prng.below(12); i > 0; i--) store.step();
    if (this.collectors.length > 0 && prng.chance(0.004)) {
      this.crashes.collect++;
      this.collectors.pop()?.store.die();
    }
    this.endCollectors();
  }

  private startCollector(): WorldCollector {
    const collector = new WorldCollector(this.disk, this.registry, this.prng.next32(), this.options.hooks?.collection);
    this.collectors.push(collector);
    return collector;
  }

  private endCollectors(): void {
    for (const { outcome, freed } of this.collectors) {
      if (outcome === null) continue;
      const overtaken = outcome.error instanceof ArchipelagoError && outcome.error.code === 'unavailable';
      if (overtaken) this.overtaken++;
      else if (outcome.error) throw outcome.error;
      this.collected += freed;
    }
    this.collectors = this.collectors.filter(({ outcome }) => outcome === null);
  }

  /** After everybody has left, two cycles free all that is dead. */
  private async collectAll(): Promise<void> {
    for (const volume of this.volumes) await this.pump(this.release(volume));
    for (let cycle = 0; cycle < 2; cycle++) {
      this.startCollector();
      while (this.collectors.length > 0) {
        for (const { store } of this.collectors) store.step();
        await nextTurn();
        this.endCollectors();
      }
    }
    await expectNothingDead(this.disk, this.registry);
  }

  /** As `releaseVolume` does it. */
  private async release(volume: Disk): Promise<void> {
    const { served, map } = volume;
    if (!served || !map) return;
    await served.stopAdmitting();
    await map.fold();
    await map.drain();
    served.forgetBlocks();
    await map.close();
    this.registry.release(volume.id);
    volume.served = null;
    volume.map = null;
  }

  private async serve(
    volume: Disk,
    epoch: Epoch,
    takeover: Awaited<ReturnType<SimStore['takeOver']>>,
    naming: Parameters<typeof OpenMap.open>[0]['naming'],
  ): Promise<void> {
    const { id, initialRoot } = volume;
    const bootId = `boot ${this.disk.boot}`;
    const { store: blockStore, cache, life } = this;
    const map = await OpenMap.open({ blockStore, takeover, volume: id, epoch, initialRoot, naming, bootId, cache, log: silentLog });
    // Taken over meanwhile.
    if (life !== this.life) return;
    this.options.hooks?.map?.(map);
    const served = new ServedVolume({
      blockStore,
      pages: map.pages,
      owned: { map, epoch, lease: this.process.lease },
      sizeBytes: SIZE_BYTES,
      blockSizeBytes: BLOCK_BYTES,
      mergePace: this.mergePace,
      claims: { clock: this.process.clock, log: silentLog },
    });
    // Nobody waits for a merge: in production a broken invariant in it ends the process, and here the world.
    const { merger } = served as unknown as { merger: { run(): Promise<void> } };
    const run = merger.run.bind(merger);
    merger.run = () => Promise.resolve(this.guard(run()));
    this.options.hooks?.served?.(served);
    volume.map = map;
    volume.served = served;
    this.everServed.push(served);
  }

  // ---- death ----

  /** The process dies, perhaps with the power. */
  private async die(power: boolean): Promise<void> {
    this.noteCrash(power);
    this.store.die();
    if (power) for (const { store } of this.stale.splice(0)) store.die();
    // Collectors run on another host, unless the power fails there too.
    if (power) for (const { store } of this.collectors.splice(0)) store.die();
    this.mergeWaits = [];
    if (power) this.powerFailures++;
    else this.deaths++;
    if (power) this.disk.losePower(this.prng);
    this.replaceProcess(this.newProcess(), power);
    this.died = new Set(this.volumes);
    if (this.volumes.length > 2 && this.prng.chance(0.5)) {
      const gone = this.volumes.splice(this.prng.below(this.volumes.length), 1)[0] as Disk;
      this.died.delete(gone);
      this.registry.remove(gone.id);
    }
    await nextTurn();
  }

  /** The process is paused until its lease is over, and another one takes over, perhaps one that was an owner before. */
  private async failOver(): Promise<void> {
    const { prng, stale, process } = this;
    if (stale.length >= MAX_STALE) return;
    this.failovers++;
    process.expire();
    this.underWay.clear();
    const back = stale.length > 0 && prng.chance(0.4) ? (stale.splice(prng.below(stale.length), 1)[0] as Process) : null;
    stale.push(process);
    this.replaceProcess(back ? new Process(back.store) : this.newProcess(), false);
    // Some volumes are looked at before anything else happens to them, and some are not touched for long. One that has lost unflushed writes
    // with the power a moment ago, and that nobody has opened since, is always looked at: its twin has to be told what is left.
    this.died = new Set(this.volumes.filter((volume) => prng.chance(0.3) || this.powerFailed.has(volume)));
    await nextTurn();
  }

  private newProcess(): Process {
    const store = new SimStore(this.disk, this.prng.next32());
    store.atOnce = this.store.atOnce;
    return new Process(store);
  }

  private replaceProcess(process: Process, power: boolean): void {
    this.life++;
    this.process = process;
    this.cache = new PageCache();
    for (const volume of this.volumes) {
      volume.twin.processDied();
      volume.served = null;
      volume.map = null;
      volume.inFlight = 0;
      volume.maintained = false;
      if (power) this.powerFailed.add(volume);
      this.registry.void(volume.id);
    }
  }

  private readonly powerFailed = new Set<Disk>();
  private died = new Set<Disk>();

  private async openAll(): Promise<void> {
    const faults = { ...this.store.faults };
    this.calm();
    for (const volume of this.volumes) {
      if (volume.served !== null || volume.maintained) continue;
      await this.pump(
        (async () => {
          const { epoch, generation } = this.registry.acquire(volume.id);
          const takeover = await this.store.takeOver(volume.id, epoch, false);
          await this.serve(volume, epoch, takeover, { generation });
        })(),
      );
      if (this.died.delete(volume)) await this.readAll(volume);
    }
    Object.assign(this.store.faults, faults);
  }

  /** After a death, before anything else is done. */
  private async readAll(volume: Disk): Promise<void> {
    const power = this.powerFailed.delete(volume);
    for (const block of USED_BLOCKS) {
      const words = await this.readBlock(volume.served as ServedVolume, block);
      volume.twin.settle(block * BLOCK_SECTORS, words, power);
    }
  }

  private async readBlock(served: ServedVolume, block: number): Promise<Uint32Array> {
    const length = Math.min(BLOCK_BYTES, SIZE_BYTES - block * BLOCK_BYTES);
    const words = new Uint32Array(length / 4);
    await this.pump(
      new Promise<void>((resolve, reject) => {
        const io = new WorldIo((error) => (error ? reject(error) : resolve()));
        io.offset = block * BLOCK_BYTES;
        io.length = length;
        io.data = new Uint8Array(words.buffer);
        served.submit(io);
      }),
    );
    return words;
  }

  private async checkSnapshot(snapshot: Snapshot): Promise<void> {
    const faults = { ...this.store.faults };
    this.calm();
    const { store: blockStore, cache } = this;
    const pages = new PagedTree(blockStore, snapshot.root, cache);
    const served = new ServedVolume({ blockStore, pages, owned: null, sizeBytes: SIZE_BYTES, blockSizeBytes: BLOCK_BYTES });
    const values = new Map<number, number>();
    for (const block of USED_BLOCKS) {
      const words = await this.readBlock(served, block);
      for (let place = 0; place < words.length / (SECTOR_BYTES / 4); place++) {
        const sector = block * BLOCK_SECTORS + place;
        const id = sectorId(words, place, sector);
        checkSnapshotSector(sector, id, snapshot.possible.get(sector), snapshot.values === null ? null : snapshot.values.get(sector));
        values.set(sector, id);
      }
    }
    snapshot.values = values;
    served.forgetBlocks();
    Object.assign(this.store.faults, faults);
  }

  /** Lets the store work until `work` is done. */
  private async pump(work: Promise<void>): Promise<void> {
    let ended = false;
    const end = () => {
      ended = true;
    };
    work.then(end, end);
    for (let idle = 0; !ended; ) {
      idle = this.store.step() ? 0 : idle + 1;
      if (idle > 1000) throw new Stuck('work does not end, and the store has nothing to do');
      if (this.failure) throw this.failure;
      await nextTurn();
    }
    await work;
  }
}

function toldOf(twin: Twin, start: number): ToldVolume {
  return {
    subBlockSectors: SUB_BLOCK_SECTORS,
    expectZeros: (first, count) => twin.checkRead(first, new Uint32Array((count * SECTOR_BYTES) / 4), start),
    isZero: (first, count) => [...twin.possibleNow(range(first, first + count)).values()].every((ids) => ids.every((id) => id === 0)),
  };
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, place) => from + place);
}

function* usedSectors(): IterableIterator<number> {
  for (const block of USED_BLOCKS) {
    for (let sector = block * BLOCK_SECTORS; sector < Math.min((block + 1) * BLOCK_SECTORS, SIZE_BYTES / SECTOR_BYTES); sector++) yield sector;
  }
}
