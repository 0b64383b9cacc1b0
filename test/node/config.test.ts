import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadConfig, parseConfig } from '../../src/node/config.ts';
import { renderConfiguration } from './config-table.ts';

const FILE = '/etc/archipelago/n1/node.toml';
const DOCUMENT = join(import.meta.dirname, '../../docs/configuration.md');

const TOP = `
name = "n1"
clusterId = "00112233445566778899aabbccddeeff"
listen = "/ip4/127.0.0.1/tcp/7001"
dataListen = "/ip4/127.0.0.1/tcp/7002"
`;
const STORE = '[store]\nkind = "file"\ndirectory = "../store"\n';
const JOINED = (name: string) => MEMBER(name).replace('bootstrap', 'join');
const MEMBER = (name: string) =>
  `[[bootstrap.members]]\nname = "${name}"\npeerId = "p"\ncontrol = "/ip4/127.0.0.1/tcp/1"\ndata = "/ip4/127.0.0.1/tcp/2"\n`;

const read = (text: string) => parseConfig(text, FILE);

describe('node.toml', () => {
  it('needs little, and has defaults for the rest', () => {
    expect(read(TOP + STORE)).toEqual({
      file: FILE,
      name: 'n1',
      clusterId: '00112233445566778899aabbccddeeff',
      dataDirectory: '/etc/archipelago/n1',
      identityFile: '/etc/archipelago/n1/identity.key',
      raftDirectory: '/etc/archipelago/n1/raft',
      listen: '/ip4/127.0.0.1/tcp/7001',
      dataListen: '/ip4/127.0.0.1/tcp/7002',
      logLevel: 'info',
      store: { kind: 'file', directory: '/etc/archipelago/store', sharedDirectory: false },
      nbd: { socket: '/etc/archipelago/n1/nbd.sock', listen: null, insecure: false },
      http: { socket: '/etc/archipelago/n1/admin.sock', listen: null, tokenFile: null },
      raft: { heartbeatMs: 250, electionTimeoutMs: 1000 },
      volume: { mergeBytesPerSecond: 16 * 1024 * 1024 },
      gc: { intervalMs: 600_000, maxOperationsPerSecond: 1_000, memoryBytes: 64 * 1024 * 1024 },
      lease: { durationMs: 2000, renewMs: 500, driftMs: 100 },
      ioTimeoutMs: 300_000,
      bootstrap: null,
      join: null,
    });
  });

  it('takes all paths from the data directory, and that from the file', () => {
    const config = read(`dataDirectory = "../data"\n${TOP}${STORE}[nbd]\nsocket = "/run/n.sock"\n[http]\nsocket = "a.sock"\ntokenFile = "token"`);
    expect(config.dataDirectory).toBe('/etc/archipelago/data');
    expect(config.store).toMatchObject({ directory: '/etc/archipelago/store' });
    expect(config.nbd.socket).toBe('/run/n.sock');
    expect(config.http).toMatchObject({ socket: '/etc/archipelago/data/a.sock', tokenFile: '/etc/archipelago/data/token' });
  });

  it('takes addresses apart', () => {
    const config = read(`${TOP}${STORE}[nbd]\nlisten = "[::1]:10809"\ninsecure = true\n[http]\nlisten = "localhost:80"\ntokenFile = "t"`);
    expect(config.nbd.listen).toEqual({ host: '::1', port: 10809 });
    expect(config.http.listen).toEqual({ host: 'localhost', port: 80 });
  });

  it('knows the three stores', () => {
    expect(read(`${TOP}[store]\nkind = "memory"`).store).toEqual({ kind: 'memory' });
    expect(read(`${TOP}[store]\nkind = "rados"\ncephConf = "/c"`).store).toEqual({
      kind: 'rados',
      cephConf: '/c',
      client: 'client.admin',
      mapsPool: 'maps',
      blocksPool: 'blocks',
      cacheBytes: 256 * 2 ** 20,
    });
  });

  it('names the first members', () => {
    const { bootstrap } = read(TOP + STORE + MEMBER('n1') + MEMBER('n2'));
    expect(bootstrap?.members.map(({ name }) => name)).toEqual(['n1', 'n2']);
  });

  it.each([
    ['unknown key', `colour = 1\n${TOP}${STORE}`, "unknown key 'colour'; the file may have name, clusterId, dataDirectory, listen,"],
    ['unknown table', `${TOP}${STORE}[storage]\nx = 1`, "unknown key 'storage'"],
    ['unknown key in a table', `${TOP}${STORE}[http]\nport = 80`, "unknown key 'http.port'; 'http' may have socket, listen, tokenFile"],
    ['unknown key of a store', `${TOP}[store]\nkind = "memory"\nsize = 1`, "unknown key 'store.size'; 'store' may have kind"],
    ['key of another store', `${TOP}[store]\nkind = "rados"\ndirectory = "d"`, "'store' may have kind, cephConf, client, mapsPool, blocksPool"],
    [
      'unknown key of a member',
      `${TOP}${STORE}${MEMBER('n1')}port = 1`,
      "unknown key 'bootstrap.members.0.port'; 'bootstrap.members.0' may have name, peerId, control, data",
    ],
    ['several at once', `a = 1\nb = 2\n${TOP}${STORE}`, "unknown key 'a', 'b'"],
    ['no store', TOP, "the key 'store' is missing"],
    ['no directory', `${TOP}[store]\nkind = "file"`, "the key 'store.directory' is missing"],
    ['unknown store', `${TOP}[store]\nkind = "zfs"`, "'store.kind': "],
    ['a number for a text', `${TOP.replace('"n1"', '1')}${STORE}`, "'name': Invalid input: expected string, received number"],
    ['a bad name', `${TOP.replace('"n1"', '"a/b"')}${STORE}`, "'name': must be 1 to 63 letters"],
    ['a bad address', `${TOP.replace('/ip4/127.0.0.1/tcp/7001', '127.0.0.1:7001')}${STORE}`, "'listen': must be a multiaddr"],
    ['a port too high', `${TOP.replace('7001', '70010')}${STORE}`, 'there is no port 70010'],
    ['one port twice', `${TOP.replace('7002', '7001')}${STORE}`, "'listen' and 'dataListen' must differ"],
    ['a bad cluster id', `${TOP.replace('0011', 'xx')}${STORE}`, "'clusterId': must be 32 hexadecimal digits"],
    ['a time too short', `${TOP}${STORE}[raft]\nheartbeatMs = 1`, "'raft.heartbeatMs': Too small: expected number to be >=10"],
    ['a broken number', `${TOP}${STORE}[raft]\nheartbeatMs = 10.5`, "'raft.heartbeatMs': "],
    ['a short election', `${TOP}${STORE}[raft]\nheartbeatMs = 500`, "'raft.electionTimeoutMs' must be at least 3 times 'raft.heartbeatMs'"],
    ['a lease renewed too rarely', `${TOP}${STORE}[lease]\nrenewMs = 2000`, "'lease.durationMs' must be at least 3 times 'lease.renewMs'"],
    ['a drift as long as the lease', `${TOP}${STORE}[lease]\ndriftMs = 2000`, "'lease.driftMs' must be less"],
    ['a drift below what clocks differ by', `${TOP}${STORE}[lease]\ndurationMs = 60000\ndriftMs = 1000`, "'lease.driftMs' must be at least a 50th"],
    ['NBD on TCP without TLS', `${TOP}${STORE}[nbd]\nlisten = "0.0.0.0:10809"`, "'nbd.insecure = true'"],
    ['HTTP on TCP without a token', `${TOP}${STORE}[http]\nlisten = "0.0.0.0:80"`, "'http.listen' needs 'http.tokenFile'"],
    ['a member twice', TOP + STORE + MEMBER('n1') + MEMBER('n1'), "'bootstrap.members' has a name twice"],
    ['itself not a member', TOP + STORE + MEMBER('n2'), "'bootstrap.members' lacks this node, 'n1'"],
    ['itself not a member it joined as', TOP + STORE + JOINED('n2'), "'join.members' lacks this node, 'n1'"],
    ['first and later at once', TOP + STORE + MEMBER('n1') + JOINED('n1'), 'a node has one of them'],
    ['memory for two', `${TOP}[store]\nkind = "memory"\n${MEMBER('n1')}${MEMBER('n2')}`, "the store 'memory' takes one node only"],
    ['broken TOML', 'name = \n', 'not valid TOML at line 1, column'],
    ['a key twice', 'name = "a"\nname = "b"', 'not valid TOML at line 2'],
  ])('refuses: %s', (_what, text, message) => {
    const refused = () => read(text);
    expect(refused).toThrow(expect.objectContaining({ code: 'invalid-argument', message: expect.stringContaining(message) }));
    expect(refused).toThrow(expect.objectContaining({ message: expect.stringMatching(/^\/etc\/archipelago\/n1\/node\.toml: /) }));
  });

  it('is read from its file, and missed where it is not', () => {
    const directory = mkdtempSync(join(tmpdir(), 'arch-config-'));
    const file = join(directory, 'node.toml');
    expect(() => loadConfig(file)).toThrow(expect.objectContaining({ code: 'not-found', message: expect.stringContaining(file) }));
    writeFileSync(file, TOP + STORE);
    expect(loadConfig(file)).toMatchObject({ name: 'n1', dataDirectory: directory });
    rmSync(directory, { recursive: true });
  });

  it('has all its keys in docs/configuration.md', () => {
    // To write the document anew: UPDATE_DOCS=1 npx vitest run test/node/config.test.ts
    if (process.env['UPDATE_DOCS']) writeFileSync(DOCUMENT, renderConfiguration());
    expect(readFileSync(DOCUMENT, 'utf8')).toBe(renderConfiguration());
  });
});
