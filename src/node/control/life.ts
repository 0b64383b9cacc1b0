/**
 * The life of this node as the registry has it: under which liveness epoch its processes own volumes. And what its data process is told of the
 * registry, in the order of the log, so that an answer never comes before what it depends on.
 */
import type { LivenessEpoch, Log } from '../../base/index.ts';
import type { Command, CommandValues, RegistryChange } from '../../mapper/index.ts';
import type { Registry } from '../../mapper/registry/index.ts';
import type { Channel } from '../channel.ts';
import type { Activate, LeaseNotice, LivenessNotice, RegistryNotice, RegistryTable } from '../protocol.ts';
import type { NodeLeases } from './leases.ts';

export interface NodeLifeOptions {
  readonly node: string;
  readonly registry: Registry;
  readonly log: Log;
  readonly leases: () => NodeLeases | null;
  /** As `proposeUntilKnown`. */
  readonly propose: <Type extends Command['type']>(command: Extract<Command, { type: Type }>) => Promise<CommandValues[Type]>;
  /** Ends the present data process; another follows. */
  readonly restartData: () => void;
}

export class NodeLife {
  private readonly options: NodeLifeOptions;
  private current: LivenessEpoch | null = null;
  /** The data process that is in use. */
  private channel: Channel | null = null;
  /** The liveness epoch that has expired under processes that live, until they have a new one. */
  private reviving: LivenessEpoch | null = null;

  constructor(options: NodeLifeOptions) {
    this.options = options;
  }

  /** Under which the control process and its present data process own volumes; null until the registry has given one. */
  get livenessEpoch(): LivenessEpoch | null {
    return this.current;
  }

  /** A data process was started, so the one before has ended. */
  end(): void {
    this.current = null;
    this.options.leases()?.begin(null);
  }

  /** Brings a new data process into use: what its predecessor owned is void as soon as the registry says so. */
  async begin(channel: Channel, start: Extract<Command, { type: 'startNode' }>): Promise<void> {
    const { livenessEpoch } = await this.options.propose<'startNode'>(start);
    this.current = livenessEpoch;
    // One step with the answer above: no change of the registry falls between this table and the notices that follow.
    const active = channel.request('activate', { livenessEpoch, ...this.table() } satisfies Activate);
    this.channel = channel;
    this.options.leases()?.begin(livenessEpoch);
    // The entries that brought the answer late may have brought the end of that lease as well, and no other change tells of it again.
    this.checkOwnRecord();
    await active;
    this.options.log.info({ livenessEpoch }, 'ready');
  }

  /** Resolves when the data process has answered, and so has seen everything that it was told before. */
  async askData(): Promise<void> {
    await this.channel?.request('ping', {});
  }

  tellDeadline(livenessEpoch: LivenessEpoch, deadlineMs: number): void {
    this.channel?.notify('lease', { livenessEpoch, deadlineMs } satisfies LeaseNotice);
  }

  registryChanged(change: RegistryChange): void {
    const { channel } = this;
    this.options.leases()?.registryChanged(change);
    switch (change.kind) {
      case 'volume':
        channel?.notify('registry', { volume: change.volume } satisfies RegistryNotice);
        break;
      case 'removed':
        channel?.notify('registry', { removed: change.volume.id } satisfies RegistryNotice);
        break;
      case 'node':
        channel?.notify('registry', { node: change.node } satisfies RegistryNotice);
        this.checkOwnRecord();
        break;
      case 'nodeRemoved':
        channel?.notify('registry', { removedNode: change.name } satisfies RegistryNotice);
        break;
      case 'collection':
        // Also of cycles of other nodes: each process has descriptors of its own.
        if (change.collection.running === null) channel?.notify('collected', {});
        break;
      case 'reset':
        channel?.notify('table', this.table());
        this.checkOwnRecord();
        break;
    }
  }

  private table(): RegistryTable {
    const { registry } = this.options;
    return { volumes: [...registry.volumes()], nodes: registry.nodes() };
  }

  /** A start of ours that was proposed twice and committed late voids what the present data process owns: it has to begin anew. */
  private checkOwnRecord(): void {
    const { node, registry, log, restartData } = this.options;
    const record = registry.node(node);
    if (this.current === null || !record) return;
    if (record.livenessEpoch === this.current) {
      if (!record.alive) void this.revive(this.current);
      return;
    }
    if (this.reviving === this.current) {
      this.revived(record.livenessEpoch);
      return;
    }
    log.warn({ mine: this.current, registry: record.livenessEpoch }, 'the registry has started this node anew: restarting the data process');
    this.current = null;
    this.channel = null;
    restartData();
  }

  /**
   * This node's lease has ended and so has all that it owned, but its processes live: it was paused, or cut off. It goes on under a new liveness
   * epoch as soon as the data process answers.
   */
  private async revive(livenessEpoch: LivenessEpoch): Promise<void> {
    if (this.reviving !== null) return;
    this.reviving = livenessEpoch;
    const { node, leases, log, propose } = this.options;
    log.warn({ livenessEpoch }, 'the lease of this node has expired, and its volumes were given to others');
    leases()?.begin(null);
    try {
      await this.askData();
      await propose<'reviveNode'>({ type: 'reviveNode', node, livenessEpoch });
    } catch (error) {
      // The data process has died, or was started anew: what follows that gives the node a liveness epoch as well.
      log.info({ error: String(error) }, 'not revived');
    }
    if (this.reviving === livenessEpoch) this.reviving = null;
  }

  /** Called in the very step in which the registry has it: what was lost has been told to the data process, and what comes is new. */
  private revived(livenessEpoch: LivenessEpoch): void {
    this.reviving = null;
    this.current = livenessEpoch;
    this.channel?.notify('liveness', { livenessEpoch } satisfies LivenessNotice);
    this.options.leases()?.begin(livenessEpoch);
    this.options.log.info({ livenessEpoch }, 'ready again');
  }
}
