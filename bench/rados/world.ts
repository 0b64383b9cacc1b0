/** One real Ceph cluster of one OSD, our daemons on it, and RBD beside them: what all cases of `bench/rados.ts` share. */
import { type ChildProcess, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { startCeph, stopCeph } from '../../chaos/ceph/cluster.ts';
import { type Cluster, prepareCluster } from '../../chaos/process/cluster.ts';
import { run } from '../../chaos/process/programs.ts';
import type { Undoing } from '../support/interruptible.ts';
import { nbdUri, startServer } from '../support/processes.ts';
import { runFio, type Target } from './fio.ts';

const BUILD = join(import.meta.dirname, '../../scripts/build-rados.sh');
const OSD_BYTES = 32 * 2 ** 30;
const POOL = 'rbd';
const PLACEMENT_GROUPS = '16';

/** Where our volumes are owned and used, unless a case says otherwise. */
export const HOME = 'n1';

/** An image of RBD under qemu-nbd, without a cache. */
export interface QemuNbd {
  readonly pid: number;
  readonly target: Target;
  readonly uri: string;
  kill(): Promise<void>;
}

export class World {
  readonly signal: AbortSignal;
  readonly cluster: Cluster;
  private readonly atEnd: Undoing['atEnd'];
  private readonly directory: string;
  private readonly confFile: string;
  /** Of clients without librbd's cache. */
  private readonly uncachedConfFile: string;
  private servers = 0;

  private constructor({ atEnd, signal }: Undoing, directory: string, confFile: string, cluster: Cluster) {
    this.atEnd = atEnd;
    this.signal = signal;
    this.directory = directory;
    this.confFile = confFile;
    this.uncachedConfFile = join(directory, 'uncached.conf');
    this.cluster = cluster;
    writeFileSync(this.uncachedConfFile, `${readFileSync(confFile, 'utf8')}[client]\nrbd cache = false\n`);
  }

  static async start(undoing: Undoing): Promise<World> {
    const { atEnd, signal } = undoing;
    execFileSync('sh', [BUILD]);
    // Short: admin sockets are in it, and a socket's path has at most 107 bytes.
    const directory = mkdtempSync(join(tmpdir(), 'bench-'));
    atEnd(() => rmSync(directory, { recursive: true, force: true }));
    const cephDirectory = join(directory, 'ceph');
    atEnd(() => stopCeph(cephDirectory, true));
    const { confFile } = await startCeph({ directory: cephDirectory, osds: 1, osdSizeBytes: OSD_BYTES });
    signal.throwIfAborted();
    const pool = ['osd', 'pool', 'create', POOL, PLACEMENT_GROUPS, PLACEMENT_GROUPS, 'replicated'];
    await run('ceph', ['--conf', confFile, ...pool], { signal });
    await run('ceph', ['--conf', confFile, 'osd', 'pool', 'application', 'enable', POOL, 'rbd'], { signal });
    const cluster = await prepareCluster(atEnd);
    await cluster.up('--store', 'rados', '--ceph-conf', confFile);
    signal.throwIfAborted();
    return new World(undoing, directory, confFile, cluster);
  }

  /** A volume of ours, owned at `HOME`, as a client there sees it. */
  async volume(name: string, size: string): Promise<Target> {
    await this.cluster.createVolume(name, size, HOME);
    return this.ours(name);
  }

  ours(volume: string): Target {
    return { name: 'ours', engine: ['--ioengine=nbd', `--uri=${this.cluster.uri(volume, HOME)}`] };
  }

  /** The same of a volume that is filled. */
  async filledVolume(name: string, size: string): Promise<Target> {
    return this.fill(await this.volume(name, size), size);
  }

  /** An image of RBD, filled. */
  async filledImage(name: string, size: string): Promise<void> {
    await this.rbd('create', '--size', size, name);
    await this.fill(this.librbd(name), size);
  }

  private async fill(target: Target, size: string): Promise<Target> {
    await runFio(this.signal, [target], ['--rw=write', '--bs=1m', '--iodepth=8', `--size=${size}`]);
    return target;
  }

  /** fio's own use of librbd. */
  librbd(image: string, cache: 'cached' | 'uncached' = 'uncached'): Target {
    const engine = ['--ioengine=rbd', '--clientname=admin', `--pool=${POOL}`, `--rbdname=${image}`];
    const confFile = cache === 'cached' ? this.confFile : this.uncachedConfFile;
    return { name: cache === 'cached' ? 'librbd with cache' : 'librbd', engine, environment: { CEPH_CONF: confFile } };
  }

  async qemuNbd(image: string): Promise<QemuNbd> {
    const socket = join(this.directory, `qemu-${this.servers++}.sock`);
    const source = `rbd:${POOL}/${image}:id=admin:conf=${this.confFile}`;
    const server = await startServer('qemu-nbd', ['-f', 'raw', '-k', socket, '-t', '-e', '8', '--cache=none', source], socket);
    const kill = () => killed(server);
    this.atEnd(kill);
    const uri = nbdUri(socket);
    return { pid: server.pid as number, uri, target: { name: 'qemu-nbd', engine: ['--ioengine=nbd', `--uri=${uri}`] }, kill };
  }

  rbd(...args: readonly string[]): Promise<string> {
    return run('rbd', ['--conf', this.confFile, '--pool', POOL, ...args], { signal: this.signal });
  }

  /** What the OSD has answered to clients, ours and RBD's alike, since it was started. */
  async bytesFromOsd(): Promise<number> {
    const socket = join(dirname(this.confFile), 'run/ceph-osd.0.asok');
    const text = await run('ceph', ['--conf', this.confFile, '--admin-daemon', socket, 'perf', 'dump'], { signal: this.signal });
    return (JSON.parse(text) as { osd: { op_out_bytes: number } }).osd.op_out_bytes;
  }
}

async function killed(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return;
  const exit = once(server, 'exit');
  server.kill('SIGKILL');
  await exit;
}
