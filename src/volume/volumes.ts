/** All volumes and snapshots as this process knows them, and the devices that clients attach to. */
import { ArchipelagoError, type Epoch, type VolumeId } from '../base/index.ts';
import { decodeHeader, type NodeRecord, PagedTree, type PageRef, type VolumeRecord } from '../mapper/index.ts';
import type { Link } from '../net/index.ts';
import { type CheckResult, checkMap, MAX_PROBLEMS, writtenGenerations } from './check.ts';
import type { VolumeContext } from './context.ts';
import { changes, type Device, type DeviceDirectory, type Extent, IO_FLUSH, IO_READ, MAX_EXTENTS, type VolumeIo } from './device.ts';
import { type DiffPage, type DiffRequest, diffPage } from './diff.ts';
import { type HandOverResult, handOverVolume } from './handover.ts';
import { type RemovedVolume, releaseVolume, removeVolume, resizeVolume, snapshotVolume } from './operations.ts';
import { ServedVolume } from './served-volume.ts';
import { SessionServer } from './session-server.ts';
import { Volume } from './volume.ts';

/** How long an attach waits for the volume to become usable. */
const ATTACH_TIMEOUT_MS = 30_000;

/** What the admin API shows of a volume that this process knows more about than the registry. */
export interface VolumeStats {
  readonly id: VolumeId;
  readonly clients: number;
  /** Null where the map is not open here. */
  readonly blocks: number | null;
}

/** A snapshot that clients of this process are attached to. */
interface OpenSnapshot {
  readonly served: ServedVolume;
  clients: number;
  /** The registry has removed it, and its objects may go at any time. */
  removed: boolean;
}

export class Volumes implements DeviceDirectory {
  readonly sessions: SessionServer;
  private readonly context: VolumeContext;
  private readonly records = new Map<VolumeId, VolumeRecord>();
  private readonly idsByName = new Map<string, VolumeId>();
  private readonly open = new Map<VolumeId, Volume>();
  private readonly snapshots = new Map<VolumeId, OpenSnapshot>();

  constructor(context: VolumeContext) {
    this.context = context;
    this.sessions = new SessionServer({ volumeById: (id) => this.volumeById(id) }, context.log);
  }

  // ---- what the registry says ----

  /** `missed`: what happened to it in between was not told. */
  update(record: VolumeRecord, missed = false): void {
    const before = this.records.get(record.id);
    if (before && before.name !== record.name && this.idsByName.get(before.name) === record.id) this.idsByName.delete(before.name);
    this.records.set(record.id, record);
    this.idsByName.set(record.name, record.id);
    const volume = this.open.get(record.id);
    if (volume) volume.update(record, missed);
    else if (record.owner?.node === this.context.node) this.volumeById(record.id)?.update(record);
    if (record.revoked && record.owner?.node === this.context.node && !before?.revoked) this.consent(record.id);
  }

  /** A lock of this node was broken: gives the volume up, so that nobody has to wait for the end of a lease. */
  private consent(id: VolumeId): void {
    // What hinders it is no matter: once every lease is over that was granted before, the volume is taken away.
    this.release(id).catch((error: unknown) => this.context.log.info({ volume: id, error: String(error) }, 'a revoked volume was not given up'));
  }

  /** As after a restart, or where the changes in between are not known any more: everything that the registry has. */
  replaceAll(records: readonly VolumeRecord[]): void {
    const ids = new Set(records.map(({ id }) => id));
    for (const id of [...this.records.keys()]) if (!ids.has(id)) this.remove(id);
    for (const record of records) this.update(record, true);
  }

  remove(id: VolumeId): void {
    const record = this.records.get(id);
    if (!record) return;
    this.records.delete(id);
    if (this.idsByName.get(record.name) === id) this.idsByName.delete(record.name);
    this.open.get(id)?.remove();
    this.open.delete(id);
    const snapshot = this.snapshots.get(id);
    // A client that attached while it was being removed.
    if (snapshot) snapshot.removed = true;
  }

  /** All volumes and snapshots, as this process was told. */
  allRecords(): VolumeRecord[] {
    return [...this.records.values()];
  }

  /** Links tell when they go down, so that their sessions end. */
  watchLink(link: Link): void {
    link.onDown(() => this.sessions.linkDown(link.peerId));
  }

  // ---- clients ----

  names(): string[] {
    return [...this.records.values()].filter(({ importer }) => importer === null).map(({ name }) => name);
  }

