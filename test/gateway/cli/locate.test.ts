import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect, type LocateOptions, locate } from '../../../src/gateway/cli/locate.ts';
import { systemClock } from '../../../src/node/clock.ts';
import { type Served, serve } from '../http/serve.ts';

let cwd: string;
let systemDirectory: string;
let servers: Server[];
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'arch-locate-'));
  systemDirectory = join(cwd, 'run');
  servers = [];
});
afterEach(async () => {
  for (const server of servers) server.close();
  rmSync(cwd, { recursive: true });
});

const find = (options: LocateOptions, env: Record<string, string> = {}) => locate(options, { env, cwd, systemDirectory });
const paths = (options: LocateOptions, env: Record<string, string> = {}) => find(options, env).map(({ socketPath }) => socketPath);

function cluster(directory: string, nodes: Record<string, string>): void {
  mkdirSync(directory, { recursive: true });
  const list = Object.entries(nodes).map(([name, adminSocket]) => ({ name, adminSocket }));
  writeFileSync(join(directory, 'cluster.json'), JSON.stringify({ nodes: list }));
}

/** Accepts connections and never says a word, as a process that is stopped. */
async function mute(path: string): Promise<string> {
  mkdirSync(join(path, '..'), { recursive: true });
  const server = createServer();
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return path;
}

describe('the node is found', () => {
  beforeEach(() => {
    cluster(join(cwd, 'archipelago-data'), { n1: '/d/n1/admin.sock', n2: '/d/n2/admin.sock' });
    cluster(systemDirectory, { s1: '/s/s1/admin.sock' });
  });

  it('by --socket before all', () => {
    expect(paths({ socket: '/x' }, { ARCHIPELAGO_SOCKET: '/y' })).toEqual(['/x']);
    expect(paths({ socket: 'rel/x' })).toEqual([join(cwd, 'rel/x')]);
  });

  it('by $ARCHIPELAGO_SOCKET before any directory, unless that is empty', () => {
    expect(paths({}, { ARCHIPELAGO_SOCKET: '/y' })).toEqual(['/y']);
    expect(paths({}, { ARCHIPELAGO_SOCKET: '' })).toEqual(['/d/n1/admin.sock', '/d/n2/admin.sock']);
  });

  it('in ./archipelago-data before /run/archipelago', () => {
    expect(paths({})).toEqual(['/d/n1/admin.sock', '/d/n2/admin.sock']);
    rmSync(join(cwd, 'archipelago-data'), { recursive: true });
    expect(paths({})).toEqual(['/s/s1/admin.sock']);
  });

  it('by --node among its neighbours', () => {
    expect(paths({ node: 'n2' })).toEqual(['/d/n2/admin.sock']);
    expect(() => find({ node: 's1' })).toThrow(expect.objectContaining({ code: 'not-found', hint: 'it has n1, n2' }));
    const socket = join(cwd, 'archipelago-data', 'n1', 'admin.sock');
    expect(paths({ node: 'n2' }, { ARCHIPELAGO_SOCKET: socket })).toEqual(['/d/n2/admin.sock']);
    expect(() => find({ node: 'n2', socket: '/elsewhere/n1/admin.sock' })).toThrow(expect.objectContaining({ code: 'not-found' }));
  });
});

describe('without cluster.json', () => {
  it('a packaged daemon is found by its socket', async () => {
    const path = await mute(join(systemDirectory, 'n7', 'admin.sock'));
    mkdirSync(join(systemDirectory, 'empty'));
    expect(find({})).toEqual([{ name: 'n7', socketPath: path }]);
    const own = await mute(join(systemDirectory, 'admin.sock'));
    expect(find({})).toEqual([{ name: null, socketPath: own }]);
  });

  it('no node is an error that says where it looked', () => {
    expect(() => find({})).toThrow(expect.objectContaining({ code: 'unavailable', message: expect.stringContaining('archipelago-data') }));
    mkdirSync(join(cwd, 'archipelago-data'));
    expect(() => find({})).toThrow(expect.objectContaining({ code: 'unavailable' }));
    writeFileSync(join(cwd, 'archipelago-data', 'cluster.json'), '{"nodes":');
    expect(() => find({})).toThrow(expect.objectContaining({ code: 'corrupt' }));
  });
});

describe('of several nodes', () => {
  let served: Served;
  beforeEach(async () => {
    served = await serve();
  });
  afterEach(() => served.stop());
  const connected = () => connect({}, systemClock, { env: {}, cwd, systemDirectory });

  it('the first that answers is taken: not one that is gone, nor one that is stopped', async () => {
    const stopped = await mute(join(cwd, 'stopped.sock'));
    cluster(join(cwd, 'archipelago-data'), { n1: '/nowhere/n1.sock', n2: stopped, n3: served.socketPath });
    expect((await connected()).socketPath).toBe(served.socketPath);
  });

  it('none that answers is an error that names them', async () => {
    cluster(join(cwd, 'archipelago-data'), { n1: '/nowhere/n1.sock', n2: '/nowhere/n2.sock' });
    await expect(connected()).rejects.toMatchObject({ code: 'unavailable', message: expect.stringContaining('/nowhere/n2.sock') });
  });
});
