/** The control process of a simulated node, put together as `src/node/control/main.ts` does it. */
import { ArchipelagoError, type ErrorBody, type Prng, silentLog } from '../../../../src/base/index.ts';
import type { Command, CommandValues, VolumeRecord } from '../../../../src/mapper/index.ts';
import type { HeartbeatAnswer } from '../../../../src/mapper/leases/index.ts';
import { Registry } from '../../../../src/mapper/registry/index.ts';
import { Channel, type MessagePort } from '../../../../src/node/channel.ts';
import { drain } from '../../../../src/node/control/drain.ts';
import { VolumeHolds } from '../../../../src/node/control/holds.ts';
import { type Heartbeat, NodeLeases } from '../../../../src/node/control/leases.ts';
import { NodeLife } from '../../../../src/node/control/life.ts';
import { proposeUntilKnown } from '../../../../src/node/control/proposing.ts';
import { RaftNode, type RaftStorage } from '../../../../src/raft/index.ts';
import type { Host } from '../../host.ts';
import { onTransmit } from '../../raft/inside.ts';
import type { Setting } from './setting.ts';

const VOLUME = 'v';
const BARRIER_MS = 2_000;
const OPERATION_TIMEOUT_MS = 20_000;

const RAFT_FRAME = 0;
const CALL_FRAME = 1;
const ANSWER_FRAME = 2;

interface Call {
  readonly id: number;
  readonly method: string;
  readonly parameters: unknown;
}

interface Answer {
  readonly id: number;
  readonly method: string;
  readonly value?: unknown;
  readonly error?: ErrorBody;
}

export interface ControlProcessOptions {
  readonly name: string;
  readonly host: Host;
  readonly setting: Setting;
  readonly random: Prng;
  readonly openStorage: () => Promise<RaftStorage>;
  readonly send: (to: string, frame: Uint8Array, kind: string) => void;
  /** Starts a data process, which replaces the one before, and returns the way to it. */
  readonly startData: () => MessagePort;
  readonly endData: () => void;
  readonly fatal: (error: Error) => void;
  readonly applied: (control: ControlProcess) => void;
}

/** What a planted bug may look into. */
export interface ControlPatient {
  readonly name: string;
  readonly raft: RaftNode;
  readonly leases: NodeLeases;
  readonly registry: Registry;
  readonly host: Host;
}

export class ControlProcess implements ControlPatient {
  readonly name: string;
  readonly registry = new Registry();
  readonly host: Host;
  raft!: RaftNode;
  leases!: NodeLeases;
  private readonly life: NodeLife;
  private holds!: VolumeHolds;
  private channel: Channel | null = null;
  private readonly options: ControlProcessOptions;
  private readonly calls = new Map<number, (answer: Answer) => void>();
  private nextCall = 1;
  private sending = '';

  constructor(options: ControlProcessOptions) {
    this.options = options;
    this.name = options.name;
    this.host = options.host;
    this.life = new NodeLife({
      node: options.name,
      registry: this.registry,
      log: silentLog,
      leases: () => this.leases ?? null,
      propose: (command) => this.propose(command),
      restartData: () => this.options.endData(),
    });
  }

  async start(): Promise<void> {
    const { name, host, setting, random, openStorage } = this.options;
    this.raft = await RaftNode.open({
      id: name,
      directory: '',
      bootstrap: [],
      stateMachine: this.registry,
      transport: { send: (to, frame) => this.send(to, RAFT_FRAME, frame, this.sending) },
      clock: host.clock,
      log: silentLog,
      random,
      tickMs: setting.tickMs,
      heartbeatTicks: 1,
      electionTicks: setting.electionTicks,
      keepEntries: setting.keepEntries,
      snapshotChunkBytes: 2_000,
      openStorage,
      onLeaderChange: () => this.leases?.leaderChanged(),
      onApplied: (index) => {
        this.leases?.applied(index);
        this.options.applied(this);
      },
      fatal: this.options.fatal,
    });
    onTransmit(this.raft, (_to, kind) => {
      this.sending = kind;
    });
    this.leases = this.makeLeases();
    this.registry.onChange((change) => this.life.registryChanged(change));
    this.holds = new VolumeHolds({
      node: name,
      clock: host.clock,
      raft: this.raft,
      registry: this.registry,
      livenessEpoch: () => this.life.livenessEpoch,
      find: () => this.find(),
      settle: (node, timeoutMs) => this.atNode(node, 'settle', {}, timeoutMs),
    });
  }

  private makeLeases(): NodeLeases {
    const { name, host, setting } = this.options;
    return new NodeLeases({
      node: name,
      timing: setting.timing,
      renewMs: setting.renewMs,
      clock: host.clock,
      log: silentLog,
      raft: this.raft,
      registry: this.registry,
      send: (leader, heartbeat) => this.call<HeartbeatAnswer | null>(leader, 'heartbeat', heartbeat, setting.timing.leaseMs),
      askData: () => this.life.askData(),
      onDeadline: (livenessEpoch, deadlineMs) => this.life.tellDeadline(livenessEpoch, deadlineMs),
    });
  }

