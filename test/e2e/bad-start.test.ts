/** Starting what cannot be started: each refusal says why, and what is there goes on, or goes on later. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Level } from 'level';
import { beforeAll, expect, it } from 'vitest';
import { crc32 } from '../../src/base/index.ts';
import { requireTools } from '../support/tools.ts';
import { qemuIo, temporaryDirectory, tryQemuIo } from './support/clients.ts';
import { shareCluster } from './support/cluster.ts';
import { type Ended, LAUNCHER, runToEnd } from './support/processes.ts';

const suite = requireTools(['qemu-io']);

/** Runs the CLI where there is no cluster around. */
async function alone(args: readonly string[], directory: string): Promise<[number | null, string, string]> {
  const ended = await runToEnd(process.execPath, [LAUNCHER, ...args, '--json'], { directory, environment: { ARCHIPELAGO_SOCKET: '' } });
  return failureOf(ended);
}

function failureOf({ status, stdout, stderr }: Ended): [number | null, string, string] {
  expect(stdout).toBe('');
  const { error } = JSON.parse(stderr) as { error: { code: string; message: string; hint: string | null } };
  expect(Object.keys(error)).toEqual(['code', 'message', 'hint']);
  return [status, error.code, error.message];
}

suite('without a cluster', () => {
  it.each<[string[], number, string, RegExp]>([
    [['volume', 'ls'], 5, 'unavailable', /no running node/],
    [['cluster', 'status'], 5, 'unavailable', /no running node/],
    [['volume', 'ls', '--socket', 'nowhere.sock'], 5, 'unavailable', /nowhere\.sock/],
    [['volume', 'create', 'a/b', '--size', '1G'], 2, 'invalid-argument', /'a\/b'/],
    [['down'], 3, 'not-found', /archipelago-data/],
    [['down', '--data', 'nowhere'], 3, 'not-found', /nowhere/],
    [['up', '--nodes', '2'], 2, 'invalid-argument', /--nodes/],
    [['up', '--nodes', 'three'], 2, 'invalid-argument', /three/],
    [['up', '--store', 'tape'], 2, 'invalid-argument', /tape/],
    [['up', '--nodes', '3', '--store', 'memory'], 2, 'invalid-argument', /one node only/],
    [['up', '--data', 'x'.repeat(100)], 2, 'invalid-argument', /107/],
    [['up', 'extra'], 2, 'invalid-argument', /too many|extra/i],
    [['node', 'start'], 2, 'invalid-argument', /--config/],
    [['node', 'start', '--config', 'missing.toml'], 3, 'not-found', /missing\.toml/],
    [['frobnicate'], 2, 'invalid-argument', /frobnicate/],
    [['volume'], 2, 'invalid-argument', /missing command/],
    [[], 2, 'invalid-argument', /missing command/],
    [['--frobnicate'], 2, 'invalid-argument', /--frobnicate/],
    [['completion', 'tcsh'], 2, 'invalid-argument', /tcsh/],
  ])('%j', async (args, status, code, message) => {
    const directory = temporaryDirectory();
    expect(await alone(args, directory)).toEqual([status, code, expect.stringMatching(message)]);
    expect(readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())).toEqual([]);
  });
});

