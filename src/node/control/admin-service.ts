/**
 * The admin API of this node. What concerns the registry alone is proposed here; what concerns a volume is done by its owner, wherever that
 * is, or by this node's data process when there is none. Reads wait for a quorum, so that a client sees on each node what it did on another.
 */
import { ArchipelagoError, type Clock, type LivenessEpoch } from '../../base/index.ts';
import type {
  AdminService,
  CheckView,
  ClusterView,
  CollectionView,
  DiffView,
  InvitationView,
  LockView,
  MembersView,
  MigrationView,
  NodeView,
  TransferView,
  VolumeView,
} from '../../gateway/index.ts';
import type { CollectionProgress, PageRef, VolumeRecord } from '../../mapper/index.ts';
import { checkBlockSize, checkLabels, checkSize, checkVolumeName, propose, type Registry } from '../../mapper/registry/index.ts';
import type { RaftNode } from '../../raft/index.ts';
import type { DiffPage, RemovedVolume, VolumeStats } from '../../volume/index.ts';
import type { NodeConfig } from '../config.ts';
import type { DataRequests } from '../protocol.ts';
import type { ClusterLinks } from './cluster-links.ts';
import { type DiffCursor, decodeCursor, encodeCursor } from './diff-cursor.ts';
import { VolumeHolds } from './holds.ts';
import type { Invitations } from './invitations.ts';
import type { MemberOperations } from './member-operations.ts';
import { collectionView, type GatheredStats, gatherStats, volumeView } from './volume-views.ts';

const DEFAULT_BLOCK_BYTES = 4 << 20;
const BARRIER_TIMEOUT_MS = 5000;
const PROPOSE_TIMEOUT_MS = 10_000;
/** How long a request looks for the owner while the ownership moves. */
const OWNER_TIMEOUT_MS = 10_000;
const OWNER_RETRY_MS = 50;
/** How long one node may take over a part of an answer that can do without it. */
const GATHER_TIMEOUT_MS = 1000;
/** How long an owner may take for a snapshot, handover or resize. */
const OPERATION_TIMEOUT_MS = 120_000;
const CHECK_TIMEOUT_MS = 24 * 3_600_000;

/** What each node tells of itself. */
export interface NodeStatus {
  readonly lease: boolean;
  readonly version: string;
  readonly control: number;
  readonly data: number[];
  readonly nbdSocket: string;
  readonly store: ClusterView['store'];
}

export interface AdminServiceOptions {
  readonly config: NodeConfig;
  readonly clock: Clock;
  readonly raft: RaftNode;
  readonly registry: Registry;
  readonly links: ClusterLinks;
  readonly invitations: Invitations;
  readonly members: MemberOperations;
  /** Of this node's processes; null while they are being started. */
  readonly livenessEpoch: () => LivenessEpoch | null;
  /** Serves a request on this node, as a link does on another. */
  readonly serve: (method: string, parameters: unknown) => Promise<unknown>;
}

export class NodeAdminService implements AdminService {
  private readonly options: AdminServiceOptions;
  private readonly registry: Registry;
  private readonly self: string;
  private readonly holds: VolumeHolds;

  constructor(options: AdminServiceOptions) {
    this.options = options;
    this.registry = options.registry;
    this.self = options.config.name;
    const { raft, registry, clock, livenessEpoch } = options;
    this.holds = new VolumeHolds({
      node: this.self,
      clock,
      raft,
      registry,
      livenessEpoch,
      find: (name) => this.find(name),
      settle: (node, timeoutMs) => this.atNode(node, 'settle', {}, timeoutMs),
    });
  }

  // ---- volumes ----

  async createVolume(request: { name: string; size: number; blockSize?: number; labels?: Record<string, string> }): Promise<VolumeView> {
    return this.newView(await this.create({ ...request, importer: null }));
  }