  /** As `activate` of the real one. Rejects when that data process dies first. */
  async startData(): Promise<void> {
    const { name } = this.options;
    const port = this.options.startData();
    const channel = new Channel(port, { propose: (command) => this.propose(command as Command) });
    this.channel = null;
    this.life.end();
    await channel.request('start', {});
    const peerId = `12D3KooW${name.repeat(44).slice(0, 44)}`.replace(/[0OIl]/g, 'x');
    await this.life.begin(channel, { type: 'startNode', name, peerId, controlAddresses: [], dataAddresses: [], version: '1.0.0' });
    this.channel = channel;
  }

  propose<Type extends Command['type']>(command: Extract<Command, { type: Type }>): Promise<CommandValues[Type]> {
    return proposeUntilKnown<Type>(this.raft, this.host.clock, command);
  }

  get isLeader(): boolean {
    return this.raft.status().role === 'leader';
  }

  // ---- what an administrator asks of this node ----

  async find(): Promise<VolumeRecord> {
    await this.raft.readBarrier({ timeoutMs: BARRIER_MS });
    const record = this.registry.byName(VOLUME);
    if (record === null) throw new ArchipelagoError('not-found', 'there is no volume yet');
    return record;
  }

  async migrate(to: string): Promise<unknown> {
    const { id, owner } = await this.find();
    if (owner === null) return this.atNode(to, 'own', { id });
    return this.atNode(owner.node, 'handOver', { id, to });
  }

  async snapshot(name: string): Promise<VolumeRecord> {
    const { id, owner } = await this.find();
    return this.atNode(owner?.node ?? this.name, 'snapshot', { id, name });
  }

  open(shared: boolean): Promise<unknown> {
    return this.holds.open(VOLUME, shared);
  }

  close(): Promise<unknown> {
    return this.holds.close(VOLUME);
  }

  lock(): Promise<unknown> {
    return this.holds.lock(VOLUME);
  }

  unlock(force: boolean): Promise<unknown> {
    return this.holds.unlock(VOLUME, force);
  }

  drain(targets: readonly string[]): Promise<number> {
    const child = { request: <Value>(method: string, parameters: unknown) => this.toData<Value>(method, parameters) };
    return drain({ child, targets, last: false, clock: this.host.clock, log: silentLog });
  }

  // ---- links between control processes ----

  receive(from: string, frame: Uint8Array): void {
    const body = frame.subarray(1);
    if (frame[0] === RAFT_FRAME) {
      this.raft.receive(from, body);
      return;
    }
    const text = new TextDecoder().decode(body);
    if (frame[0] === CALL_FRAME) void this.answer(from, JSON.parse(text) as Call);
    else {
      const answer = JSON.parse(text) as Answer;
      this.calls.get(answer.id)?.(answer);
    }
  }

  private async answer(from: string, { id, method, parameters }: Call): Promise<void> {
    const answer: Answer = await this.serve(method, parameters).then(
      (value) => ({ id, method, value }),
      (error: unknown) => ({ id, method, error: ArchipelagoError.from(error, method).toBody() }),
    );
    this.send(from, ANSWER_FRAME, new TextEncoder().encode(JSON.stringify(answer)), `${method} answer`);
  }

  private async serve(method: string, parameters: unknown): Promise<unknown> {
    if (method === 'heartbeat') return this.leases.answer(parameters as Heartbeat);
    if (method === 'settle') {
      await this.raft.readBarrier({ timeoutMs: BARRIER_MS });
      return this.toData('ping', {});
    }
    return this.toData(method, parameters);
  }

  private toData<Value>(method: string, parameters: unknown): Promise<Value> {
    if (this.channel !== null) return this.channel.request<Value>(method, parameters);
    return Promise.reject(new ArchipelagoError('unavailable', 'the data process is being started'));
  }

  private atNode<Value>(node: string, method: string, parameters: object, timeoutMs = OPERATION_TIMEOUT_MS): Promise<Value> {
    return node === this.name ? (this.serve(method, parameters) as Promise<Value>) : this.call(node, method, parameters, timeoutMs);
  }

  private call<Value>(to: string, method: string, parameters: unknown, timeoutMs: number): Promise<Value> {
    const id = this.nextCall++;
    return new Promise((resolve, reject) => {
      const timer = this.host.clock.setTimer(timeoutMs, () => {
        this.calls.delete(id);
        reject(new ArchipelagoError('timeout', `node ${to} did not answer '${method}'`));
      });
      this.calls.set(id, ({ value, error }) => {
        timer.cancel();
        this.calls.delete(id);
        if (error) reject(ArchipelagoError.fromBody(error));
        else resolve(value as Value);
      });
      this.send(to, CALL_FRAME, new TextEncoder().encode(JSON.stringify({ id, method, parameters })), method);
    });
  }

  private send(to: string, kind: number, body: Uint8Array, what: string): void {
    const frame = new Uint8Array(body.byteLength + 1);
    frame[0] = kind;
    frame.set(body, 1);
    this.options.send(to, frame, what);
  }
}