  async attach(name: string): Promise<Device> {
    const record = this.recordOf(name);
    if (record.kind === 'snapshot') return this.attachSnapshot(record);
    if (record.importer !== null && record.importer !== this.context.node) {
      throw new ArchipelagoError('in-use', `volume '${name}' is being imported by node ${record.importer}`, {
        hint: 'wait until the import has ended',
      });
    }
    const volume = this.volumeById(record.id);
    if (!volume) throw notFound(name);
    const attachedEpoch = volume.record.epoch;
    volume.clientsChanged(1);
    if (!(await volume.whenAdmitting(ATTACH_TIMEOUT_MS)) || volume.removed) {
      volume.clientsChanged(-1);
      if (volume.removed) throw notFound(name);
      throw volume.whyNotServed;
    }
    return new VolumeDevice(volume, attachedEpoch);
  }

  private attachSnapshot(record: VolumeRecord): Device {
    const opened = this.openSnapshot(record);
    opened.clients++;
    return new SnapshotDevice(record, opened, () => {
      opened.clients--;
      if (opened.clients > 0) return;
      this.snapshots.delete(record.id);
      opened.served.forgetBlocks();
    });
  }

  private openSnapshot(record: VolumeRecord): OpenSnapshot {
    let opened = this.snapshots.get(record.id);
    if (!opened) {
      const { blockStore, pageCache } = this.context;
      const pages = new PagedTree(blockStore, record.root, pageCache);
      const served = new ServedVolume({ blockStore, pages, owned: null, sizeBytes: record.sizeBytes, blockSizeBytes: record.blockSizeBytes });
      opened = { served, clients: 0, removed: false };
      this.snapshots.set(record.id, opened);
    }
    return opened;
  }

  private recordOf(name: string): VolumeRecord {
    const id = this.idsByName.get(name);
    const record = id === undefined ? undefined : this.records.get(id);
    if (!record) throw notFound(name);
    return record;
  }

  private volumeById(id: VolumeId): Volume | null {
    const known = this.open.get(id);
    if (known) return known;
    const record = this.records.get(id);
    if (record?.kind !== 'volume') return null;
    const volume = new Volume(this.context, record);
    this.open.set(id, volume);
    return volume;
  }

  private volumeToChange(id: VolumeId): Volume {
    const volume = this.volumeById(id);
    if (volume) return volume;
    const record = this.records.get(id);
    if (record) throw new ArchipelagoError('read-only', `'${record.name}' is a snapshot`, { hint: 'clone it, and change the clone' });
    throw new ArchipelagoError('not-found', `volume ${id} does not exist`);
  }

  // ---- what the control process asks for ----

  /** With `volumeName`: of a volume that is called so at a moment after the call; `stale-epoch` when it is not. */
  snapshot(id: VolumeId, name: string, volumeName?: string): Promise<VolumeRecord> {
    return snapshotVolume(this.context, this.volumeToChange(id), name, volumeName);
  }

  handOver(id: VolumeId, to: Pick<NodeRecord, 'name' | 'livenessEpoch'>): Promise<HandOverResult> {
    return handOverVolume(this.context, this.volumeToChange(id), to);
  }

  /** Becomes the owner, if there is none. */
  async own(id: VolumeId): Promise<{ epoch: Epoch }> {
    const { epoch } = await this.volumeToChange(id).own(ATTACH_TIMEOUT_MS);
    return { epoch };
  }

  release(id: VolumeId): Promise<void> {
    return releaseVolume(this.context, this.volumeToChange(id));
  }

  resize(id: VolumeId, sizeBytes: number, shrink: boolean): Promise<VolumeRecord> {
    return resizeVolume(this.context, this.volumeToChange(id), sizeBytes, shrink);
  }

  removeVolume(id: VolumeId): Promise<RemovedVolume> {
    const volume = this.volumeToChange(id);
    return removeVolume(this.context, volume, () => this.sessions.clientsOf(volume));
  }

  async check(id: VolumeId): Promise<CheckResult> {
    const record = this.records.get(id);
    if (!record) throw notFound(String(id));
    const { blockStore } = this.context;
    const look = async () => {
      const root = await this.root(id);
      const { sizeBytes, blockSizeBytes } = this.records.get(id) ?? record;
      const others = [...this.records.values()].filter((other) => other.kind === 'volume' && other.id !== id);
      return checkMap(blockStore, { root, sizeBytes, blockSizeBytes, writtenElsewhere: await writtenGenerations(blockStore, others) });
    };
    const first = await look();
    if (!this.records.has(id)) throw new ArchipelagoError('not-found', `'${record.name}' was removed while it was checked`);
    if (record.kind === 'snapshot' || first.problems.length === 0) return first;
    // Since the first look, collection may have removed what the volume no longer refers to. That is not in its map at the second look, and
    // what is really missing is.
    const second = await look();
    if (first.problems.length >= MAX_PROBLEMS) return second;
    const problems = new Set(second.problems);
    return { ...second, problems: first.problems.filter((problem) => problems.has(problem)) };
  }

