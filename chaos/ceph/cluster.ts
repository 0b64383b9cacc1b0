/**
 * A real Ceph cluster for development and tests, from the distribution's packages, in a directory of its own: one monitor, OSDs with
 * BlueStore on sparse files, everything on 127.0.0.1. There is no manager: nothing here needs one, and pools report no statistics.
 */
import { randomUUID } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { run } from '../process/programs.ts';
import { eventually } from '../process/wait.ts';

export interface CephOptions {
  readonly directory: string;
  readonly osds: number;
  /** Of each OSD's file, which is sparse. */
  readonly osdSizeBytes?: number;
}

export interface CephCluster {
  readonly confFile: string;
  /** As in `client.USER`: one that may do no more than docs/rados.md asks for, in namespaces that begin with `NAMESPACE_PREFIX`. */
  readonly user: string;
  readonly mapsPool: string;
  readonly blocksPool: string;
  /** Of each OSD, by its number. */
  readonly osdPids: readonly number[];
  readonly monitorPid: number;
}

export const NAMESPACE_PREFIX = 'archipelago-';
const USER = 'archipelago';
const MAPS_POOL = 'maps';
const BLOCKS_POOL = 'blocks';
const DEFAULT_OSD_BYTES = 10 * 2 ** 30;
const READY_MS = 60_000;
/** Written last, when the cluster and its pools have been made. */
const COMPLETE = 'complete';
/**
 * A placement group stops answering when its OSD has stood still for four fifths of this, since its lease for reads has run out; the only OSD of
 * a pool has no other that would renew it, and stays like that (Ceph 16). Tests stop OSDs for less.
 */
const GRACE_SECONDS = 100;
/** Per pool; a power of two. */
const PLACEMENT_GROUPS = '16';

/** Starts what does not run of the cluster of a directory, and makes the cluster first if there is none. */
export async function startCeph(options: CephOptions): Promise<CephCluster> {
  const directory = resolve(options.directory);
  const confFile = join(directory, 'ceph.conf');
  const fresh = !existsSync(join(directory, COMPLETE));
  if (fresh) await makeCluster(directory, confFile, options);
  const osds = osdNumbers(directory);
  if (pidOf(directory, 'mon.a') === null) await run('ceph-mon', ['--conf', confFile, '-i', 'a']);
  for (const osd of osds) if (pidOf(directory, `osd.${osd}`) === null) await startOsd(directory, osd);
  await eventually('the OSDs are up', async () => (await ceph(confFile, 'osd', 'stat')).includes(`${osds.length} up`), READY_MS);
  if (fresh) {
    for (const pool of [MAPS_POOL, BLOCKS_POOL]) await createPool(confFile, pool);
    await makeUser(directory, confFile);
    writeFileSync(join(directory, COMPLETE), '');
  }
  // A pool takes requests once its placement groups have been made: `ls` asks each of them.
  for (const pool of [MAPS_POOL, BLOCKS_POOL]) await run('rados', ['--conf', confFile, '-p', pool, 'ls']);
  return describeCeph(directory);
}

export async function createPool(confFile: string, pool: string): Promise<void> {
  await ceph(confFile, 'osd', 'pool', 'create', pool, PLACEMENT_GROUPS, PLACEMENT_GROUPS, 'replicated');
  await ceph(confFile, 'osd', 'pool', 'application', 'enable', pool, 'archipelago');
}

async function makeUser(directory: string, confFile: string): Promise<void> {
  const objects = [MAPS_POOL, BLOCKS_POOL].map((pool) => `allow rw pool=${pool} namespace=${NAMESPACE_PREFIX}*`).join(', ');
  const key = await ceph(confFile, 'auth', 'get-or-create', `client.${USER}`, 'mon', 'allow r', 'osd', objects);
  appendFileSync(join(directory, 'keyring'), key);
}

function describeCeph(directory: string): CephCluster {
  const root = resolve(directory);
  return {
    confFile: join(root, 'ceph.conf'),
    user: USER,
    mapsPool: MAPS_POOL,
    blocksPool: BLOCKS_POOL,
    osdPids: osdNumbers(root).map((osd) => pidOf(root, `osd.${osd}`) ?? 0),
    monitorPid: pidOf(root, 'mon.a') ?? 0,
  };
}

/** Ends the daemons of a directory, and with `remove` takes the directory away. Whatever they hold goes with them: it is for tests. */
export async function stopCeph(directory: string, remove: boolean): Promise<void> {
  const root = resolve(directory);
  const names = [...osdNumbers(root).map((osd) => `osd.${osd}`), 'mon.a'];
  for (const name of names) {
    const pid = pidOf(root, name);
    if (pid === null) continue;
    process.kill(pid, 'SIGKILL');
    await eventually(`${name} ends`, () => pidOf(root, name) === null);
  }
  if (remove) rmSync(root, { recursive: true, force: true });
}

