/**
 * The store on a Ceph cluster: block objects in one pool, maps and logs in another, both within a namespace so that clusters can share
 * pools. Every object that may change carries the epoch of its owner as an attribute, and every change asks, in the same operation, that
 * the stored epoch is not above its own.
 */
import { ArchipelagoError, type Clock, type Epoch, type Generation, type Log, type VolumeId } from '../../base/index.ts';
import { pageMissing } from '../answers.ts';
import { ObjectCache } from '../object-cache.ts';
import type { BlockObject, BlockStore, CollectedKind, ObjectName, Removed, StoreStatus, Takeover, VolumeLog } from '../store.ts';
import { BLOCK, CREATE_EXCLUSIVE, PAGE, SUPERBLOCK, WRITE_FULL } from './binding.ts';
import { RadosClient, type RadosConnection } from './client.ts';
import { EXISTS, MISSING, radosError } from './errors.ts';
import { listLogs, listNames, removeNames } from './listing.ts';
import { immutableObject } from './objects.ts';
import { readHeader, readLog, readObject, removeLog, sealAndReadLog } from './volume-log.ts';
import { RadosVolumeStore } from './volume-store.ts';

export interface RadosStoreOptions extends RadosConnection {
  /** Pools and a namespace that hold the store of another cluster are refused. */
  readonly clusterId: string;
  /** The store was made before: pools without it are not those that it is in. */
  readonly mustExist: boolean;
  /** Of the parts of immutable objects that are kept in memory; 0 for none. */
  readonly cacheBytes: number;
  readonly clock: Clock;
  readonly log: Log;
}

const FORMAT = 'archipelago-rados-store';
const VERSION = 1;

export async function openRadosStore(options: RadosStoreOptions): Promise<BlockStore> {
  const { clock, log, namespace } = options;
  const client = await RadosClient.connect(options, clock, log);
  try {
    for (const [pool, name] of [options.mapsPool, options.blocksPool].entries()) {
      await checkSuperblock(client, pool, `pool '${name}', namespace '${namespace}'`, options);
    }
  } catch (error) {
    await client.close();
    throw error;
  }
  return new RadosStore(client, `${options.mapsPool} and ${options.blocksPool}, namespace '${namespace}'`, options.cacheBytes);
}

/** Each pool has one: a pool that was made anew is not taken for the one that held the data. Whoever makes it first wins. */
async function checkSuperblock(client: RadosClient, pool: number, where: string, { clusterId, mustExist }: RadosStoreOptions): Promise<void> {
  if (!mustExist) await makeSuperblock(client, pool, where, clusterId);
  const bytes = await readObject(client, SUPERBLOCK, pool, 0);
  if (bytes === null) {
    throw new ArchipelagoError('not-found', `there is no store in ${where}`, {
      hint: 'name the pools and the namespace where it is, as in docs/rados.md',
    });
  }
  const found = parse(bytes);
  if (found === null || found.format !== FORMAT || typeof found.version !== 'number') {
    throw new ArchipelagoError('corrupt', `the superblock in ${where} is damaged`, { hint: 'restore the object `superblock` from a copy' });
  }
  if (found.version > VERSION) {
    throw new ArchipelagoError('unsupported-version', `the store in ${where} has format ${found.version}; this program knows up to ${VERSION}`, {
      hint: 'run a newer version of Archipelago on this store',
    });
  }
  if (found.clusterId !== clusterId) {
    throw new ArchipelagoError('conflict', `the store in ${where} belongs to cluster ${String(found.clusterId)}, not ${clusterId}`, {
      hint: 'give each cluster a namespace or pools of its own',
    });
  }
}

async function makeSuperblock(client: RadosClient, pool: number, where: string, clusterId: string): Promise<void> {
  const text = `${JSON.stringify({ format: FORMAT, version: VERSION, clusterId })}\n`;
  const made = await client.run((operation) => {
    operation.kind = SUPERBLOCK;
    operation.first = pool;
    operation.steps = CREATE_EXCLUSIVE | WRITE_FULL;
    operation.bytes = Buffer.from(text);
  });
  if (made < 0 && made !== EXISTS) throw radosError(made, `making the superblock in ${where}`);
}

