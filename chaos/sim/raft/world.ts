/** One seeded world: members that run the production code on simulated hosts, disks and network, with every checker watching. */
import { AssertionFailure, Prng, silentLog } from '../../../src/base/index.ts';
import { configurationOf, RaftNode } from '../../../src/raft/index.ts';
import { AppliedOnce } from '../../checkers/applied-once.ts';
import { type Checker, type Observed, type Surroundings, Violation } from '../../checkers/checker.ts';
import { CommittedSurvives } from '../../checkers/committed-survives.ts';
import { checkLinearizable } from '../../checkers/linearizability.ts';
import { LogMatching } from '../../checkers/log-matching.ts';
import { MembershipSafety } from '../../checkers/membership-safety.ts';
import { Monotonic } from '../../checkers/monotonic.ts';
import { OneLeaderATerm } from '../../checkers/one-leader-a-term.ts';
import { StatesAgree } from '../../checkers/states-agree.ts';
import { Host } from '../host.ts';
import { Network } from '../network.ts';
import { Scheduler } from '../scheduler.ts';
import type { Bug } from './bugs/bug.ts';
import { Clients } from './clients.ts';
import { Disk, type DiskCounts, SimulatedDiskError } from './disk.ts';
import { inside } from './inside.ts';
import { Nemesis, type NemesisCounts } from './nemesis.ts';
import { encodeWrite, Registers } from './registers.ts';

export interface WorldReport {
  readonly seed: number;
  /** Delivered frames, finished disk operations and client operations. */
  readonly events: number;
  readonly faults: NemesisCounts;
  readonly network: Network['counts'];
  readonly disk: DiskCounts;
  readonly elections: number;
  readonly acknowledgedWrites: number;
  readonly snapshotsInstalled: number;
  /** Simulated time until all agreed after the faults ended. */
  readonly convergedMs: number;
}

/** A world that did not come to rest after all faults had ended. */
export class Stuck extends Error {
  override readonly name = 'Stuck';
}

/** A running member. */
export interface Member {
  readonly node: RaftNode;
  readonly registers: Registers;
  /** Calls back when this life ends. */
  onCrash(callback: () => void): void;
}

const FAULTS_MS = 20_000;
const CONVERGENCE_MS = 30_000;
/** Turns of the microtask queue between events; what is left over runs in the same order in every run. */
const TURNS = 8;

interface Place {
  readonly host: Host;
  readonly disk: Disk;
  member: Member | null;
  /** The process was started and is reading its disk. */
  booting: boolean;
  /** Observed after its events while it runs. */
  observed: Observed | null;
  crashCallbacks: (() => void)[];
}

export class World implements Surroundings {
  readonly scheduler = new Scheduler();
  readonly network: Network;
  readonly ids: readonly string[];
  readonly initialVoters: readonly string[];
  private readonly seed: number;
  private readonly random: Prng;
  private readonly bug: Bug | null;
  private readonly places = new Map<string, Place>();
  private readonly checkers: readonly Checker[];
  private readonly leaders = new OneLeaderATerm();
  private readonly appliedOnce = new AppliedOnce();
  private readonly clients: Clients;
  private readonly diskCounts: DiskCounts = { writes: 0, slow: 0, errors: 0, lostAtCrash: 0, savedAtCrash: 0 };
  private readonly keepEntries: number;
  private readonly maxAppendBytes: number;
  private readonly diskMs: number;
  /** Members with events since the checkers looked last. */
  private readonly touched = new Set<string>();
  private snapshotsInstalled = 0;
  private problem: Error | null = null;

  constructor(seed: number, bug: Bug | null) {
    this.seed = seed;
    this.random = new Prng(seed);
    this.bug = bug;
    const size = this.random.chance(0.6) ? 3 : 5;
    this.ids = ['a', 'b', 'c', 'd', 'e', 'f', 'g'].slice(0, size + 2);
    this.initialVoters = this.ids.slice(0, size);
    this.keepEntries = this.random.chance(0.5) ? 8 : 200;
    // One entry a message in some worlds: then followers are often half-way.
    this.maxAppendBytes = this.random.chance(0.4) ? 1 : 100_000;
    this.checkers = [
      this.leaders,
      new CommittedSurvives(),
      new LogMatching(),
      new StatesAgree(),
      this.appliedOnce,
      new MembershipSafety(),
      new Monotonic(),
    ];
    this.diskMs = [1, 10, 60][this.random.below(3)] as number;
    this.network = new Network(this.scheduler, this.random.fork(), (from, to, frame) => this.deliver(from, to, frame));
    for (const id of this.ids) this.found(id);
    this.clients = new Clients(this.scheduler, this.random.fork(), () => this.pickMember(), this.appliedOnce, 5 + this.random.below(80));
  }

