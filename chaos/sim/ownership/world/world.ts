/**
 * One seeded world of ownership: nodes with the production Raft, registry, leases, volumes and sessions over a simulated network, clock, log and
 * store, guests that share a volume, and every checker watching.
 */
import { type ArchipelagoError, AssertionFailure, Prng } from '../../../../src/base/index.ts';
import { IO_FLUSH, IO_READ, IO_WRITE, type IoKind } from '../../../../src/volume/device.ts';
import { Violation } from '../../../checkers/checker.ts';
import { LeasesEndFirst } from '../../../checkers/leases-end-first.ts';
import { CALM, Network } from '../../network.ts';
import { type DiskCounts, NO_DISK_COUNTS } from '../../raft/disk.ts';
import { Scheduler } from '../../scheduler.ts';
import { eachTurn } from '../../turns.ts';
import { SimDisk } from '../../volume/disk.ts';
import type { SimFaults } from '../../volume/store.ts';
import { insideMap, watchServed } from '../bugs/bug.ts';
import { BLOCK_BYTES } from '../cluster.ts';
import { Account } from './account.ts';
import type { DataPatient, WorldBug } from './bugs/bug.ts';
import type { ControlProcess } from './control-process.ts';
import { converge, settle } from './convergence.ts';
import { LinkPair } from './data-links.ts';
import type { DataProcess } from './data-process.ts';
import { Guest } from './guests.ts';
import { Nemesis, type NemesisCounts } from './nemesis.ts';
import { SimNode } from './node.ts';
import { PLOTS, type Plot } from './plots.ts';
import { drawSetting, forPlot, type Setting } from './setting.ts';
import { Snapshots } from './snapshots.ts';

const VOLUME_BLOCKS = 8;
/** The id of the only volume. */
const VOLUME_ID = 1;
const FOUNDING_MS = 20_000;

export interface WorldReport {
  readonly events: number;
  readonly faults: NemesisCounts;
  readonly disk: DiskCounts;
  readonly network: Network['counts'];
  readonly brokenLinks: number;
  readonly epochs: number;
  readonly expirations: number;
  readonly handovers: number;
  readonly elections: number;
  readonly acknowledgedWrites: number;
  readonly flushes: number;
  readonly snapshots: number;
  readonly guestErrors: number;
}

export class World {
  readonly scheduler = new Scheduler();
  readonly setting: Setting;
  /** What is played; null: faults as they come. */
  readonly plot: Plot | null;
  readonly network: Network;
  readonly disk: SimDisk;
  readonly nodes: readonly SimNode[];
  readonly account: Account;
  readonly snapshots: Snapshots;
  readonly random: Prng;
  storeFaults: SimFaults = { noSpace: 0, ioError: 0, syncError: 0 };
  guestsStopped = false;
  /** What the power left is being looked at, and no guest is there. */
  isSettling = false;
  /** What alone guests do; null: anything. */
  guestsOnly: 'flush' | 'read' | null = null;
  /** Some nodes' guests may be refused changes. */
  holdsUsed = false;
  /** Errors of the store may reach guests. */
  storeFailed = false;
  flushes = 0;
  guestErrors = 0;
  handovers = 0;
  readonly guests: readonly Guest[];
  private readonly pairs = new Map<string, LinkPair>();
  private readonly bug: WorldBug | null;
  private readonly leases = new LeasesEndFirst();
  private readonly diskCounts: DiskCounts = { ...NO_DISK_COUNTS };
  private problem: unknown = null;
  private events = 0;
  private terms = 0;

  constructor(seed: number, bug: WorldBug | null) {
    this.random = new Prng(seed);
    this.bug = bug;
    this.plot = PLOTS[seed % PLOTS.length] ?? null;
    const setting = drawSetting(this.random.fork());
    this.setting = this.plot === null ? setting : forPlot(setting, this.plot.guests);
    const { names, networkMs, fence, guests } = this.setting;
    this.disk = new SimDisk(fence);
    this.account = new Account(VOLUME_ID);
    this.network = new Network(this.scheduler, this.random.fork(), (from, to, frame) => this.deliver(from, to, frame));
    this.network.conditions = { ...CALM, delayMs: networkMs };
    const delay = this.random.fork();
    names.forEach((one, at) => {
      for (const other of names.slice(at + 1)) {
        const pair = new LinkPair([one, other], this.scheduler, this.random.fork(), () => networkMs * (0.1 + delay.unit()));
        this.pairs.set(`${one} ${other}`, pair);
      }
    });
    this.nodes = names.map((name) => new SimNode(this, name, this.random.fork(), this.diskCounts));
    this.guests = Array.from({ length: guests.count }, (_, at) => new Guest(this, `guest ${at}`, this.pickNode(), this.random.fork()));
    this.snapshots = new Snapshots(this);
  }

  async run(): Promise<WorldReport> {
    for (const node of this.nodes) node.start();
    await this.found();
    const nemesis = new Nemesis(this, this.random.fork());
    for (const guest of this.guests) guest.start();
    nemesis.start();
    await this.pass(this.setting.faultsMs);
    nemesis.stop();
    await converge(this);
    this.account.ledger.check();
    const { account, disk, diskCounts, network, flushes, guestErrors, handovers, snapshots } = this;
    return {
      events: this.events + disk.operations,
      faults: nemesis.counts,
      disk: diskCounts,
      network: network.counts,
      brokenLinks: [...this.pairs.values()].reduce((sum, { broken }) => sum + broken, 0),
      epochs: this.leases.epochs,
      expirations: this.leases.expirations,
      handovers,
      elections: this.terms,
      acknowledgedWrites: account.ledger.acknowledgedWrites,
      flushes,
      snapshots: snapshots.taken,
      guestErrors,
    };
  }

