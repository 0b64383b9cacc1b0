/** One seeded world: members that run the production code on simulated hosts, disks and network, with every checker watching. */
import { ArchipelagoError, AssertionFailure, Prng, silentLog } from '../../../src/base/index.ts';
import type { CoreState } from '../../../src/raft/core/state.ts';
import { configurationOf, type Entry, RaftNode, type RaftOptions, type RaftStorage, type Role } from '../../../src/raft/index.ts';
import { AppliedOnce } from '../../checkers/applied-once.ts';
import { type Checker, type Observed, type Surroundings, Violation } from '../../checkers/checker.ts';
import { CommittedSurvives } from '../../checkers/committed-survives.ts';
import { checkLinearizable } from '../../checkers/linearizability.ts';
import { LogMatching } from '../../checkers/log-matching.ts';
import { MembershipSafety } from '../../checkers/membership-safety.ts';
import { MembershipsAgree } from '../../checkers/memberships-agree.ts';
import { Monotonic } from '../../checkers/monotonic.ts';
import { OneLeaderATerm } from '../../checkers/one-leader-a-term.ts';
import { PreVotes } from '../../checkers/pre-votes.ts';
import { StatesAgree } from '../../checkers/states-agree.ts';
import { Host } from '../host.ts';
import { Network, type NetworkCounts } from '../network.ts';
import { Scheduler } from '../scheduler.ts';
import { eachTurn } from '../turns.ts';
import type { Bug } from './bugs/bug.ts';
import { Clients } from './clients.ts';
import { converge } from './convergence.ts';
import { Disk, type DiskCounts, NO_DISK_COUNTS, SimulatedDiskError } from './disk.ts';
import { entriesOf, inside, onTransmit } from './inside.ts';
import { LevelDisk } from './level-disk.ts';
import { Nemesis, type NemesisCounts } from './nemesis.ts';
import { Registers, type RegistersObserver } from './registers.ts';
import { drawSetting, type Setting } from './setting.ts';

export interface WorldReport {
  readonly seed: number;
  /** Delivered frames, finished disk operations and client operations. */
  readonly events: number;
  readonly faults: NemesisCounts;
  readonly network: NetworkCounts;
  readonly disk: DiskCounts;
  readonly elections: number;
  readonly acknowledgedWrites: number;
  readonly snapshotsInstalled: number;
  /** Simulated time until all agreed after the faults ended. */
  readonly convergedMs: number;
}

type Hook = Exclude<keyof Checker, 'name'>;

/** A running member. */
export interface Member {
  readonly node: RaftNode;
  readonly registers: Registers;
  /** Called when this life ends. */
  readonly waiting: Set<() => void>;
}

const NOTHING_SEEN: Seen = { state: null, role: 'follower', term: 0, committed: 0, baseIndex: 0, end: undefined };

/** What the nemesis may wait for. */
export interface Watch {
  /** A member hands a frame of a kind to the network. */
  sent(id: string, to: string, kind: string): void;
  /** A member has begun to lead. */
  leads(id: string): void;
}

/** As long as nothing of this changes, no checker has anything new to see. */
interface Seen {
  state: CoreState | null;
  role: Role;
  term: number;
  committed: number;
  baseIndex: number;
  end: Entry | undefined;
}

interface Place {
  readonly id: string;
  readonly host: Host;
  readonly disk: Disk;
  readonly keepEntries: number;
  member: Member | null;
  /** The process was started and is reading its disk. */
  booting: boolean;
  /** Observed after its events while it runs. */
  observed: Observed | null;
  ledTerm: number;
  /** What the checkers saw of it last. */
  readonly seen: Seen;
  /** The kind of the frame that it hands to the transport. */
  sending: string;
}

export class World implements Surroundings {
  readonly scheduler = new Scheduler();
  readonly setting: Setting;
  readonly network: Network;
  readonly ids: readonly string[];
  readonly initialVoters: readonly string[];
  /** The nemesis, if it waits for something. */
  watch: Watch | null = null;
  private readonly seed: number;
  private readonly random: Prng;
  private readonly bug: Bug | null;
  private readonly places = new Map<string, Place>();
  /** By what they want to hear of. */
  private readonly checkers: Readonly<Record<Hook, readonly Checker[]>>;
  private readonly leaders = new OneLeaderATerm();
  private readonly clients: Clients;
  private readonly diskCounts: DiskCounts = { ...NO_DISK_COUNTS };
  /** Members with events since the checkers looked last. */
  private readonly touched: Place[] = [];
  private snapshotsInstalled = 0;
  private problem: Error | null = null;

