/** A simulated node: two processes on one machine, with one clock, a disk for the log and a way to the shared store. */
import { AssertionFailure, type Prng } from '../../../../src/base/index.ts';
import { configurationOf } from '../../../../src/raft/index.ts';
import { Host } from '../../host.ts';
import { Disk, type DiskCounts, SimulatedDiskError } from '../../raft/disk.ts';
import { ControlProcess } from './control-process.ts';
import type { WorldLink } from './data-links.ts';
import { DataProcess } from './data-process.ts';
import { makePipe, type Pipe } from './pipe.ts';
import { type StoreConditions, TimedStore } from './store.ts';
import type { World } from './world.ts';

const DATA_RESTART_MS = 50;
const DATA_RETRY_MS = 200;

export class SimNode {
  readonly name: string;
  readonly controlHost: Host;
  readonly dataHost: Host;
  readonly disk: Disk;
  readonly storeConditions: StoreConditions;
  control: ControlProcess | null = null;
  data: DataProcess | null = null;
  private pipe: Pipe | null = null;
  private readonly world: World;
  private readonly random: Prng;

  constructor(world: World, name: string, random: Prng, diskCounts: DiskCounts) {
    this.world = world;
    this.name = name;
    this.random = random;
    const { setting, scheduler } = world;
    const { driftPart, clocksAtEnds } = setting;
    // At the ends of what is allowed more often than in between.
    const rate = 1 + driftPart * (random.chance(clocksAtEnds ? 1 : 0.6) ? (random.chance(0.5) ? 1 : -1) : 2 * random.unit() - 1);
    this.controlHost = new Host(`${name} control`, scheduler, rate, () => undefined);
    this.dataHost = new Host(`${name} data`, scheduler, rate, () => undefined);
    this.disk = new Disk(this.controlHost, configurationOf(setting.names), random.fork(), diskCounts);
    this.disk.conditions.writeMs = setting.logDiskMs;
    this.storeConditions = { usualMs: setting.storeMs, slowChance: 0, slowMs: 2_000, slowKind: null };
  }

  get isUp(): boolean {
    return this.control !== null;
  }

  start(): void {
    if (this.control !== null) return;
    const alive = this.controlHost.lifeline();
    const control = new ControlProcess({
      name: this.name,
      host: this.controlHost,
      setting: this.world.setting,
      random: this.random.fork(),
      openStorage: () => this.disk.open(),
      send: (to, frame, kind) => {
        if (alive()) this.world.network.send(this.name, to, frame, kind);
      },
      startData: () => this.launchData(),
      endData: () => this.killData(),
      fatal: (error) => {
        if (alive()) this.fatal(error);
      },
      applied: (each) => {
        if (alive()) this.world.applied(this, each);
      },
    });
    this.control = control;
    control.start().then(
      () => {
        if (!alive()) return;
        this.world.plantControl(control);
        this.bringData(control);
      },
      (error: unknown) => {
        if (alive()) this.fatal(error);
      },
    );
  }

  /** Until it is in use; if it dies before, its death brings the next one. */
  private bringData(control: ControlProcess): void {
    // It died before it was in use, and its death brings the next one.
    control.startData().catch(() => undefined);
  }

  private launchData(): Pipe['control'] {
    const { world, name, dataHost } = this;
    const pipe = makePipe(this.controlHost, dataHost, this.random.fork());
    this.pipe = pipe;
    const links = new Map<string, WorldLink>();
    for (const other of world.setting.names) if (other !== name) links.set(other, world.pair(name, other).begin(name, dataHost));
    const store = new TimedStore(world.disk, this.random.next32(), dataHost, this.storeConditions);
    store.atOnce = this.random.below(3) * 0.2;
    this.data = new DataProcess({
      name,
      host: dataHost,
      port: pipe.data,
      store,
      links,
      bootId: `boot ${world.disk.boot}`,
      merges: world.setting.merges,
      onInternalError: (message) => world.fail(new Error(`${name}: ${message}`)),
      started: (patient) => world.plantData(patient),
    });
    this.applyStoreFaults();
    return pipe.control;
  }

  /** The data process dies alone; its guests live on, and its control process starts another. */
  killData(): void {
    const { control } = this;
    if (this.data === null) return;
    this.endData();
    this.pipe?.control.end();
    if (control === null) return;
    this.controlHost.in(DATA_RESTART_MS + this.random.unit() * DATA_RETRY_MS, () => {
      if (this.control === control && this.data === null) this.bringData(control);
    });
  }

  /** Both processes die, and unless the data process is paused it hears of it as late as never. */
  crash(): void {
    if (this.control === null) return;
    this.controlHost.crash();
    this.disk.crash();
    this.control = null;
    this.endData();
  }

  private endData(): void {
    const { data } = this;
    if (data === null) return;
    this.data = null;
    this.dataHost.crash();
    data.store.die();
    for (const other of this.world.setting.names) if (other !== this.name) this.world.pair(this.name, other).died(this.name);
    this.world.dataDied(this, data);
  }

  applyStoreFaults(): void {
    if (this.data !== null) Object.assign(this.data.store.faults, this.world.storeFaults);
  }

  /** A log's disk that failed ends the process, as it should; anything else is ours. */
  private fatal(error: unknown): void {
    if (!isInjected(error)) {
      this.world.fail(error);
      return;
    }
    this.crash();
    this.world.scheduler.in(100, () => this.start());
  }
}

function isInjected(error: unknown): boolean {
  if (error instanceof AssertionFailure || !(error instanceof Error)) return false;
  return error instanceof SimulatedDiskError || isInjected(error.cause);
}
