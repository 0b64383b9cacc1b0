/** An AdminService that keeps everything in a Map: enough to see that the plumbing before it asks for the right things. */
import { ArchipelagoError } from '../../../src/base/index.ts';
import type { AdminService, ClusterView, VolumeView } from '../../../src/gateway/admin.ts';

export interface MemoryAdmin extends AdminService {
  /** Volumes, imports included. */
  readonly volumes: Map<string, VolumeView>;
  readonly importing: Set<string>;
  readonly calls: { method: string; args: unknown[] }[];
  uriOf: (name: string, node: string | null) => string;
  cluster: ClusterView;
  checkProblems: string[];
  /** Thrown by every method while it is set. */
  failure: unknown;
  /** Awaited by every method first. */
  gate: Promise<void>;
}

export function memoryAdmin(nodes: readonly string[] = ['n1', 'n2', 'n3']): MemoryAdmin {
  const volumes = new Map<string, VolumeView>();
  const importing = new Set<string>();
  let nextId = 1;
  const find = (name: string): VolumeView => {
    const volume = volumes.get(name);
    if (volume === undefined) throw new ArchipelagoError('not-found', `there is no volume '${name}'`, { hint: '`archipelago volume ls` lists them' });
    return volume;
  };
  const add = (name: string, size: number, fields: Partial<VolumeView> = {}): VolumeView => {
    if (volumes.has(name)) throw new ArchipelagoError('exists', `the name '${name}' is taken`);
    const volume: VolumeView = {
      name,
      id: String(nextId++),
      kind: 'volume',
      size,
      blockSize: 4 * 1024 * 1024,
      origin: null,
      owner: null,
      clients: 0,
      allocatedBytes: 0,
      createdAt: '2026-01-02T03:04:05.000Z',
      labels: {},
      ...fields,
    };
    volumes.set(name, volume);
    return volume;
  };

  const service = {
    async createVolume({ name, size, blockSize, labels }) {
      return add(name, size, { ...(blockSize === undefined ? {} : { blockSize }), labels: labels ?? {} });
    },
    async cloneSnapshot(snapshot, { name, size }) {
      const origin = find(snapshot);
      if (size !== undefined && size < origin.size) throw new ArchipelagoError('invalid-argument', 'a clone cannot be smaller than its snapshot');
      return add(name, size ?? origin.size, { origin: snapshot });
    },
    async snapshotVolume(volume, { name }) {
      return add(name, find(volume).size, { kind: 'snapshot', origin: volume });
    },
    async listVolumes({ label }) {
      const shown = [...volumes.values()].filter(({ name }) => !importing.has(name));
      return label === undefined ? shown : shown.filter(({ labels }) => labels[label.key] === label.value);
    },
    async volumeInfo(name) {
      return find(name);
    },
    async resizeVolume(name, { size, shrink }) {
      const volume = find(name);
      if (volume.kind === 'snapshot') throw new ArchipelagoError('read-only', `'${name}' is a snapshot`);
      if (size < volume.size && !shrink) throw new ArchipelagoError('conflict', `'${name}' would shrink`, { hint: 'add --shrink' });
      volume.size = size;
      return volume;
    },
    async renameVolume(name, request) {
      const volume = find(name);
      if (volumes.has(request.name)) throw new ArchipelagoError('exists', `the name '${request.name}' is taken`);
      volumes.delete(name);
      volume.name = request.name;
      volumes.set(request.name, volume);
      return volume;
    },
    async labelVolume(name, labels) {
      const volume = find(name);
      for (const [key, value] of Object.entries(labels)) {
        if (value === null) delete volume.labels[key];
        else volume.labels[key] = value;
      }
      return volume;
    },
    async removeVolume(name) {
      const volume = find(name);
      if (volume.clients > 0) throw new ArchipelagoError('in-use', `'${name}' has ${volume.clients} client`);
      volumes.delete(name);
      return volume;
    },
    async volumeUri(name, node) {
      find(name);
      return { uri: admin.uriOf(name, node) };
    },
    async migrateVolume(name, { to }) {
      find(name);
      if (!nodes.includes(to)) throw new ArchipelagoError('not-found', `there is no node '${to}'`);
      return { name, from: nodes[0]!, to, epoch: '7', pauseMs: 3.25 };
    },
    async openVolume(name, { shared }) {
      find(name);
      return { name, mode: shared ? 'shared' : 'exclusive', holder: shared ? null : nodes[0]!, nodes: [nodes[0]!], fenced: [] };
    },
    async closeVolume(name) {
      find(name);
      return { name, mode: null, holder: null, nodes: [], fenced: [] };
    },
    async lockVolume(name) {
      find(name);
      return { name, mode: 'locked', holder: nodes[0]!, nodes: [nodes[0]!], fenced: [] };
    },
    async unlockVolume(name, { force }) {
      find(name);
      return { name, mode: null, holder: null, nodes: [], fenced: force ? [nodes[0]!] : [] };
    },
    async checkVolume(name) {
      find(name);
      return { name, ok: admin.checkProblems.length === 0, blocks: 12, pages: 3, problems: admin.checkProblems };
    },
    async beginImport({ name, size, blockSize }, signal) {
      const volume = add(name, size, blockSize === undefined ? {} : { blockSize });
      importing.add(name);
      const remove = () => {
        if (importing.delete(name)) volumes.delete(name);
      };
      if (signal.aborted) remove();
      else signal.addEventListener('abort', remove);
      return { ...volume, uri: admin.uriOf(name, null) };
    },
    async finishImport(name) {
      if (!importing.delete(name)) throw new ArchipelagoError('not-found', `no import of '${name}'`);
      return find(name);
    },
    async diffVolume(from: string, to: string, cursor: string | null) {
      find(from);
      find(to);
      const page = Number(cursor ?? 0);
      // Three pages, of which the second goes on where the first has ended.
      const extents = [
        [{ offset: 0, length: 4096, zero: false }],
        [{ offset: 4096, length: 4096, zero: false }],
        [{ offset: 8192, length: 512, zero: true }],
      ][page];
      return { extents: extents ?? [], next: page < 2 ? String(page + 1) : null };
    },
    async collect() {
      return { cycle: 1 };
    },
    async collectionStatus() {
      const freed = { freedBytes: 3 * 1024 ** 2, freedObjects: 3 };
      const times = { startedAt: '2026-01-31T12:00:00.000Z', finishedAt: '2026-01-31T12:00:01.000Z' };
      return { running: null, last: { cycle: 1, node: 'n1', ...times, ...freed, error: null }, cycles: 1, ...freed };
    },
    async clusterStatus() {
      return admin.cluster;
    },
    async drainNode(node) {
      return { node: node ?? nodes[0]!, moved: 2 };
    },
    async invite({ expiresMs }) {
      return { token: 'abc', expiresAt: new Date(expiresMs ?? 3_600_000).toISOString() };
    },
    async removeNode(node) {
      if (!nodes.includes(node)) throw new ArchipelagoError('not-found', `there is no node '${node}'`);
      return { node, voters: [nodes[0]!], learners: nodes.filter((each) => each !== node).slice(1) };
    },
    async transferLeader({ to }) {
      return { from: nodes[0]!, to, term: 4 };
    },
  } satisfies AdminService;

  const cluster: ClusterView = {
    leader: nodes[0]!,
    term: 3,
    quorum: true,
    nodes: nodes.map((name, index) => ({
      name,
      peerId: `peer-${name}`,
      role: 'voter',
      up: true,
      lease: true,
      volumes: index,
      version: '0.1.0',
      pids: { control: 100 + index, data: [200 + index] },
    })),
    volumes: 0,
    store: { kind: 'memory', location: '', usedBytes: 0, availableBytes: null },
  };
  const calls: MemoryAdmin['calls'] = [];
  const admin: MemoryAdmin = Object.assign(recorded(service), {
    volumes,
    importing,
    calls,
    cluster,
    checkProblems: [],
    failure: undefined,
    gate: Promise.resolve(),
    uriOf: (name: string, node: string | null) => `nbd+unix:///${encodeURIComponent(name)}?socket=/nowhere/${node ?? nodes[0]}/nbd.sock`,
  });
  return admin;

  function recorded(plain: AdminService): AdminService {
    const wrap =
      (method: string, call: (...args: unknown[]) => Promise<unknown>) =>
      async (...args: unknown[]) => {
        calls.push({ method, args });
        await admin.gate;
        if (admin.failure !== undefined) throw admin.failure;
        return structuredClone(await call(...args));
      };
    return Object.fromEntries(Object.entries(plain).map(([method, call]) => [method, wrap(method, call)])) as unknown as AdminService;
  }
}