  /** Throws what went wrong: a `Violation`, `Stuck`, or a crash of the code under test. */
  async run(): Promise<WorldReport> {
    for (const id of this.ids) await this.boot(id);
    const nemesis = new Nemesis(this, this.random.fork());
    nemesis.start();
    this.clients.start(3 + this.random.below(4));
    await this.pass(FAULTS_MS);
    this.clients.stop();
    nemesis.stop();
    const healedAtMs = this.scheduler.nowMs;
    await this.converge();
    const convergedMs = this.scheduler.nowMs - healedAtMs;
    for (const checker of this.checkers) checker.end?.(this);
    checkLinearizable(this.clients.history);
    const { acknowledgedWrites, completed } = this.clients;
    const { network, diskCounts, leaders, snapshotsInstalled, seed } = this;
    const events = network.counts.delivered + diskCounts.writes + completed;
    const { counts: faults } = nemesis;
    return {
      seed,
      events,
      faults,
      network: network.counts,
      disk: diskCounts,
      elections: leaders.elections,
      acknowledgedWrites,
      snapshotsInstalled,
      convergedMs,
    };
  }

  // --- for the nemesis ---

  isUp(id: string): boolean {
    return this.place(id).member !== null;
  }

  member(id: string): Member | null {
    return this.place(id).member;
  }

  host(id: string): Host {
    return this.place(id).host;
  }

  disk(id: string): Disk {
    return this.place(id).disk;
  }

  crash(id: string): void {
    const place = this.place(id);
    if (place.member === null) return;
    place.host.crash();
    place.disk.crash();
    place.member = null;
    place.observed = null;
    for (const callback of place.crashCallbacks.splice(0)) callback();
  }

  restart(id: string): void {
    const place = this.place(id);
    if (place.member === null && !place.booting) this.boot(id).catch((error: unknown) => this.fail(error));
  }

  // --- for the checkers ---

  durableAt(id: string, index: number, term: number): boolean {
    return this.place(id).disk.holds(index, term);
  }

  *running(): Iterable<Observed> {
    for (const { observed } of this.places.values()) if (observed !== null) yield observed;
  }

  private place(id: string): Place {
    const place = this.places.get(id);
    if (place === undefined) throw new Error(`no host ${id}`);
    return place;
  }

  private found(id: string): void {
    const host = new Host(id, this.scheduler, 0.9 + this.random.unit() * 0.2, () => this.touched.add(id));
    const voters = this.initialVoters.includes(id) ? this.initialVoters : [];
    const disk = new Disk(host, configurationOf(voters), this.random.fork(), this.diskCounts);
    disk.conditions.writeMs = this.diskMs;
    this.places.set(id, { host, disk, member: null, booting: false, observed: null, crashCallbacks: [] });
  }

  private async boot(id: string): Promise<void> {
    const place = this.place(id);
    const alive = place.host.lifeline();
    place.booting = true;
    const storage = place.disk.open();
    const registers = new Registers({
      ran: (index, write) => {
        if (alive()) this.check((checker) => checker.ran?.(id, index, write));
      },
      loaded: (values) => {
        if (storage.applied > storage.initial.applied) this.snapshotsInstalled++;
        this.check((checker) => checker.loaded?.(id, storage.applied, values));
      },
    });
    const node = await RaftNode.open({
      id,
      directory: '',
      bootstrap: [],
      stateMachine: registers,
      transport: {
        send: (to, frame) => {
          if (alive()) this.network.send(id, to, frame);
        },
      },
      clock: place.host.clock,
      log: silentLog,
      random: this.random.fork(),
      keepEntries: this.keepEntries,
      core: { maxAppendBytes: this.maxAppendBytes },
      snapshotChunkBytes: 64,
      openStorage: async () => storage,
      onApplied: (index) => this.check((checker) => checker.applied?.(id, index)),
      fatal: (error) => this.onFatal(id, error),
    });
    place.booting = false;
    if (!alive()) return;
    const { state } = inside(node);
    place.member = { node, registers, onCrash: (callback) => place.crashCallbacks.push(callback) };
    place.observed = { id, state };
    this.bug?.plant({ id, node, disk: place.disk, inside: inside(node) });
  }