  private async create(request: {
    name: string;
    size: number;
    blockSize?: number;
    labels?: Record<string, string>;
    importer: { node: string; livenessEpoch: LivenessEpoch } | null;
  }): Promise<VolumeRecord> {
    const { name, size, blockSize = DEFAULT_BLOCK_BYTES, labels = {}, importer } = request;
    checkVolumeName(name);
    checkBlockSize(blockSize);
    checkSize(size, blockSize);
    checkLabels(labels);
    const command = { type: 'create', name, sizeBytes: size, blockSizeBytes: blockSize, labels, importer, createdAt: this.now() } as const;
    return propose<'create'>(this.options.raft, command, { timeoutMs: PROPOSE_TIMEOUT_MS });
  }

  async cloneSnapshot(snapshot: string, request: { name: string; size?: number }): Promise<VolumeView> {
    checkVolumeName(request.name);
    const { id } = await this.find(snapshot);
    const command = { type: 'clone', snapshotId: id, name: request.name, sizeBytes: request.size ?? null, createdAt: this.now() } as const;
    return this.newView(await propose<'clone'>(this.options.raft, command, { timeoutMs: PROPOSE_TIMEOUT_MS }));
  }

  async snapshotVolume(volume: string, request: { name: string }): Promise<VolumeView> {
    checkVolumeName(request.name);
    const taken = () => this.registry.byName(request.name) !== null;
    const known = this.registry.byName(volume);
    // What this node owns need not be looked for: its owner sees to it that the volume has the name, as of a command that comes after this call.
    const first = known?.owner?.node === this.self && !taken() ? known : await this.find(volume);
    // The owner would notice too, but only after it has done the work.
    if (taken()) throw new ArchipelagoError('exists', `the name '${request.name}' is taken`, { hint: 'choose another name' });
    const parameters = ({ id }: VolumeRecord) => ({ id, name: request.name, volumeName: volume });
    return this.newView(await this.atOwner<VolumeRecord>(volume, 'snapshot', parameters, first));
  }

  async listVolumes(filter: { label?: { key: string; value: string } }): Promise<VolumeView[]> {
    await this.barrier();
    const { label } = filter;
    const shown = [...this.registry.volumes()].filter((record) => record.importer === null && (!label || record.labels[label.key] === label.value));
    const stats = await this.gather(shown);
    return shown.map((record) => volumeView(this.registry, record, stats));
  }

  async volumeInfo(name: string): Promise<VolumeView> {
    return this.view(await this.find(name));
  }

  async resizeVolume(name: string, request: { size: number; shrink: boolean }): Promise<VolumeView> {
    const { blockSizeBytes } = await this.find(name);
    checkSize(request.size, blockSizeBytes);
    const parameters = { sizeBytes: request.size, shrink: request.shrink };
    return this.view(await this.atOwner<VolumeRecord>(name, 'resize', ({ id }) => ({ id, ...parameters })));
  }

  async renameVolume(name: string, request: { name: string }): Promise<VolumeView> {
    checkVolumeName(request.name);
    const { id } = await this.find(name);
    return this.view(await propose<'rename'>(this.options.raft, { type: 'rename', id, name: request.name }, { timeoutMs: PROPOSE_TIMEOUT_MS }));
  }

  async labelVolume(name: string, labels: Record<string, string | null>): Promise<VolumeView> {
    const { id } = await this.find(name);
    return this.view(await propose<'label'>(this.options.raft, { type: 'label', id, labels }, { timeoutMs: PROPOSE_TIMEOUT_MS }));
  }

  async removeVolume(name: string): Promise<VolumeView> {
    const record = await this.find(name);
    if (record.owner === null && record.importer === null) {
      const view = await this.removeUnowned(record);
      if (view !== null) return view;
    }
    const { blocks } = await this.atOwner<RemovedVolume>(name, 'remove', ({ id }) => ({ id }), record);
    return volumeView(this.registry, record, new Map([[record.id, { clients: 0, blocks }]]));
  }

  /** Without opening it: its log, if it has one, collection removes. Null when it has got an owner meanwhile. */
  private async removeUnowned(record: VolumeRecord): Promise<VolumeView | null> {
    const { id, epoch, kind, name } = record;
    const view = await this.view(record);
    if (view.clients > 0)
      throw new ArchipelagoError('in-use', `${kind} '${name}' has ${view.clients} attached clients`, { hint: 'detach them first' });
    try {
      await propose<'remove'>(this.options.raft, { type: 'remove', id, epoch }, { timeoutMs: PROPOSE_TIMEOUT_MS });
      return view;
    } catch (error) {
      // A client that has attached since the question makes its node the owner, under another epoch, or finds the volume gone.
      if (ArchipelagoError.from(error, 'remove').code === 'stale-epoch') return null;
      throw error;
    }
  }