export function ceph(confFile: string, ...args: string[]): Promise<string> {
  return run('ceph', ['--conf', confFile, '--connect-timeout', '30', ...args]);
}

async function makeCluster(directory: string, confFile: string, { osds, osdSizeBytes }: CephOptions): Promise<void> {
  rmSync(directory, { recursive: true, force: true });
  for (const folder of ['mon', 'run', 'log']) mkdirSync(join(directory, folder), { recursive: true });
  const fsid = randomUUID();
  const address = `[v2:127.0.0.1:${await freePort()},v1:127.0.0.1:${await freePort()}]`;
  writeFileSync(confFile, configuration(directory, fsid, address, osds, osdSizeBytes ?? DEFAULT_OSD_BYTES));
  const keyring = join(directory, 'keyring');
  await run('ceph-authtool', ['--create-keyring', keyring, '--gen-key', '-n', 'mon.', '--cap', 'mon', 'allow *']);
  const all = ['mon', 'osd', 'mgr'].flatMap((service) => ['--cap', service, 'allow *']);
  await run('ceph-authtool', [keyring, '--gen-key', '-n', 'client.admin', ...all]);
  const map = join(directory, 'monmap');
  await run('monmaptool', ['--create', '--fsid', fsid, '--addv', 'a', address, map]);
  await run('ceph-mon', ['--conf', confFile, '--mkfs', '-i', 'a', '--monmap', map, '--keyring', keyring]);
  await run('ceph-mon', ['--conf', confFile, '-i', 'a']);
  for (let osd = 0; osd < osds; osd++) await makeOsd(directory, confFile, osd);
}

async function makeOsd(directory: string, confFile: string, osd: number): Promise<void> {
  const data = join(directory, `osd${osd}`);
  mkdirSync(data);
  const uuid = randomUUID();
  const secret = (await run('ceph-authtool', ['--gen-print-key'])).trim();
  await run('ceph', ['--conf', confFile, 'osd', 'new', uuid, String(osd), '-i', '-'], { input: JSON.stringify({ cephx_secret: secret }) });
  await run('ceph-authtool', ['--create-keyring', join(data, 'keyring'), '-n', `osd.${osd}`, '--add-key', secret]);
  await run('ceph-osd', ['--conf', confFile, '-i', String(osd), '--mkfs', '--osd-uuid', uuid, '--keyring', join(data, 'keyring')]);
  await startOsd(directory, osd);
}

/** Also for one that was killed. */
async function startOsd(directory: string, osd: number): Promise<void> {
  const keyring = join(resolve(directory), `osd${osd}`, 'keyring');
  await run('ceph-osd', ['--conf', join(resolve(directory), 'ceph.conf'), '-i', String(osd), '--keyring', keyring]);
}

function configuration(directory: string, fsid: string, address: string, osds: number, osdSizeBytes: number): string {
  return `[global]
fsid = ${fsid}
mon host = ${address}
mon initial members = a
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = ${directory}/keyring
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
ms bind ipv6 = false
run dir = ${directory}/run
pid file = ${directory}/run/$name.pid
log file = ${directory}/log/$name.log
osd crush chooseleaf type = 0
osd pool default size = ${osds}
osd pool default min size = 1
osd pool default pg autoscale mode = off
osd heartbeat grace = ${GRACE_SECONDS}
mon allow pool size one = true
mon allow pool delete = true
mon warn on pool no redundancy = false
mon data avail warn = 1
mon data avail crit = 1
mon cluster log file = /dev/null
[mon]
mon data = ${directory}/mon
[osd]
osd data = ${directory}/osd$id
osd objectstore = bluestore
bluestore block size = ${osdSizeBytes}
bluestore block create = true
osd memory target autotune = false
osd memory target = 1073741824
`;
}

function osdNumbers(directory: string): number[] {
  if (!existsSync(directory)) return [];
  const numbers = readdirSync(directory).flatMap((name) => /^osd(\d+)$/.exec(name)?.[1] ?? []);
  return numbers.map(Number).sort((a, b) => a - b);
}

/** Null when the daemon does not run. */
function pidOf(directory: string, name: string): number | null {
  const path = join(directory, 'run', `${name}.pid`);
  if (!existsSync(path)) return null;
  const pid = Number(readFileSync(path, 'latin1').trim());
  // The pid may belong to another program by now: only a process that was started with this directory is ours.
  const command = existsSync(`/proc/${pid}/cmdline`) ? readFileSync(`/proc/${pid}/cmdline`, 'latin1') : '';
  return pid > 0 && command.includes(directory) ? pid : null;
}

function freePort(): Promise<number> {
  return new Promise((resolvePort, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolvePort(port));
    });
  });
}