  private deliver(from: string, to: string, frame: Uint8Array): void {
    const { host, member } = this.place(to);
    if (member === null) return;
    // A paused process finds the frame when it goes on.
    host.in(0, () => {
      this.network.counts.delivered++;
      member.node.receive(from, frame);
    });
  }

  private afterEvent(id: string): void {
    const { observed } = this.place(id);
    if (observed === null) return;
    this.check((checker) => checker.afterEvent?.(observed, this));
  }

  /** A failed disk ends the process, as it should; anything else is ours. */
  private onFatal(id: string, error: Error): void {
    if (error instanceof SimulatedDiskError) {
      this.crash(id);
      this.scheduler.in(500, () => this.restart(id));
    } else {
      this.fail(error);
    }
  }

  private check(ask: (checker: Checker) => void): void {
    try {
      for (const checker of this.checkers) ask(checker);
    } catch (error) {
      this.fail(error);
    }
  }

  private fail(error: unknown): void {
    if (error instanceof AssertionFailure) this.problem ??= new Violation('assertions', error.message);
    else this.problem ??= error instanceof Error ? error : new Error(String(error));
  }

  private pickMember(): Member | null {
    const up = this.ids.filter((id) => this.isUp(id));
    return up.length === 0 ? null : this.member(up[this.random.below(up.length)] as string);
  }

  private async pass(durationMs: number): Promise<void> {
    const endMs = this.scheduler.nowMs + durationMs;
    while (this.scheduler.step(endMs)) {
      for (let turn = 0; turn < TURNS; turn++) await null;
      for (const id of this.touched) this.afterEvent(id);
      this.touched.clear();
      if (this.problem !== null) throw this.problem;
    }
  }

  /** All faults are over: everyone must agree soon, and each member's proposal must be taken. */
  private async converge(): Promise<void> {
    const endMs = this.scheduler.nowMs + CONVERGENCE_MS;
    while (!this.hasConverged()) {
      if (this.scheduler.nowMs >= endMs) throw new Stuck(`no agreement ${CONVERGENCE_MS} ms after healing: ${this.describe()}`);
      await this.pass(200);
    }
    const voters = this.voters();
    const answers: Promise<unknown>[] = [];
    for (const id of voters) {
      const { node } = this.member(id) as Member;
      const operation = -1 - answers.length;
      answers.push(node.propose(encodeWrite({ operation, key: 'last', value: id }), { timeoutMs: CONVERGENCE_MS }), node.readBarrier());
    }
    let outcome = 'pending' as Error | 'pending' | 'all';
    Promise.all(answers).then(
      () => {
        outcome = 'all';
      },
      (error: unknown) => {
        outcome = new Stuck(`a proposal or read after healing fails: ${String(error)}; ${this.describe()}`);
      },
    );
    const lastMs = this.scheduler.nowMs + CONVERGENCE_MS;
    while (outcome === 'pending' && this.scheduler.nowMs < lastMs) await this.pass(100);
    if (outcome !== 'all') throw outcome === 'pending' ? new Stuck(`proposals after healing get no answer: ${this.describe()}`) : outcome;
    await this.pass(2_000);
    if (!this.hasConverged()) throw new Stuck(`the last proposals do not arrive everywhere: ${this.describe()}`);
  }

  private voters(): readonly string[] {
    return this.leader()?.status().voters ?? [];
  }

  private leader(): RaftNode | null {
    let leader: RaftNode | null = null;
    let term = -1;
    for (const id of this.ids) {
      const node = this.member(id)?.node;
      const status = node?.status();
      if (node === undefined || status?.role !== 'leader' || status.term <= term) continue;
      leader = node;
      term = status.term;
    }
    return leader;
  }

  private hasConverged(): boolean {
    const leader = this.leader();
    if (leader === null) return false;
    const { term, leader: id, commitIndex, voters, learners } = leader.status();
    if (!leader.coreStatus().membershipSettled || leader.coreStatus().lastIndex !== commitIndex) return false;
    return [...voters, ...learners].every((member) => {
      const status = this.member(member)?.node.status();
      return status?.term === term && status.leader === id && status.appliedIndex === commitIndex;
    });
  }

  private describe(): string {
    return this.ids
      .map((id) => {
        const status = this.member(id)?.node.status();
        return status === undefined
          ? `${id} down`
          : `${id} ${status.role} t${status.term} →${status.leader} c${status.commitIndex} a${status.appliedIndex}`;
      })
      .join('; ');
  }
}