  /** Where the map of this moment begins. What is below stays as it is until collection finds that the volume does not need it any more. */
  async root(id: VolumeId): Promise<PageRef | null> {
    const record = this.records.get(id);
    if (record?.kind === 'snapshot') return record.root;
    const volume = this.volumeToChange(id);
    // A handover has to know of every fold, so they take turns.
    return volume.exclusively(async () => {
      const { owned } = await volume.own(ATTACH_TIMEOUT_MS);
      return (await owned?.map.fold()) ?? null;
    });
  }

  diff(request: DiffRequest): Promise<DiffPage> {
    return diffPage(this.context.blockStore, request);
  }

  /** Blocks of volumes that nobody has open, by what their headers say: changes since the last fold are not counted. */
  async storedBlocks(ids: readonly VolumeId[]): Promise<VolumeStats[]> {
    const stats: VolumeStats[] = [];
    for (const id of ids) {
      const header = await this.context.blockStore.readHeader(id);
      if (header) stats.push({ id, clients: 0, blocks: decodeHeader(header, id).header.root?.blocks ?? 0 });
    }
    return stats;
  }

  /** Everything that has clients here or is open here. */
  stats(): VolumeStats[] {
    const stats: VolumeStats[] = [];
    for (const [id, volume] of this.open) stats.push({ id, clients: volume.clients, blocks: volume.served?.pages.blocks ?? null });
    for (const [id, { clients, served }] of this.snapshots) stats.push({ id, clients, blocks: served.pages.blocks });
    return stats;
  }

  /** Volumes that this process serves as their owner, with their clients on all nodes. */
  owned(): { id: VolumeId; clients: number }[] {
    const owned: { id: VolumeId; clients: number }[] = [];
    for (const [id, volume] of this.open) {
      if (volume.served) owned.push({ id, clients: this.sessions.clientsOf(volume) + volume.clients });
    }
    return owned;
  }
}

function notFound(name: string): ArchipelagoError {
  return new ArchipelagoError('not-found', `there is no volume or snapshot '${name}'`, { hint: 'list them with `archipelago volume ls`' });
}

function withinBounds(io: VolumeIo, sizeBytes: number): boolean {
  if (io.offset + io.length <= sizeBytes) return true;
  io.done(new ArchipelagoError('invalid-argument', `I/O of ${io.length} bytes at ${io.offset} is past the end of the volume (${sizeBytes} bytes)`));
  return false;
}

class VolumeDevice implements Device {
  private readonly volume: Volume;
  private readonly attachedEpoch: Epoch;
  private writes = false;
  private closed = false;

  constructor(volume: Volume, attachedEpoch: Epoch) {
    this.volume = volume;
    this.attachedEpoch = attachedEpoch;
  }

  get volumeId(): VolumeId {
    return this.volume.record.id;
  }

  get sizeBytes(): number {
    return this.volume.record.sizeBytes;
  }

  get blockSizeBytes(): number {
    return this.volume.record.blockSizeBytes;
  }

  get readOnly(): boolean {
    return false;
  }

  submit(io: VolumeIo): void {
    if (!withinBounds(io, this.volume.record.sizeBytes)) return;
    if (!this.writes && changes(io.kind)) this.writes = this.volume.clientWrites(this.attachedEpoch);
    this.volume.submit(io);
  }

  extents(offsetBytes: number, lengthBytes: number, maxExtents = MAX_EXTENTS): Promise<Extent[]> {
    return this.volume.extents(offsetBytes, lengthBytes, maxExtents);
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    if (this.writes) this.volume.writers.ended();
    this.volume.clientsChanged(-1);
  }
}

class SnapshotDevice implements Device {
  readonly volumeId: VolumeId;
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  readonly readOnly = true;
  private readonly name: string;
  private readonly opened: OpenSnapshot;
  private release: (() => void) | null;

  constructor(record: VolumeRecord, opened: OpenSnapshot, release: () => void) {
    this.name = record.name;
    this.volumeId = record.id;
    this.sizeBytes = record.sizeBytes;
    this.blockSizeBytes = record.blockSizeBytes;
    this.opened = opened;
    this.release = release;
  }

  submit(io: VolumeIo): void {
    if (io.kind !== IO_READ && io.kind !== IO_FLUSH)
      io.done(new ArchipelagoError('read-only', 'a snapshot does not change', { hint: 'clone it, and write to the clone' }));
    else if (this.opened.removed) io.done(new ArchipelagoError('not-found', `snapshot '${this.name}' was removed`));
    else if (withinBounds(io, this.sizeBytes)) this.opened.served.submit(io);
  }

  extents(offsetBytes: number, lengthBytes: number, maxExtents = MAX_EXTENTS): Promise<Extent[]> {
    return this.opened.served.extents(offsetBytes, lengthBytes, maxExtents);
  }

  async close(): Promise<void> {
    this.release?.();
    this.release = null;
  }
}