suite('up', () => {
  const cluster = shareCluster({ nodes: 1 });
  const up = (...args: string[]) => cluster().cli(['up', '--data', cluster().directory, '--detach', ...args]);
  const file = (path: string) => join(cluster().directory, path);
  const isThere = () => qemuIo(cluster().uri('disk', 'n1'), 'read -P 1 0 1M');
  beforeAll(async () => {
    await cluster().createVolume('disk', '1M');
    await qemuIo(cluster().uri('disk', 'n1'), 'write -P 1 0 1M', 'flush');
  });

  /** Makes a change while the node is down, hands over what `up` says, undoes it, and finds all as it was. */
  const refusedWith = async (change: () => Promise<() => unknown> | (() => unknown)) => {
    await cluster().down();
    const undo = await change();
    try {
      return failureOf(await up());
    } finally {
      await undo();
      await cluster().up();
      await isThere();
    }
  };
  const edited = (path: string, edit: (bytes: Buffer) => Buffer | string) => () => {
    const before = readFileSync(file(path));
    writeFileSync(file(path), edit(before));
    return () => writeFileSync(file(path), before);
  };

  it('on a directory that runs, and with another shape, leaves it alone', async () => {
    const before = cluster().nodes;
    expect(failureOf(await up())).toEqual([4, 'already-running', expect.stringContaining(cluster().directory)]);
    expect(failureOf(await up('--nodes', '3'))).toEqual([2, 'invalid-argument', expect.stringMatching(/--nodes 1, not 3/)]);
    expect(failureOf(await up('--store', 'memory'))).toEqual([2, 'invalid-argument', expect.stringMatching(/--store file, not memory/)]);
    expect(cluster().nodes).toEqual(before);
    await isThere();
  });

  it('twice at once starts one cluster', async () => {
    await cluster().down();
    const ends = await Promise.all([up(), up(), up()]);
    expect(ends.map(({ status }) => status).sort()).toEqual([0, 4, 4]);
    for (const end of ends.filter(({ status }) => status !== 0)) expect(['in-use', 'already-running']).toContain(failureOf(end)[1]);
    const { pids } = (await cluster().status()).nodes[0]!;
    expect(pids.control).toBe(cluster().node('n1').pid);
    await isThere();
  });

  it('names the port that is in use', async () => {
    for (const key of ['listen', 'dataListen']) {
      const port = Number(new RegExp(`^${key} = ".*/tcp/(\\d+)"`, 'm').exec(readFileSync(file('n1/node.toml'), 'utf8'))![1]);
      const [status, code, message] = await refusedWith(async () => {
        const server = createServer().listen(port, '127.0.0.1');
        await once(server, 'listening');
        return () => new Promise((resolve) => server.close(resolve));
      });
      expect([status, code]).toEqual([4, 'in-use']);
      expect(message).toContain(`port ${port}`);
      expect(message).toContain(`'${key}'`);
    }
  });

  it.each<[string, string, (bytes: Buffer) => Buffer | string, number, string, RegExp]>([
    ['an unknown key', 'n1/node.toml', (bytes) => `frobnicate = 1\n${bytes}`, 2, 'invalid-argument', /node\.toml.*frobnicate/s],
    ['an unknown key of a table', 'n1/node.toml', (bytes) => `${bytes}\n[lease]\nlength = 3\n`, 2, 'invalid-argument', /node\.toml.*length/s],
    ['a value out of range', 'n1/node.toml', (bytes) => `${bytes}\n[raft]\nheartbeatMs = 0\n`, 2, 'invalid-argument', /node\.toml.*heartbeatMs/s],
    ['half a line', 'n1/node.toml', (bytes) => `${bytes}\nname = "n`, 2, 'invalid-argument', /node\.toml/],
    [
      'a store of a newer format',
      'store/superblock',
      (bytes) => bytes.toString().replace('"version":1', '"version":2'),
      1,
      'io-error',
      /superblock has format 2.*up to 1/s,
    ],
    [
      'a store of another cluster',
      'store/superblock',
      (bytes) => bytes.toString().replace(/[0-9a-f]{32}/, 'f'.repeat(32)),
      1,
      'io-error',
      /belongs to cluster f{32}/,
    ],
    ['a superblock that is none', 'store/superblock', () => 'garbage', 1, 'io-error', /superblock is not a superblock/],
    [
      'a directory of a newer format',
      'archipelago.json',
      (bytes) => bytes.toString().replace('"formatVersion": 1', '"formatVersion": 2'),
      1,
      'unsupported-version',
      /archipelago\.json.*2/s,
    ],
  ])('refuses %s', async (_what, path, edit, status, code, message) => {
    expect(await refusedWith(edited(path, edit))).toEqual([status, code, expect.stringMatching(message)]);
  });

  it.each<[string, string, RegExp]>([
    ['a log that has vanished: it would vote again', 'n1/raft', /n1\/raft is gone, though node n1 has run before/],
    ['a store that has vanished: all blocks would be missing', 'store', /there is no store in/],
  ])('refuses %s', async (_what, path, message) => {
    const refused = await refusedWith(() => {
      renameSync(file(path), file('elsewhere'));
      return () => {
        expect(existsSync(file(path)), 'nothing was made in its place').toBe(false);
        renameSync(file('elsewhere'), file(path));
      };
    });
    expect(refused).toEqual([1, 'io-error', expect.stringMatching(message)]);
  });

  it("refuses a log of Raft's of a newer format", async () => {
    const raft = file('n1/raft/log');
    const withMeta = async (change: (meta: Buffer) => Buffer): Promise<void> => {
      const database = new Level<string, Uint8Array>(raft, { keyEncoding: 'utf8', valueEncoding: 'view' });
      await database.put('m', change(Buffer.from((await database.get('m'))!)));
      await database.close();
    };
    // Behind the checksum, of everything that follows it.
    const withVersion = (version: number) => (meta: Buffer) => {
      meta.writeUInt8(version, 4);
      meta.writeUInt32BE(crc32(meta.subarray(4)));
      return meta;
    };
    const refused = await refusedWith(async () => {
      await withMeta(withVersion(3));
      return () => withMeta(withVersion(2));
    });
    expect(refused).toEqual([1, 'io-error', expect.stringMatching(/raft.*version 3/s)]);
  });

  it('serves the other volumes when the header of one is of a newer format', async () => {
    const { id } = await cluster().createVolume('newer', '1M');
    await qemuIo(cluster().uri('newer', 'n1'), 'write -P 2 0 1M', 'flush');
    await cluster().down();
    const volume = file(`store/volumes/${Number(id).toString(16).padStart(16, '0')}`);
    // Under the epoch of the owner, which a takeover leaves behind for its own.
    const headers = () =>
      readdirSync(volume)
        .map((epoch) => join(volume, epoch, 'header'))
        .filter((path) => existsSync(path));
    expect(headers().length).toBeGreaterThan(0);
    const edit = (version: number) => {
      for (const path of headers()) {
        const bytes = readFileSync(path);
        bytes.writeUInt16BE(version, 4);
        bytes.writeUInt32BE(crc32(bytes.subarray(0, -4)), bytes.length - 4);
        writeFileSync(path, bytes);
      }
    };
    edit(2);
    await cluster().up();
    expect(failureOf(await cluster().cli(['volume', 'check', 'newer']))).toEqual([
      1,
      'unsupported-version',
      expect.stringMatching(/header.*version 2/),
    ]);
    expect((await tryQemuIo(cluster().uri('newer', 'n1'), 'write -P 3 0 4k')).status).not.toBe(0);
    await isThere();
    await cluster().down();
    edit(1);
    await cluster().up();
    await qemuIo(cluster().uri('newer', 'n1'), 'read -P 2 0 1M');
  });

  it('in the foreground stops with Ctrl-C and keeps its data', async () => {
    await cluster().down();
    const child = spawn(process.execPath, [LAUNCHER, 'up', '--data', cluster().directory], { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = once(child, 'close');
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    await once(child.stdout, 'data');
    await isThere();
    const { pid } = cluster().node('n1');
    child.kill('SIGINT');
    expect(await ended).toEqual([0, null]);
    expect(said).toContain('What to type next:');
    expect(existsSync(`/proc/${pid}`)).toBe(false);
    expect(existsSync(file('cluster.json'))).toBe(false);
    await cluster().up();
    await isThere();
  });

  it('over stale sockets and pids of a node that was killed', async () => {
    await cluster().killAll();
    expect(existsSync(file('n1/admin.sock'))).toBe(true);
    expect(failureOf(await cluster().cli(['volume', 'ls']))).toEqual([5, 'unavailable', expect.stringMatching(/admin\.sock/)]);
    await cluster().up();
    await isThere();
    rmSync(file('cluster.json'));
    await cluster().cli(['up', '--data', cluster().directory, '--detach']);
    expect(cluster().names).toEqual(['n1']);
  });
});
