/** The data process of a simulated node, put together as `src/node/data/main.ts` does it. */
import { ArchipelagoError, type LivenessEpoch, type Log, silentLog, type VolumeId } from '../../../../src/base/index.ts';
import { type Command, type NodeRecord, PageCache } from '../../../../src/mapper/index.ts';
import { Channel, type MessagePort } from '../../../../src/node/channel.ts';
import { Told } from '../../../../src/node/data/told.ts';
import type { Activate, LeaseNotice, LivenessNotice, RegistryNotice, RegistryTable } from '../../../../src/node/protocol.ts';
import type { RegistryPort } from '../../../../src/volume/context.ts';
import { NodeLease } from '../../../../src/volume/lease.ts';
import type { MergePace } from '../../../../src/volume/merge.ts';
import { Volumes } from '../../../../src/volume/volumes.ts';
import type { Host } from '../../host.ts';
import type { DataPatient } from './bugs/bug.ts';
import type { WorldLink } from './data-links.ts';
import type { TimedStore } from './store.ts';

/** Longer than any world: guests never see an error for want of an owner. */
const IO_TIMEOUT_MS = 600_000;
const MERGE_STEP_MS = 1;
const MERGE_WALK_MS = 300;

export interface DataProcessOptions {
  readonly name: string;
  readonly host: Host;
  readonly port: MessagePort;
  readonly store: TimedStore;
  readonly links: ReadonlyMap<string, WorldLink>;
  readonly bootId: string;
  readonly merges: boolean;
  /** Something that should never happen was logged. */
  readonly onInternalError: (message: string) => void;
  /** Called before it knows anything. */
  readonly started: (patient: DataPatient) => void;
}

export class DataProcess {
  readonly volumes: Volumes;
  readonly store: TimedStore;
  readonly lease: NodeLease;
  /** Guests can attach. */
  serving = false;
  private readonly channel: Channel;
  private readonly peers = new Map<string, NodeRecord>();
  private readonly told: Told;

  constructor(options: DataProcessOptions) {
    const { name, host, store, links, merges } = options;
    const { clock } = host;
    this.store = store;
    this.lease = new NodeLease(clock, IO_TIMEOUT_MS);
    const registry: RegistryPort = { propose: (command: Command) => this.channel.request('propose', command) };
    this.volumes = new Volumes({
      node: name,
      livenessEpoch: () => this.told.livenessEpoch,
      registry,
      blockStore: store,
      pageCache: new PageCache(),
      lease: () => this.lease.current,
      mergePace: merges ? paceOf(host) : null,
      bootId: options.bootId,
      clock,
      log: watchingLog(options.onInternalError),
      linkTo: (node) => (this.peers.has(node) ? (links.get(node) ?? null) : null),
      ioTimeoutMs: IO_TIMEOUT_MS,
    });
    for (const link of links.values()) {
      link.handler = this.volumes.sessions;
      this.volumes.watchLink(link);
    }
    const peers = {
      replaceAll: (nodes: readonly NodeRecord[]) => {
        this.peers.clear();
        for (const node of nodes) this.peers.set(node.name, node);
      },
      update: (node: NodeRecord) => void this.peers.set(node.name, node),
      remove: (peer: string) => void this.peers.delete(peer),
    };
    this.told = new Told(this.volumes, peers, this.lease);
    this.channel = new Channel(options.port, this.methods());
    options.started({ name, store, volumes: this.volumes, registry, clock, lease: this.lease });
  }

  /** Whether it would answer now for what it owns under that liveness epoch. */
  leaseHolds(livenessEpoch: LivenessEpoch): boolean {
    return this.told.livenessEpoch === livenessEpoch && this.lease.current.valid;
  }

  private methods(): Record<string, (parameters: unknown) => unknown> {
    const { volumes, told } = this;
    const idOf = (parameters: unknown) => (parameters as { id: VolumeId }).id;
    return {
      start: () => ({ addresses: [] }),
      activate: (parameters) => {
        const { livenessEpoch, ...table } = parameters as Activate;
        told.liveness({ livenessEpoch });
        told.table(table);
        this.serving = true;
        return null;
      },
      table: (parameters) => told.table(parameters as RegistryTable),
      registry: (parameters) => told.registry(parameters as RegistryNotice),
      lease: (parameters) => told.lease(parameters as LeaseNotice),
      liveness: (parameters) => told.liveness(parameters as LivenessNotice),
      ping: () => null,
      collected: () => null,
      snapshot: (parameters) => volumes.snapshot(idOf(parameters), (parameters as { name: string }).name),
      handOver: (parameters) => volumes.handOver(idOf(parameters), this.peer((parameters as { to: string }).to)),
      own: (parameters) => volumes.own(idOf(parameters)),
      owned: () => volumes.owned(),
      release: async (parameters) => {
        await volumes.release(idOf(parameters));
        return null;
      },
    };
  }

  private peer(name: string): NodeRecord {
    const node = this.peers.get(name);
    if (node === undefined) throw new ArchipelagoError('not-found', `there is no node '${name}'`);
    return node;
  }
}

function paceOf({ clock }: Host): MergePace {
  const after = (ms: number) => new Promise<void>((resolve) => void clock.setTimer(ms, resolve));
  return { take: () => after(MERGE_STEP_MS), pause: () => after(MERGE_WALK_MS) };
}

function watchingLog(onInternalError: (message: string) => void): Log {
  const log: Log = {
    ...silentLog,
    info: (context) => {
      const { code, error } = context as { code?: string; error?: string };
      if (code === 'internal' || code === 'corrupt') onInternalError(`${code}: ${error}`);
    },
    child: () => log,
  };
  return log;
}