  constructor(seed: number, bug: Bug | null) {
    this.seed = seed;
    this.random = new Prng(seed);
    this.bug = bug;
    this.setting = drawSetting(this.random.fork());
    const { voters, spares, clients } = this.setting;
    this.ids = ['a', 'b', 'c', 'd', 'e', 'f', 'g'].slice(0, voters + spares);
    this.initialVoters = this.ids.slice(0, voters);
    const checkers: readonly Checker[] = [
      this.leaders,
      new CommittedSurvives(),
      new LogMatching(),
      new StatesAgree(),
      new AppliedOnce(),
      new MembershipSafety(),
      new MembershipsAgree(),
      new PreVotes(),
      new Monotonic(),
    ];
    const of = (hook: Hook) => checkers.filter((checker) => checker[hook] !== undefined);
    this.checkers = {
      afterEvent: of('afterEvent'),
      sent: of('sent'),
      refused: of('refused'),
      ran: of('ran'),
      loaded: of('loaded'),
      applied: of('applied'),
    };
    this.network = new Network(this.scheduler, this.random.fork(), (from, to, frame) => this.deliver(from, to, frame));
    for (const id of this.ids) this.found(id);
    const noteRefused = (operation: number) => this.check('refused', (checker) => checker.refused?.(operation));
    this.clients = new Clients(this.scheduler, this.random.fork(), () => this.pickMember(), noteRefused, clients);
  }

