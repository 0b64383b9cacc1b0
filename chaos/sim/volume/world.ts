/**
 * Volumes over a simulated disk, without a network: random I/O, flushes, folds, snapshots, clones, handovers, faults, deaths and power
 * failures, while collectors remove what nothing refers to; each read compared with the twin. One seed is one history.
 */

import { ArchipelagoError, type Epoch, Prng, silentLog } from '../../../src/base/index.ts';
import { OpenMap, PageCache, PagedTree, type VolumeRecord } from '../../../src/mapper/index.ts';
import type { MergePace } from '../../../src/volume/merge.ts';
import { ServedVolume } from '../../../src/volume/served-volume.ts';
import { SECTOR_BYTES, sectorId } from '../../checkers/never-torn-nor-foreign.ts';
import { checkFound } from '../../checkers/no-live-object-freed.ts';
import { checkSnapshotSector } from '../../checkers/snapshots-never-change.ts';
import { Stuck } from '../scenario.ts';
import { nextTurn } from '../turns.ts';
import { expectNothingDead, WorldCollector } from './collector.ts';
import { SimDisk } from './disk.ts';
import { lookForData, randomIo, readBlock } from './guests.ts';
import { cloneOne, fold, handOver, release, remove, snapshot } from './maintenance.ts';
import { WorldRegistry } from './registry.ts';
import {
  BLOCK_BYTES,
  BLOCK_SECTORS,
  type CutShort,
  Disk,
  MAX_STALE,
  Process,
  SIZE_BYTES,
  type Snapshot,
  STEP_MS,
  USED_BLOCKS,
  type WorldOptions,
} from './setting.ts';
import { SimStore } from './store.ts';
import { Twin } from './twin.ts';

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
  readonly underWay = new Map<CutShort, number>();
  readonly prng: Prng;
  readonly options: WorldOptions;
  /** Owners that were paused while their volumes were taken over. */
  private stale: Process[] = [];
  private cache = pagesOfProcess();
  volumes: Disk[] = [];
  snapshots: Snapshot[] = [];
  readonly registry = new WorldRegistry();
  private collectors: WorldCollector[] = [];
  /** Objects and pages that collectors have removed. */
  collected = 0;
  /** Cycles that ended because another one had gone by a newer header. */
  overtaken = 0;
  nextWrite = 1;
  life = 0;
  failure: unknown = null;
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
    for (let i = 0; i < count; i++) randomIo(this, volume);
    if (prng.chance(0.03)) this.guard(lookForData(this, volume));
    for (let i = prng.below(6); i > 0; i--) this.store.step();
    this.stepStale();
    this.process.clock.advance(STEP_MS);
    for (let i = prng.below(4); i > 0 && this.mergeWaits.length > 0; i--) this.mergeWaits.splice(prng.below(this.mergeWaits.length), 1)[0]?.();
    if (prng.chance(0.02)) this.guard(fold(this, volume));
    if (prng.chance(0.015)) this.guard(snapshot(this, volume));
    if (prng.chance(this.options.handOvers ?? 0.01)) this.guard(handOver(this, volume));
    if (prng.chance(0.01) && this.snapshots.length > 0) await this.checkSnapshot(this.pick(this.snapshots));
    // Soon after it was taken as well, while a stale owner may have something under way.
    const unread = this.snapshots.find(({ values }) => values === null);
    if (unread && prng.chance(0.1)) await this.checkSnapshot(unread);
    if (prng.chance(0.02)) cloneOne(this);
    if (prng.chance(0.005)) this.guard(remove(this, volume));
    this.stepCollectors();
    if (prng.chance(0.03)) this.disk.writeBack(prng);
    if (prng.chance(0.05)) this.cache.loaded.evict(0);
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

  pick<Value>(values: readonly Value[]): Value {
    return values[this.prng.below(values.length)] as Value;
  }

  guard(work: Promise<void>): void {
    work.catch((error: unknown) => {
      this.failure ??= error;
    });
  }

  // ---- maintenance ----

  /** Notes that something is under way, until the result is called or the process dies. */
  begin(what: CutShort): () => void {
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

  expected(error: unknown, life = this.life): void {
    const { code } = error as ArchipelagoError;
    if (life === this.life) checkFound(error as ArchipelagoError);
    if (life === this.life && !['no-space', 'io-error'].includes(code)) throw error;
  }

  addVolume({ id, root }: VolumeRecord, twin: Twin): void {
    this.volumes.push(new Disk(id, root, twin));
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
    for (const volume of this.volumes) await this.pump(release(this, volume));
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

  async serve(
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
    this.cache = pagesOfProcess();
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
      const words = await readBlock(this, volume.served as ServedVolume, block);
      volume.twin.settle(block * BLOCK_SECTORS, words, power);
    }
  }

  private async checkSnapshot(snapshot: Snapshot): Promise<void> {
    const faults = { ...this.store.faults };
    this.calm();
    const { store: blockStore, cache } = this;
    const pages = new PagedTree(blockStore, snapshot.root, cache);
    const served = new ServedVolume({ blockStore, pages, owned: null, sizeBytes: SIZE_BYTES, blockSizeBytes: BLOCK_BYTES });
    const values = new Map<number, number>();
    for (const block of USED_BLOCKS) {
      const words = await readBlock(this, served, block);
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
  async pump(work: Promise<void>): Promise<void> {
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

/** Nothing is kept as it is stored: what collection has removed wrongly shows at the next look. */
function pagesOfProcess(): PageCache {
  return new PageCache(0);
}
