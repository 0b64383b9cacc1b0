/** `up` and `down` on real processes, which only pretend to be nodes. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { inspect, stopDaemons } from '../../../src/node/cluster/daemons.ts';
import { down } from '../../../src/node/cluster/down.ts';
import type { ClusterFile } from '../../../src/node/cluster/layout.ts';
import { groupMembers, identityOf, readPidFile } from '../../../src/node/cluster/processes.ts';
import { type UpRequest, up } from '../../../src/node/cluster/up.ts';
import { loadConfig } from '../../../src/node/config.ts';
import { fakeExecutable } from './fakes.ts';

let directory: string;
let notes: string[];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'arch-up-'));
  notes = [];
});
afterEach(() => {
  for (const name of ['n1', 'n2', 'n3']) {
    const identity = readPidFile(join(directory, name, 'node.pid'));
    for (const pid of identity === null ? [] : groupMembers(identity)) process.kill(pid, 'SIGKILL');
  }
  rmSync(directory, { recursive: true });
});

const environment = { ...fakeExecutable, note: (line: string) => void notes.push(line) };
const noCeph = { conf: null, user: null, mapsPool: null, blocksPool: null, namespace: null };
const start = (request: Partial<UpRequest> = {}) =>
  up({ directory, nodes: null, store: null, ceph: noCeph, ...request }, environment, new AbortController().signal);
const stop = () => down(directory, environment);
const cluster = () => JSON.parse(readFileSync(join(directory, 'cluster.json'), 'utf8')) as ClusterFile;
const pids = () => cluster().nodes.map(({ pid }) => pid);
const isAlive = (pid: number) => identityOf(pid) !== null;
const running = () => inspect(directory, { nodes: 3, joined: [] }).filter((node) => node.running !== null).length;
const put = (node: string, flag: string, text = '') => writeFileSync(join(directory, node, flag), text);
const edit = (path: string, from: string | RegExp, to: string) => writeFileSync(path, readFileSync(path, 'utf8').replace(from, to));

function volumesOf(adminSocket: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath: adminSocket, path: '/v1/volumes', agent: false }, async (response) => {
      let text = '';
      for await (const chunk of response) text += String(chunk);
      resolve(JSON.parse(text));
    });
    sent.once('error', reject).end();
  });
}

describe('the first up', () => {
  it('makes three nodes, a first volume, and cluster.json', async () => {
    const result = await start();
    expect(result).toMatchObject({ leader: 'n1', started: ['n1', 'n2', 'n3'], madeFirstVolume: true, cluster: cluster() });
    expect(cluster().nodes.map((node: object) => Object.keys(node))).toEqual(
      Array(3).fill(['name', 'peerId', 'pid', 'adminSocket', 'nbdSocket', 'httpUrl', 'listen']),
    );
    for (const { name, pid, peerId, listen, adminSocket, nbdSocket, httpUrl } of cluster().nodes) {
      const home = join(directory, name);
      expect([adminSocket, nbdSocket, httpUrl]).toEqual([join(home, 'admin.sock'), join(home, 'nbd.sock'), null]);
      expect(groupMembers(identityOf(pid)!)).toEqual([pid]);
      const config = loadConfig(join(home, 'node.toml'));
      expect(config).toMatchObject({ name, listen, store: { kind: 'file', directory: join(directory, 'store') } });
      expect(config.bootstrap!.members).toHaveLength(3);
      expect(config.bootstrap!.members.find((member) => member.name === name)).toEqual({ name, peerId, control: listen, data: config.dataListen });
    }
    const addresses = inspect(directory, { nodes: 3, joined: [] }).flatMap(({ config }) => [config.listen, config.dataListen]);
    expect(new Set(addresses).size).toBe(6);
    expect(new Set(cluster().nodes.map(({ peerId }) => peerId)).size).toBe(3);
    expect(await volumesOf(cluster().nodes[0]!.adminSocket)).toEqual([{ name: 'first', size: 10 * 1024 ** 3 }]);
  });

  it.each<[Partial<UpRequest>, RegExp]>([
    [{ nodes: 2 }, /--nodes is 1, 3, 5, 7, not 2/],
    [{ nodes: 3, store: 'memory' }, /takes one node only/],
    [{ store: 'rados' }, /needs --ceph-conf/],
    [{ ceph: { ...noCeph, user: 'client.a' } }, /the store file has no --ceph-user/],
    [{ directory: `/tmp/${'x'.repeat(100)}` }, /bytes; at most 107/],
  ])('refuses %j and makes nothing', async (wanted, message) => {
    await expect(start(wanted)).rejects.toMatchObject({ code: 'invalid-argument', message: expect.stringMatching(message) });
    expect(existsSync(join(wanted.directory ?? directory, 'archipelago.json'))).toBe(false);
    expect(existsSync(join(wanted.directory ?? directory, 'n1'))).toBe(false);
  });

  it('takes one node for the store memory by itself', async () => {
    expect((await start({ store: 'memory' })).cluster.nodes).toHaveLength(1);
    expect(existsSync(join(directory, 'store'))).toBe(false);
  });

  it('tells each node where the store rados is, and takes no other place later', async () => {
    const given = { conf: '/c', user: 'client.a', mapsPool: 'm', blocksPool: 'b', namespace: 'n' };
    const wanted = { store: 'rados', nodes: 1 } as const;
    await start({ ...wanted, ceph: given });
    const store = { kind: 'rados', cephConf: '/c', client: 'client.a', mapsPool: 'm', blocksPool: 'b', namespace: 'n' };
    expect(loadConfig(join(directory, 'n1', 'node.toml')).store).toMatchObject(store);
    await stop();
    for (const [name, option] of [
      ['conf', '--ceph-conf'],
      ['user', '--ceph-user'],
      ['mapsPool', '--ceph-maps-pool'],
      ['blocksPool', '--ceph-blocks-pool'],
      ['namespace', '--ceph-namespace'],
    ] as const) {
      const other = { ...given, [name]: 'other' };
      const message = expect.stringContaining(`has ${option} ${given[name]}, not other`);
      await expect(start({ ceph: other })).rejects.toMatchObject({ code: 'invalid-argument', message });
    }
    await start({ ceph: { ...noCeph, user: 'client.a' } });
  });

  it('leaves what is not said of Ceph to the defaults', async () => {
    await start({ store: 'rados', nodes: 1, ceph: { ...noCeph, conf: '/c' } });
    expect(readFileSync(join(directory, 'n1', 'node.toml'), 'utf8')).toMatch(/\[store\]\nkind = "rados"\ncephConf = "\/c"\n\n/);
  });

  it('is done again where it was interrupted, but never over the data of a node', async () => {
    mkdirSync(join(directory, 'n1'));
    put('n1', 'node.toml', 'half of a fi');
    await start({ nodes: 1 });
    await stop();
    rmSync(join(directory, 'archipelago.json'));
    mkdirSync(join(directory, 'n1', 'raft'));
    await expect(start()).rejects.toMatchObject({ code: 'conflict', message: expect.stringContaining('has the node n1, but no archipelago.json') });
  });
});

describe('up on a directory that is there', () => {
  it('goes on with it: same cluster, identities and ports, and no second first volume', async () => {
    const before = (await start()).cluster;
    const id = readFileSync(join(directory, 'archipelago.json'), 'utf8');
    expect(await stop()).toEqual(before.nodes.map(({ name, pid }) => ({ name, pid, killed: false })));
    expect(existsSync(join(directory, 'cluster.json'))).toBe(false);
    expect(before.nodes.some(({ pid }) => isAlive(pid))).toBe(false);
    const after = await start();
    expect(after.madeFirstVolume).toBe(false);
    expect(after.cluster.nodes.map(({ pid: _, ...rest }) => rest)).toEqual(before.nodes.map(({ pid: _, ...rest }) => rest));
    expect(readFileSync(join(directory, 'archipelago.json'), 'utf8')).toBe(id);
    expect(await volumesOf(after.cluster.nodes[0]!.adminSocket)).toEqual([]);
  });

  it('refuses when all run, and when it is asked for another shape', async () => {
    await start({ nodes: 3, store: 'file' });
    const before = pids();
    // An `up` that was killed at the wrong moment leaves none.
    rmSync(join(directory, 'cluster.json'));
    await expect(start()).rejects.toMatchObject({ code: 'already-running' });
    expect(pids()).toEqual(before);
    await expect(start({ nodes: 3, store: 'file' })).rejects.toMatchObject({ code: 'already-running' });
    for (const wanted of [{ nodes: 5 }, { nodes: 1 }, { store: 'memory' }] as const) {
      await expect(start(wanted)).rejects.toMatchObject({ code: 'invalid-argument', message: expect.stringContaining('not ') });
    }
    expect(pids().every(isAlive)).toBe(true);
  });

  it('starts the ones that are missing, over their stale pids and sockets', async () => {
    await start();
    const [one, two, three] = pids();
    process.kill(two!, 'SIGKILL');
    await vi.waitFor(() => expect(isAlive(two!)).toBe(false));
    expect(existsSync(join(directory, 'n2', 'admin.sock'))).toBe(true);
    expect((await start()).started).toEqual(['n2']);
    expect([pids()[0], pids()[2]]).toEqual([one, three]);
    expect(pids()[1]).not.toBe(two);
    expect(pids().every(isAlive)).toBe(true);
  });

  it('waits for the ports of a node that was killed, and names the one that another program has', async () => {
    await start({ nodes: 1 });
    const [pid] = pids();
    const [, , , , port] = cluster().nodes[0]!.listen.split('/');
    process.kill(pid!, 'SIGKILL');
    await vi.waitFor(() => expect(isAlive(pid!)).toBe(false));
    const holder = createServer();
    const hold = () => new Promise<void>((resolve) => void holder.listen(Number(port), '127.0.0.1', resolve));
    await hold();
    const again = start();
    await vi.waitFor(() => expect(existsSync(join(directory, 'n1', 'node.pid'))).toBe(false));
    setTimeout(() => holder.close(), 300);
    expect((await again).started).toEqual(['n1']);
    await stop();
    await hold();
    await expect(start()).rejects.toMatchObject({ code: 'in-use', message: expect.stringContaining(`port ${port} of node n1`) });
    holder.close();
  });

  it('does not take another process for a node because it has its pid', async () => {
    await start({ nodes: 1 });
    await stop();
    put('n1', 'node.pid', JSON.stringify({ ...identityOf(process.pid)!, startTime: '1' }));
    expect(await stop()).toEqual([]);
    await start();
    expect(pids()).not.toContain(process.pid);
  });

  it('waits for what a killed node left behind', async () => {
    await start({ nodes: 1 });
    await stop();
    put('n1', 'child');
    await start();
    const [pid] = pids();
    const identity = identityOf(pid!)!;
    await vi.waitFor(() => expect(groupMembers(identity)).toHaveLength(2));
    process.kill(pid!, 'SIGKILL');
    await vi.waitFor(() => expect(isAlive(pid!)).toBe(false));
    expect(groupMembers(identity)).toHaveLength(1);
    await start();
    expect(groupMembers(identity)).toEqual([]);
    expect(notes).toEqual([]);
  });

  it('goes on without nodes that were removed, and says so of one that learns it only now', async () => {
    await start();
    await stop();
    put('n1', 'removed');
    put('n2', 'leave');
    const { cluster: file, started } = await start();
    expect([file.nodes.map(({ name }) => name), started]).toEqual([['n3'], ['n3']]);
    expect(notes).toEqual([`node n2 was removed from the cluster; ${join(directory, 'n2')} can be deleted`]);
    await stop();
    for (const name of ['n1', 'n2']) rmSync(join(directory, name), { recursive: true });
    expect((await start()).started).toEqual(['n3']);
    expect(await stop()).toMatchObject([{ name: 'n3' }]);
    await expect(start({ nodes: 1 })).rejects.toMatchObject({ code: 'invalid-argument', message: expect.stringMatching(/--nodes 3, not 1/) });
    rmSync(join(directory, 'n3'), { recursive: true });
    await expect(start()).rejects.toMatchObject({ code: 'not-found' });
  });

  it('starts and stops nodes that joined later', async () => {
    await start({ nodes: 1 });
    const path = join(directory, 'archipelago.json');
    cpSync(join(directory, 'n1'), join(directory, 'web'), { recursive: true, filter: (from) => !/\.(sock|pid|log)$/.test(from) });
    edit(join(directory, 'web', 'node.toml'), /"n1"/g, '"web"');
    edit(join(directory, 'web', 'node.toml'), '[[bootstrap', '[[join');
    edit(join(directory, 'web', 'node.toml'), /^(listen|dataListen) = .*\n/gm, '');
    edit(join(directory, 'web', 'node.toml'), /^/, 'listen = "/ip4/127.0.0.1/tcp/0"\ndataListen = "/ip4/127.0.0.1/tcp/0"\n');
    edit(path, '"joined": []', '"joined": ["web"]');
    const { cluster: file, started } = await start();
    expect(started).toEqual(['web']);
    expect(file.nodes.map(({ name, peerId }) => [name, peerId])).toEqual([
      ['n1', file.nodes[0]?.peerId],
      ['web', file.nodes[0]?.peerId],
    ]);
    expect((await stop()).map(({ name }) => name)).toEqual(['n1', 'web']);
  });

  it('refuses one that a newer program made, and one that is damaged', async () => {
    await start({ nodes: 1 });
    await stop();
    const path = join(directory, 'archipelago.json');
    edit(path, '"formatVersion": 1', '"formatVersion": 2');
    await expect(start()).rejects.toMatchObject({ code: 'unsupported-version' });
    await expect(stop()).rejects.toMatchObject({ code: 'unsupported-version' });
    writeFileSync(path, '{');
    await expect(start()).rejects.toMatchObject({ code: 'corrupt' });
  });

  it('names the file and the key when a node.toml is wrong', async () => {
    await start();
    await stop();
    const file = join(directory, 'n2', 'node.toml');
    edit(file, /^/, 'colour = 1\n');
    await expect(start()).rejects.toMatchObject({ code: 'invalid-argument', message: expect.stringContaining(`${file}: unknown key 'colour'`) });
    expect(existsSync(join(directory, 'n1', 'node.pid'))).toBe(false);
  });

  it('shows httpUrl where one is configured', async () => {
    await start({ nodes: 1 });
    await stop();
    edit(join(directory, 'n1', 'node.toml'), /$/, '\n[http]\nlisten = "127.0.0.1:0"\ntokenFile = "token"\n');
    expect((await start()).cluster.nodes[0]!.httpUrl).toBe('http://127.0.0.1:0');
  });
});

describe('an up that fails', () => {
  it('shows the end of the log of a node that does not start, and stops the others', async () => {
    await start();
    await stop();
    put('n2', 'refuse', 'first line\nError: listen EADDRINUSE: 127.0.0.1:7001');
    await expect(start()).rejects.toMatchObject({
      code: 'in-use',
      message: 'node n2 exited with status 1; the end of its log:\n  first line\n  Error: listen EADDRINUSE: 127.0.0.1:7001',
      hint: `see ${join(directory, 'n2', 'node.log')}`,
    });
    expect(running()).toBe(0);
    expect(existsSync(join(directory, 'cluster.json'))).toBe(false);
    put('n2', 'refuse', 'out of luck');
    await expect(start()).rejects.toMatchObject({ code: 'io-error', message: expect.not.stringContaining('EADDRINUSE') });
  });

  it('names the port that is in use before it starts anything', async () => {
    await start();
    await stop();
    const file = join(directory, 'n1', 'node.toml');
    const port = Number(loadConfig(file).listen.split('/').at(-1));
    const other = createServer().listen(port, '127.0.0.1');
    await new Promise((resolve) => other.once('listening', resolve));
    await expect(start()).rejects.toMatchObject({
      code: 'in-use',
      message: `port ${port} of node n1 ('listen') is in use`,
      hint: expect.stringContaining(file),
    });
    other.close();
    expect(running()).toBe(0);
  });

  it('is one of two at the same time', async () => {
    const both = await Promise.allSettled([start({ nodes: 1 }), start({ nodes: 1 })]);
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(both.find(({ status }) => status === 'rejected')).toMatchObject({ reason: { code: 'in-use' } });
    expect(pids().every(isAlive)).toBe(true);
  });

  it('leaves alone what ran before', async () => {
    await start();
    const [one, two] = pids();
    process.kill(two!, 'SIGKILL');
    await vi.waitFor(() => expect(isAlive(two!)).toBe(false));
    put('n2', 'refuse', 'no');
    await expect(start()).rejects.toMatchObject({ code: 'io-error' });
    expect(isAlive(one!)).toBe(true);
    expect(running()).toBe(2);
    expect(existsSync(join(directory, 'cluster.json'))).toBe(true);
  });
});

describe('down', () => {
  it('has nothing to do where nothing runs, and fails where no cluster is', async () => {
    await expect(stop()).rejects.toMatchObject({ code: 'not-found' });
    await expect(down('/nowhere', environment)).rejects.toMatchObject({ code: 'not-found' });
    await start({ nodes: 1 });
    await stop();
    expect(await stop()).toEqual([]);
  });

  it('kills what does not stop in time, and says so', async () => {
    await start({ nodes: 1 });
    await stop();
    put('n1', 'stubborn');
    await start();
    const [pid] = pids();
    expect(await stopDaemons(inspect(directory, { nodes: 1, joined: [] }), environment, 300)).toEqual([{ name: 'n1', pid, killed: true }]);
    expect(notes).toEqual(['node n1 has not stopped within 0.3 s; killing it']);
    expect(isAlive(pid!)).toBe(false);
  });
});