  // ---- for its parts ----

  node(name: string): SimNode {
    return this.nodes.find((node) => node.name === name) as SimNode;
  }

  pair(one: string, other: string): LinkPair {
    return this.pairs.get(one < other ? `${one} ${other}` : `${other} ${one}`) as LinkPair;
  }

  get everyPair(): IterableIterator<LinkPair> {
    return this.pairs.values();
  }

  pickNode(): SimNode {
    return this.nodes[this.random.below(this.nodes.length)] as SimNode;
  }

  /** As most nodes that run have it; null while none knows of the volume. */
  get owner(): SimNode | null {
    let newest = { epoch: -1, owner: null as string | null };
    for (const { control } of this.nodes) {
      const record = control?.registry.byName('v');
      if (record && record.epoch >= newest.epoch) newest = { epoch: record.epoch, owner: record.owner?.node ?? null };
    }
    return newest.owner === null ? null : this.node(newest.owner);
  }

  get leader(): SimNode | null {
    const leaders = this.nodes.filter(({ control }) => control?.raft !== undefined && control.isLeader);
    return leaders[this.random.below(Math.max(1, leaders.length))] ?? null;
  }

  plantData(patient: DataPatient): void {
    const { ledger } = this.account;
    ledger.watch(patient);
    watchServed(patient, ({ epoch, map }) => {
      this.leases.serves(epoch);
      if ('generation' in insideMap(map).options.naming) this.account.takenOver();
    });
    this.bug?.data?.(patient);
  }

  plantControl(control: ControlProcess): void {
    this.bug?.control?.(control);
  }

  /** A node has applied more of the log. */
  applied(_node: SimNode, { registry, raft }: ControlProcess): void {
    this.terms = Math.max(this.terms, raft.status().term);
    this.judge(() =>
      this.leases.applied(registry.nodes(), (name, livenessEpoch) => {
        const { data } = this.node(name);
        return data?.leaseHolds(livenessEpoch) === true;
      }),
    );
  }

  dataDied(_node: SimNode, data: DataProcess): void {
    for (const guest of this.guests) guest.died(data);
  }

  /** Everything is off at once: what was not synced is there or not. */
  losePower(downMs: () => number): void {
    for (const node of this.nodes) node.crash();
    this.disk.losePower(this.random);
    this.account.powerFailed();
    this.isSettling = true;
    for (const node of this.nodes) this.scheduler.in(downMs(), () => node.start());
    settle(this).catch((error: unknown) => this.fail(error));
  }

  /** Runs a check; what it throws ends the world. */
  judge(check: () => void): void {
    try {
      check();
    } catch (error) {
      this.fail(error);
    }
  }

  guestError(guest: string, kind: IoKind, error: ArchipelagoError): void {
    this.guestErrors++;
    // What was asked may have been done all the same.
    if (error.code === 'read-only' && this.holdsUsed) return;
    if ((error.code === 'io-error' || error.code === 'no-space') && this.storeFailed) return;
    const what = kind === IO_READ ? 'a read' : kind === IO_WRITE ? 'a write' : kind === IO_FLUSH ? 'a flush' : 'a trim';
    throw new Violation('guest-errors', `${what} of ${guest} failed: ${error.code}: ${error.message}`);
  }

  fail(error: unknown): void {
    if (error instanceof AssertionFailure) this.problem ??= new Violation('assertions', error.message);
    else this.problem ??= error;
  }

  /** Lets time pass. Throws what went wrong. */
  pass(durationMs: number): Promise<void> {
    const endMs = this.scheduler.nowMs + durationMs;
    return eachTurn(() => {
      this.problem ??= this.account.ledger.failure;
      if (this.problem !== null) throw this.problem;
      this.events++;
      return this.scheduler.step(endMs);
    });
  }

  /** The first leader makes the volume. */
  private async found(): Promise<void> {
    const endMs = this.scheduler.nowMs + FOUNDING_MS;
    let asked = false;
    while (this.nodes.some(({ control }) => control?.registry.byName('v') == null)) {
      if (this.scheduler.nowMs >= endMs) throw new Error('the nodes do not come up');
      await this.pass(100);
      const control = this.leader?.control;
      if (asked || control == null) continue;
      asked = true;
      const sizeBytes = VOLUME_BLOCKS * BLOCK_BYTES;
      const createdAt = new Date(0).toISOString();
      void control
        .propose<'create'>({ type: 'create', name: 'v', sizeBytes, blockSizeBytes: BLOCK_BYTES, labels: {}, importer: null, createdAt })
        .catch((error: unknown) => this.fail(error));
    }
  }

  private deliver(_from: string, to: string, frame: Uint8Array): void {
    const { control, controlHost } = this.node(to);
    if (control?.raft === undefined) return;
    if (controlHost.isPaused) controlHost.in(0, () => this.receive(control, _from, frame));
    else this.receive(control, _from, frame);
  }

  private receive(control: ControlProcess, from: string, frame: Uint8Array): void {
    this.network.counts.delivered++;
    control.receive(from, frame);
  }
}