function parse(bytes: Uint8Array): { format?: unknown; version?: unknown; clusterId?: unknown } | null {
  try {
    return JSON.parse(Buffer.from(bytes).toString()) as { format?: unknown; version?: unknown; clusterId?: unknown } | null;
  } catch {
    // Told by the caller.
    return null;
  }
}

class RadosStore implements BlockStore {
  readonly kind = 'rados';
  private readonly client: RadosClient;
  private readonly location: string;
  private readonly cache: ObjectCache | null;
  private readonly volumes = new Set<RadosVolumeStore>();
  /** The epoch under which this store owned a volume last and has no operation under way any more. */
  private readonly lastClosed = new Map<VolumeId, Epoch>();

  constructor(client: RadosClient, location: string, cacheBytes: number) {
    this.client = client;
    this.location = location;
    this.cache = cacheBytes > 0 ? new ObjectCache(cacheBytes, (generation, index) => immutableObject(client, generation, index)) : null;
  }

  async takeOver(volume: VolumeId, epoch: Epoch, clean: boolean): Promise<Takeover> {
    const log = await sealAndReadLog(this.client, volume, epoch);
    const quiet = clean || log.epoch === null || this.lastClosed.get(volume) === log.epoch;
    this.lastClosed.delete(volume);
    const store = new RadosVolumeStore(this.client, volume, epoch, log, (ended) => this.closed(ended));
    this.volumes.add(store);
    return { store, header: log.header, segments: log.segments, from: log.epoch, quiet };
  }

  private closed(store: RadosVolumeStore): void {
    this.volumes.delete(store);
    this.lastClosed.set(store.volume, store.epoch);
  }

  immutableObject(generation: Generation, index: number): BlockObject {
    return this.cache?.object(generation, index) ?? immutableObject(this.client, generation, index);
  }

  async readPage(generation: Generation, sequence: number): Promise<Uint8Array> {
    const page = await readObject(this.client, PAGE, generation, sequence);
    if (page === null) throw pageMissing(generation, sequence);
    return page;
  }

  readHeader(volume: VolumeId): Promise<Uint8Array | null> {
    return readHeader(this.client, volume);
  }

  async readLog(volume: VolumeId): Promise<VolumeLog | null> {
    const log = await readLog(this.client, volume);
    return log?.epoch == null ? null : { epoch: log.epoch, header: log.header, segments: log.segments };
  }

  list(kind: CollectedKind, wanted: (generation: Generation) => boolean): AsyncIterable<readonly ObjectName[]> {
    return listNames(this.client, kind, wanted);
  }

  listLogs(): AsyncIterable<readonly VolumeId[]> {
    return listLogs(this.client);
  }

  remove(kind: CollectedKind, names: readonly ObjectName[]): Promise<Removed> {
    if (kind === 'object') for (const { generation, index } of names) this.cache?.forget(generation, index);
    return removeNames(this.client, kind, names);
  }

  closeIdle(): void {
    // Nothing is kept open.
  }

  removeLog(volume: VolumeId): Promise<void> {
    this.lastClosed.delete(volume);
    return removeLog(this.client, volume);
  }

  async objectExists({ generation, index }: ObjectName): Promise<boolean> {
    const { result } = await this.client.call((cluster, slot, binding) => binding.stat(cluster, slot, BLOCK, generation, index));
    if (result < 0 && result !== MISSING) throw radosError(result, `looking for object ${generation}/${index}`);
    return result >= 0;
  }

  async status(): Promise<StoreStatus> {
    const { result, text } = await this.client.call((cluster, slot, binding) => binding.poolStatus(cluster, slot));
    if (result < 0) throw radosError(result, 'asking for the space of the pools');
    const [usedBytes = 0, availableBytes = 0, wholeBytes = 0] = text.split(' ').map(Number);
    // Without a manager nobody counts: then all of them are 0.
    return { kind: this.kind, location: this.location, usedBytes, availableBytes: wholeBytes === 0 ? null : availableBytes };
  }

  async close(): Promise<void> {
    await Promise.all(Array.from(this.volumes, (volume) => volume.close()));
    await this.client.close();
  }
}