  async volumeUri(name: string, node: string | null): Promise<{ uri: string }> {
    await this.find(name);
    const { nbdSocket } = await this.atNode<NodeStatus>(node ?? this.self, 'status', {}, BARRIER_TIMEOUT_MS);
    return { uri: nbdUri(name, nbdSocket) };
  }

  async migrateVolume(name: string, request: { to: string }): Promise<MigrationView> {
    const { to } = request;
    const before = await this.find(name);
    if (!this.registry.node(to))
      throw new ArchipelagoError('not-found', `there is no node '${to}'`, { hint: 'list them with `archipelago cluster status`' });
    if (before.kind !== 'volume')
      throw new ArchipelagoError('read-only', `'${name}' is a snapshot, which every node serves`, { hint: 'nothing has to move' });
    const from = before.owner?.node ?? to;
    if (before.owner === null) {
      const startedMs = this.options.clock.nowMs();
      const { epoch } = await this.atNode<{ epoch: number }>(to, 'own', { id: before.id }, OPERATION_TIMEOUT_MS);
      return { name, from, to, epoch: String(epoch), pauseMs: this.options.clock.nowMs() - startedMs };
    }
    // Also where it is there already: a client that has begun to write elsewhere may be about to move it.
    const { epoch, pauseMs } = await this.atOwner<{ epoch: number; pauseMs: number }>(name, 'handOver', ({ id }) => ({ id, to }));
    return { name, from, to, epoch: String(epoch), pauseMs };
  }

  openVolume(name: string, request: { shared: boolean }): Promise<LockView> {
    return this.holds.open(name, request.shared);
  }

  closeVolume(name: string): Promise<LockView> {
    return this.holds.close(name);
  }

  lockVolume(name: string): Promise<LockView> {
    return this.holds.lock(name);
  }

  unlockVolume(name: string, request: { force: boolean }): Promise<LockView> {
    return this.holds.unlock(name, request.force);
  }

  async checkVolume(name: string): Promise<CheckView> {
    const record = await this.find(name);
    const check = (node: string) =>
      this.atNode<{ blocks: number; pages: number; problems: string[] }>(node, 'check', { id: record.id }, CHECK_TIMEOUT_MS);
    const { blocks, pages, problems } = await check(record.owner?.node ?? this.self);
    return { name, ok: problems.length === 0, blocks, pages, problems };
  }

  async diffVolume(fromName: string, toName: string, cursor: string | null): Promise<DiffView> {
    const from = await this.find(fromName);
    const to = await this.find(toName);
    if (from.kind !== 'snapshot') {
      const hint = 'make a snapshot of it first; only a snapshot stays what it is';
      throw new ArchipelagoError('invalid-argument', `'${fromName}' is a volume, and what is compared with has to be a snapshot`, { hint });
    }
    if (from.blockSizeBytes !== to.blockSizeBytes) {
      const sizes = `${from.blockSizeBytes} and ${to.blockSizeBytes} bytes`;
      const hint = 'their maps have nothing in common; compare the data itself';
      throw new ArchipelagoError('invalid-argument', `'${fromName}' and '${toName}' have blocks of ${sizes}`, { hint });
    }
    const at = cursor === null ? await this.beginDiff(from, to) : decodeCursor(cursor, from.id, to.id);
    const { root, sizeBytes, start } = at;
    const request = { from: from.root, to: root, sizeBytes, blockSizeBytes: to.blockSizeBytes, start };
    const { extents, next } = (await this.options.serve('diff', request)) as DiffPage;
    return { extents, next: next === null ? null : encodeCursor({ ...at, start: next }) };
  }

  private async beginDiff(from: VolumeRecord, to: VolumeRecord): Promise<DiffCursor> {
    const root = to.kind === 'snapshot' ? to.root : await this.atOwner<PageRef | null>(to.name, 'root', ({ id }) => ({ id }));
    return { from: from.id, to: to.id, root, sizeBytes: to.sizeBytes, start: 0 };
  }

