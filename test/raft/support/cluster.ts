/**
 * Running members in one process: real directories, time that the test moves, and a network that it can cut. Time moves only while no disk
 * works, so no timeout depends on the speed of the machine.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ManualClock } from '../../../chaos/sim/manual-clock.ts';
import { ArchipelagoError, Prng, silentLog } from '../../../src/base/index.ts';
import { LevelStorage, RaftNode, type RaftOptions } from '../../../src/raft/index.ts';
import { Registers } from './register.ts';

const STEP_MS = 20;
/** Simulated time after which a story has failed. */
const PATIENCE_MS = 60_000;

interface Member {
  node: RaftNode;
  machine: Registers;
}

type Link = `${string}>${string}`;

export class Cluster {
  readonly clock = new ManualClock();
  readonly members = new Map<string, Member>();
  /** What `fatal` was called with; a story that expects one takes it out. */
  readonly failures: Error[] = [];
  /** Members whose next writes their disk refuses. */
  readonly brokenDisks = new Set<string>();
  /** Drops frames for which it is false. */
  allow: (from: string, to: string, frame: Uint8Array) => boolean = () => true;
  private readonly root = mkdtempSync(join(tmpdir(), 'raft-'));
  private readonly random: Prng;
  private readonly voters: readonly string[];
  private readonly overrides: Partial<RaftOptions>;
  private readonly cut = new Set<Link>();
  private frames: { from: string; to: string; frame: Uint8Array }[] = [];
  private disksAtWork = 0;
  onFlush: (id: string) => void = () => {};
  onSend: (id: string) => void = () => {};
  /** Frames that any member sent. */
  sent = 0;
  /** Batches that any disk was given. */
  writes = 0;

  static async start(voters: readonly string[], options: { seed?: number; overrides?: Partial<RaftOptions> } = {}): Promise<Cluster> {
    const cluster = new Cluster(voters, options);
    for (const id of voters) await cluster.open(id);
    return cluster;
  }

  private constructor(voters: readonly string[], options: { seed?: number; overrides?: Partial<RaftOptions> }) {
    this.voters = voters;
    this.random = new Prng(options.seed ?? 1);
    this.overrides = options.overrides ?? {};
  }

  directory(id: string): string {
    return join(this.root, id);
  }

  async open(id: string, options: { bootstrap?: readonly string[] } = {}): Promise<RaftNode> {
    const machine = new Registers();
    const node = await RaftNode.open({
      id,
      directory: this.directory(id),
      bootstrap: options.bootstrap ?? this.voters,
      stateMachine: machine,
      transport: {
        send: (to, frame) => {
          this.sent++;
          this.onSend(id);
          this.frames.push({ from: id, to, frame });
        },
        flush: () => this.onFlush(id),
      },
      clock: this.clock,
      log: silentLog,
      random: this.random.fork(),
      fatal: (error) => this.failures.push(error),
      openStorage: async () =>
        this.watched(id, await LevelStorage.open({ id, directory: this.directory(id), bootstrap: options.bootstrap ?? this.voters, log: silentLog })),
      ...this.overrides,
    });
    this.members.set(id, { node, machine });
    return node;
  }

  node(id: string): RaftNode {
    return this.member(id).node;
  }

  machine(id: string): Registers {
    return this.member(id).machine;
  }

  /** Ends a member as a crash would, but for what its disk was doing. */
  async kill(id: string): Promise<void> {
    const { node } = this.member(id);
    this.members.delete(id);
    await node.stop();
  }

  async stop(): Promise<void> {
    for (const id of [...this.members.keys()]) await this.kill(id);
    rmSync(this.root, { recursive: true });
    if (this.failures.length > 0) throw this.failures[0];
  }

  /** Cuts every link between the groups. */
  partition(...groups: (readonly string[])[]): void {
    this.cut.clear();
    for (const [position, group] of groups.entries()) {
      for (const other of groups.slice(position + 1).flat()) {
        for (const id of group) this.cut.add(`${id}>${other}`).add(`${other}>${id}`);
      }
    }
  }

  heal(): void {
    this.cut.clear();
  }

  leaders(): string[] {
    return [...this.members].filter(([, { node }]) => node.status().role === 'leader').map(([id]) => id);
  }

  /** The one leader, among `ids` (default: everyone), that all of them follow, once there is one. */
  async leader(ids: readonly string[] = [...this.members.keys()]): Promise<string> {
    let leader: string | null = null;
    await this.until(
      () => {
        const followed = new Set(ids.map((id) => this.node(id).status().leader));
        [leader = null] = followed;
        return followed.size === 1 && leader !== null && ids.includes(leader) && this.node(leader).status().role === 'leader';
      },
      `${ids.join(', ')} follow one leader`,
    );
    return leader as unknown as string;
  }

  /** Lets time, network and disks work until `condition` holds. */
  async until(condition: () => boolean, what: string): Promise<void> {
    const end = this.clock.nowMs() + PATIENCE_MS;
    while (!condition()) {
      if (this.failures.length > 0) throw this.failures[0];
      if (this.clock.nowMs() >= end) throw new Error(`not within ${PATIENCE_MS} simulated ms: ${what}; ${JSON.stringify(this.statuses())}`);
      await this.turn();
    }
  }

  /** Waits for a promise while the world goes on. */
  async settle<Value>(promise: Promise<Value>, what = 'an answer'): Promise<Value> {
    let done = false;
    const noted = promise.finally(() => {
      done = true;
    });
    // Whoever awaits `noted` below hears of it; until then a rejection is not an accident.
    noted.catch(() => {});
    await this.until(() => done, what);
    return noted;
  }

  async pass(ms: number): Promise<void> {
    const end = this.clock.nowMs() + ms;
    await this.until(() => this.clock.nowMs() >= end, 'time passes');
  }

  async append(id: string, key: string, text: string, timeoutMs = 20_000): Promise<string> {
    return new TextDecoder().decode(
      await this.settle(this.node(id).propose(Registers.command({ key, append: text }), { timeoutMs }), `${id} appends ${text}`),
    );
  }

  statuses(): object[] {
    return [...this.members.values()].map(({ node }) => node.status());
  }

  private member(id: string): Member {
    const member = this.members.get(id);
    if (member === undefined) throw new Error(`${id} does not run`);
    return member;
  }

  private async turn(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    const frames = this.frames;
    this.frames = [];
    for (const { from, to, frame } of frames) {
      if (!this.members.has(from) || this.cut.has(`${from}>${to}`) || !this.allow(from, to, frame)) continue;
      this.members.get(to)?.node.receive(from, frame);
    }
    if (this.disksAtWork === 0 && frames.length === 0) this.clock.advance(STEP_MS);
  }

  /** Counts the operations under way, so that time can stand still meanwhile; also those of the views and stagings that a storage gives. */
  private watched<Watched extends object>(id: string, storage: Watched): Watched {
    return new Proxy(storage, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        return (...parameters: unknown[]) => {
          if (name === 'write' && this.brokenDisks.has(id)) return Promise.reject(new ArchipelagoError('io-error', 'the disk is broken'));
          if (name === 'write') this.writes++;
          const result: unknown = Reflect.apply(value, target, parameters);
          if (!(result instanceof Promise)) return result;
          this.disksAtWork++;
          const finished = result.finally(() => {
            this.disksAtWork--;
          });
          return name === 'stage' || name === 'view' ? finished.then((given: object) => this.watched(id, given)) : finished;
        };
      },
    });
  }
}