  /** Throws what went wrong: a `Violation`, `Stuck`, or a crash of the code under test. */
  async run(): Promise<WorldReport> {
    for (const id of this.ids) this.restart(id);
    const nemesis = new Nemesis(this, this.random.fork());
    nemesis.start();
    this.clients.start();
    await this.pass(this.setting.faultsMs);
    this.clients.stop();
    nemesis.stop();
    const healedAtMs = this.scheduler.nowMs;
    await converge(this);
    const convergedMs = this.scheduler.nowMs - healedAtMs;
    checkLinearizable(this.clients.history);
    const { acknowledgedWrites, completed } = this.clients;
    const { network, diskCounts, leaders, snapshotsInstalled, seed } = this;
    return {
      seed,
      events: network.counts.delivered + diskCounts.completed + completed,
      faults: nemesis.counts,
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

  /** Of its log, for followers that are behind. */
  keptEntries(id: string): number {
    return this.place(id).keepEntries;
  }

  crash(id: string): void {
    const place = this.place(id);
    const { member } = place;
    if (member === null && !place.booting) return;
    place.host.crash();
    place.disk.crash();
    place.member = null;
    place.booting = false;
    place.observed = null;
    for (const end of member?.waiting ?? []) end();
  }

  restart(id: string): void {
    const place = this.place(id);
    if (place.member === null && !place.booting) this.boot(place).catch((error: unknown) => this.fail(error));
  }

  // --- for the checkers ---

  durableAt(id: string, index: number, term: number): boolean {
    return this.place(id).disk.holds(index, term);
  }

  private place(id: string): Place {
    const place = this.places.get(id);
    if (place === undefined) throw new Error(`no host ${id}`);
    return place;
  }

  private found(id: string): void {
    const touched = () => {
      if (this.touched.at(-1) !== place) this.touched.push(place);
    };
    const host = new Host(id, this.scheduler, 0.9 + this.random.unit() * 0.2, touched);
    const voters = this.initialVoters.includes(id) ? this.initialVoters : [];
    const disk = new (this.setting.records ? LevelDisk : Disk)(host, configurationOf(voters), this.random.fork(), this.diskCounts);
    disk.conditions.writeMs = this.setting.diskMs;
    const { keepEntries: choice } = this.setting;
    const keepEntries = choice[this.random.below(choice.length)] as number;
    const place: Place = {
      id,
      host,
      disk,
      keepEntries,
      member: null,
      booting: false,
      observed: null,
      ledTerm: 0,
      seen: { ...NOTHING_SEEN },
      sending: '',
    };
    this.places.set(id, place);
  }

  private async boot(place: Place): Promise<void> {
    const { id, host, disk } = place;
    const alive = host.lifeline();
    place.booting = true;
    const registers = this.registersOf(place, alive);
    let node: RaftNode;
    try {
      node = await RaftNode.open(this.optionsOf(place, registers, alive));
    } catch (error) {
      if (alive()) this.onFatal(id, error);
      return;
    }
    if (!alive()) return;
    place.booting = false;
    const { state } = inside(node);
    const observed: Observed = {
      id,
      state,
      get entries() {
        return entriesOf(state);
      },
    };
    place.member = { node, registers: registers.machine, waiting: new Set() };
    place.observed = observed;
    place.ledTerm = 0;
    onTransmit(node, (to, kind, message) => {
      if (!alive()) return;
      place.sending = kind;
      if (message !== null) this.check('sent', (checker) => checker.sent?.(observed, message));
      this.watch?.sent(id, to, kind);
    });
    this.bug?.plant({ id, node, disk, inside: inside(node) });
  }

  private registersOf({ id }: Place, alive: () => boolean): { readonly machine: Registers; storage: RaftStorage | null } {
    const observer: RegistersObserver = {
      ran: (index, write) => {
        if (alive()) this.check('ran', (checker) => checker.ran?.(id, index, write));
      },
      loaded: (values) => {
        const { storage } = registers;
        if (storage === null || !alive()) return;
        if (storage.applied > storage.initial.applied) this.snapshotsInstalled++;
        this.check('loaded', (checker) => checker.loaded?.(id, storage.applied, values));
      },
    };
    const registers = { machine: new Registers(observer), storage: null as RaftStorage | null };
    return registers;
  }

  private optionsOf(place: Place, registers: { readonly machine: Registers; storage: RaftStorage | null }, alive: () => boolean): RaftOptions {
    const { id, host, disk, keepEntries } = place;
    const { electionTicks, heartbeatTicks, core, snapshotChunkBytes } = this.setting;
    return {
      id,
      directory: '',
      bootstrap: [],
      stateMachine: registers.machine,
      transport: {
        send: (to, frame) => {
          if (alive()) this.network.send(id, to, frame, place.sending);
        },
      },
      clock: host.clock,
      log: silentLog,
      random: this.random.fork(),
      electionTicks,
      heartbeatTicks,
      keepEntries,
      core,
      snapshotChunkBytes,
      openStorage: async () => {
        registers.storage = await disk.open();
        return registers.storage;
      },
      onApplied: (index) => {
        if (alive()) this.check('applied', (checker) => checker.applied?.(id, index));
      },
      fatal: (error) => {
        if (alive()) this.onFatal(id, error);
      },
    };
  }

  private deliver(from: string, to: string, frame: Uint8Array): void {
    const place = this.place(to);
    const { host, member } = place;
    if (member === null) return;
    // A paused process finds the frame when it goes on.
    if (host.isPaused) {
      host.in(0, () => this.receive(member, from, frame));
    } else {
      host.touched();
      this.receive(member, from, frame);
    }
  }

  private receive(member: Member, from: string, frame: Uint8Array): void {
    this.network.counts.delivered++;
    member.node.receive(from, frame);
  }

  /** A failed disk ends the process, as it should; anything else is ours. */
  private onFatal(id: string, error: unknown): void {
    if (error instanceof ArchipelagoError && error.code === 'corrupt') {
      this.fail(new Violation('recovery', `${id} does not take its disk back after a crash: ${error.message}`));
    } else if (isInjected(error)) {
      this.crash(id);
      this.scheduler.in(100, () => this.restart(id));
    } else {
      this.fail(error);
    }
  }

  private check(hook: Hook, ask: (checker: Checker) => void): void {
    try {
      for (const checker of this.checkers[hook]) ask(checker);
    } catch (error) {
      this.fail(error);
    }
  }

  private fail(error: unknown): void {
    if (error instanceof AssertionFailure) this.problem ??= new Violation('assertions', error.message);
    else this.problem ??= error instanceof Error ? error : new Error(String(error));
  }

  private pickMember(): Member | null {
    const { ids } = this;
    const start = this.random.below(ids.length);
    for (let at = 0; at < ids.length; at++) {
      const member = this.member(ids[(start + at) % ids.length] as string);
      if (member !== null) return member;
    }
    return null;
  }

  /** Lets time pass. Throws what went wrong. */
  pass(durationMs: number): Promise<void> {
    const endMs = this.scheduler.nowMs + durationMs;
    return eachTurn(() => {
      this.look();
      if (this.problem !== null) throw this.problem;
      return this.scheduler.step(endMs);
    });
  }

  /** At what the last event has done. */
  private look(): void {
    const { touched } = this;
    for (const place of touched) {
      const { observed } = place;
      if (observed === null || !hasNews(place.seen, observed)) continue;
      this.check('afterEvent', (checker) => checker.afterEvent?.(observed, this));
      const { role, term } = observed.state;
      if (role !== 'leader' || place.ledTerm === term) continue;
      place.ledTerm = term;
      this.watch?.leads(place.id);
    }
    touched.length = 0;
  }
}

/** Whether a member's event changed something that checkers look at; notes what it is now. */
function hasNews(seen: Seen, { state, entries }: Observed): boolean {
  const { role, term, log } = state;
  const end = entries[entries.length - 1];
  const { committed, baseIndex } = log;
  const isOld =
    seen.state === state &&
    seen.role === role &&
    seen.term === term &&
    seen.committed === committed &&
    seen.baseIndex === baseIndex &&
    seen.end === end;
  if (isOld) return false;
  seen.state = state;
  seen.role = role;
  seen.term = term;
  seen.committed = committed;
  seen.baseIndex = baseIndex;
  seen.end = end;
  return true;
}

/** Whether an error is one that the simulator injected, however often it was passed on. */
function isInjected(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return error instanceof SimulatedDiskError || isInjected(error.cause);
}