  // ---- imports ----

  async beginImport(request: { name: string; size: number; blockSize?: number }, signal: AbortSignal): Promise<VolumeView & { uri: string }> {
    const livenessEpoch = this.options.livenessEpoch();
    if (livenessEpoch === null) throw new ArchipelagoError('unavailable', `node ${this.self} is being started`, { hint: 'try again in a second' });
    const record = await this.create({ ...request, importer: { node: this.self, livenessEpoch } });
    signal.addEventListener('abort', () => void this.abandonImport(record), { once: true });
    if (signal.aborted) void this.abandonImport(record);
    return { ...this.newView(record), uri: nbdUri(request.name, this.options.config.nbd.socket) };
  }

  async finishImport(name: string): Promise<VolumeView> {
    const { id } = await this.find(name);
    return this.view(await propose<'finishImport'>(this.options.raft, { type: 'finishImport', id }, { timeoutMs: PROPOSE_TIMEOUT_MS }));
  }

  /** Removes what an import had written. Its client may still be attached for a moment; a node that stops before is covered by its next start. */
  private async abandonImport({ id }: VolumeRecord): Promise<void> {
    const deadlineMs = this.options.clock.nowMs() + OPERATION_TIMEOUT_MS;
    for (;;) {
      const record = this.registry.byId(id);
      if (record === null || record.importer === null) return;
      try {
        await this.options.serve('remove', { id });
        return;
      } catch (error) {
        if (this.options.clock.nowMs() >= deadlineMs) throw error;
        await this.pause();
      }
    }
  }

  // ---- collection ----

  async collect(): Promise<{ cycle: number }> {
    const cycle = await propose<'requestCollection'>(this.options.raft, { type: 'requestCollection' }, { timeoutMs: PROPOSE_TIMEOUT_MS });
    const deadlineMs = this.options.clock.nowMs() + PROPOSE_TIMEOUT_MS;
    // The leader that is asked may be no leader any more, and the next one begins in its own time.
    while (this.registry.collection().cycle < cycle && this.options.clock.nowMs() < deadlineMs) {
      const { leader } = this.options.raft.status();
      if (leader !== null) await this.tryNode(leader, 'collectNow');
      await this.pause();
    }
    return { cycle };
  }

  async collectionStatus(): Promise<CollectionView> {
    await this.barrier();
    const { running, last, totals } = this.registry.collection();
    const progress = running && (await this.tryNode<CollectionProgress>(running.node, 'collection'));
    return collectionView(running, progress, last, totals);
  }

  // ---- the cluster ----

  async clusterStatus(): Promise<ClusterView> {
    const { leader, term, voters } = this.options.raft.status();
    const members = this.options.links.memberNames();
    const statuses = await Promise.all(members.map((node) => this.tryNode<NodeStatus>(node, 'status')));
    const nodes = members.map((name, place): NodeView => {
      const status = statuses[place] ?? null;
      return {
        name,
        peerId: this.options.links.member(name).peerId,
        role: voters.includes(name) ? 'voter' : 'learner',
        up: status !== null,
        lease: status?.lease ?? false,
        volumes: this.registry.heldBy(name).length,
        version: status?.version ?? this.registry.node(name)?.version ?? '',
        pids: { control: status?.control ?? null, data: status?.data ?? [] },
      };
    });
    const own = statuses[members.indexOf(this.self)];
    const volumes = [...this.registry.volumes()].filter(({ importer }) => importer === null).length;
    return {
      leader,
      term,
      // A learner goes on believing in a leader that is gone.
      quorum: leader !== null && (leader === this.self || this.options.links.isConnected(leader)),
      nodes,
      volumes,
      store: own?.store ?? { kind: this.options.config.store.kind, location: '', usedBytes: 0, availableBytes: null },
    };
  }

  async drainNode(node: string | null): Promise<{ node: string; moved: number }> {
    return this.atNode(node ?? this.self, 'drain', {}, OPERATION_TIMEOUT_MS);
  }

  invite(request: { expiresMs: number | null }): Promise<InvitationView> {
    return this.options.invitations.invite(request);
  }

  removeNode(name: string, options: { force: boolean }): Promise<MembersView> {
    return this.options.members.remove(name, options);
  }

  transferLeader({ to }: { to: string }): Promise<TransferView> {
    return this.options.members.transferLeader(to);
  }

  // ---- helpers ----

  /** Rejects with `unavailable` when no quorum confirms that what this node shows is current. */
  private async barrier(): Promise<void> {
    await this.options.raft.readBarrier({ timeoutMs: BARRIER_TIMEOUT_MS });
  }

  private async find(name: string): Promise<VolumeRecord> {
    await this.barrier();
    const record = this.registry.byName(name);
    if (!record)
      throw new ArchipelagoError('not-found', `there is no volume or snapshot '${name}'`, { hint: 'list them with `archipelago volume ls`' });
    return record;
  }

  /**
   * Has the owner do something, and follows the ownership while it moves. Without an owner this node becomes it. `first` is the record by
   * which the owner is looked for at the first attempt.
   */
  private async atOwner<Value>(
    name: string,
    method: keyof DataRequests,
    parameters: (record: VolumeRecord) => object,
    first: VolumeRecord | null = null,
  ): Promise<Value> {
    const deadlineMs = this.options.clock.nowMs() + OWNER_TIMEOUT_MS;
    for (let known = first; ; known = null) {
      const record = known ?? (await this.find(name));
      const node = record.owner?.node ?? this.self;
      try {
        return await this.atNode<Value>(node, method, parameters(record), OPERATION_TIMEOUT_MS);
      } catch (error) {
        const { code } = ArchipelagoError.from(error, method);
        // Nothing was done by a node that is no longer the owner, that could not be asked, or that lacks another node for it just now.
        const again = code === 'stale-epoch' || code === 'unavailable';
        if (!again || this.options.clock.nowMs() >= deadlineMs) throw error;
        await this.pause();
      }
    }
  }

  private pause(): Promise<void> {
    return new Promise((resolve) => void this.options.clock.setTimer(OWNER_RETRY_MS, resolve));
  }

  private atNode<Value>(node: string, method: string, parameters: object, timeoutMs: number): Promise<Value> {
    if (node === this.self) return this.options.serve(method, parameters) as Promise<Value>;
    return this.options.links.call<Value>(node, method, parameters, timeoutMs);
  }

  private tryNode<Value>(node: string, method: string, parameters: object = {}): Promise<Value | null> {
    return new Promise((resolve) => {
      // A node that does not answer is shown as such, and so is this one while its store keeps it waiting.
      const timer = this.options.clock.setTimer(GATHER_TIMEOUT_MS, () => resolve(null));
      this.atNode<Value>(node, method, parameters, GATHER_TIMEOUT_MS)
        .then(resolve, () => resolve(null))
        .finally(() => timer.cancel());
    });
  }

  /** What the nodes that answer know of these, and for those that nobody has open, what the store says. */
  private async gather(records: readonly VolumeRecord[]): Promise<GatheredStats> {
    const answers = await Promise.all(this.options.links.memberNames().map((node) => this.tryNode<VolumeStats[]>(node, 'stats')));
    const known = answers.filter((answer) => answer !== null);
    const open = gatherStats(known);
    const ids = records.filter(({ id, kind }) => kind === 'volume' && open.get(id)?.blocks == null).map(({ id }) => id);
    const stored = ids.length > 0 ? await this.tryNode<VolumeStats[]>(this.self, 'storedBlocks', { ids }) : null;
    return stored ? gatherStats([...known, stored]) : open;
  }

  private async view(record: VolumeRecord): Promise<VolumeView> {
    return volumeView(this.registry, record, await this.gather([record]));
  }

  /** Of what was made just now: nobody can have it open. */
  private newView(record: VolumeRecord): VolumeView {
    return volumeView(this.registry, record, new Map());
  }

  private now(): string {
    return new Date(this.options.clock.wallMs()).toISOString();
  }
}

function nbdUri(name: string, socket: string): string {
  return `nbd+unix:///${encodeURIComponent(name)}?socket=${encodeURIComponent(socket).replaceAll('%2F', '/')}`;
}
