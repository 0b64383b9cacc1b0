/** Import and export by the real CLI against the real HTTP and NBD servers. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createWriteStream, openSync } from 'node:fs';
import { readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { requireTools } from '../../support/tools.ts';
import { bytesOf, cli, LAUNCHER, type RunOptions } from './run.ts';
import { type TestNode, testNode } from './test-node.ts';

const MIB = 1024 ** 2;

let node: TestNode;
beforeEach(async () => {
  node = await testNode();
});
afterEach(() => node.stop());

const run = (args: readonly string[], options: RunOptions = {}) => cli(args, { socket: node.socketPath, cwd: node.directory, ...options });

/** Data, a hole, and a tail that ends within a sector. */
function image(): Buffer {
  const bytes = Buffer.alloc(3 * MIB + 1000);
  randomBytes(MIB).copy(bytes);
  bytes.write('tail', bytes.length - 4);
  return bytes;
}

async function writeImage(name: string, bytes: Uint8Array): Promise<string> {
  const path = join(node.directory, name);
  await writeFile(path, bytes);
  return path;
}

const names = () => [...node.admin.volumes.keys()];

describe('volume import', () => {
  it('takes a file, pads it and stores no zeros', async () => {
    const bytes = image();
    await writeImage('disk.raw', bytes);
    const { status, json } = await run(['volume', 'import', 'disk.raw', 'a b', '--block-size', '64K', '--json']);
    expect(status).toBe(0);
    expect(json).toMatchObject({ name: 'a b', size: 3 * MIB + 1024, blockSize: 65536, kind: 'volume' });
    expect(node.read('a b', bytes.length).equals(bytes)).toBe(true);
    expect(node.grains('a b')).toBe(17);
    expect(node.admin.importing.size).toBe(0);
  });

  it('takes a larger size, and refuses a smaller one', async () => {
    await writeImage('disk.raw', Buffer.alloc(MIB, 7));
    expect((await run(['volume', 'import', 'disk.raw', 'd', '--size', '2M', '--json'])).json.size).toBe(2 * MIB);
    const small = await run(['volume', 'import', 'disk.raw', 'e', '--size', '512K']);
    expect([small.status, small.stderr]).toEqual([2, expect.stringContaining('less than the source has')]);
    expect(names()).toEqual(['d']);
  });

  it('takes a pipe, whose size only its end tells', async () => {
    const bytes = image();
    const { status, json } = await run(['volume', 'import', '-', 'piped', '--json'], { input: bytes });
    expect(status).toBe(0);
    expect(json.size).toBe(3 * MIB + 1024);
    expect(node.read('piped', bytes.length).equals(bytes)).toBe(true);
  });

  it('takes a file on standard input', async () => {
    const path = await writeImage('disk.raw', image());
    const child = spawn(process.execPath, [LAUNCHER, 'volume', 'import', '-', 'd', '--socket', node.socketPath], {
      stdio: [openSync(path, 'r'), 'ignore', 'inherit'],
    });
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(0);
    expect(node.admin.volumes.get('d')!.size).toBe(3 * MIB + 1024);
    expect(node.admin.calls.some(({ method }) => method === 'resizeVolume')).toBe(false);
  });

  it('takes an NBD export', async () => {
    const bytes = image();
    await writeImage('disk.raw', bytes);
    await run(['volume', 'import', 'disk.raw', 'one']);
    expect((await run(['volume', 'import', node.admin.uriOf('one', null), 'two'])).status).toBe(0);
    expect(node.read('two', bytes.length).equals(bytes)).toBe(true);
  });

  it.each([
    ['a missing file', ['nothing.raw', 'd'], 3, 'nothing.raw'],
    ['a missing qcow2 file', ['nothing.qcow2', 'd', '--format', 'qcow2'], 3, 'nothing.qcow2'],
    ['a directory', ['.', 'd'], 2, 'is a directory'],
    ['an empty file', ['empty.raw', 'd'], 2, 'is empty'],
    ['empty standard input', ['-', 'd'], 2, 'standard input is empty'],
    ['qcow2 that is not said to be', ['magic.img', 'd'], 2, 'looks like qcow2'],
    ['qcow2 from standard input', ['-', 'd', '--format', 'qcow2'], 2, 'is for files'],
    ['an unknown format', ['empty.raw', 'd', '--format', 'vmdk'], 2, 'vmdk'],
    ['a bad name', ['disk.raw', 'a/b'], 2, "holds a '/'"],
    ['a broken URI', ['nbd+unix:///x', 'd'], 2, 'socket=PATH'],
    ['a name that is taken', ['disk.raw', 'taken'], 4, 'taken'],
  ])('refuses %s', async (_what, args, status, message) => {
    await writeImage('empty.raw', Buffer.alloc(0));
    await writeImage('disk.raw', Buffer.alloc(512, 1));
    await writeImage('magic.img', Buffer.from('QFI\xfb\0\0\0\x03 and so on', 'latin1'));
    await node.admin.createVolume({ name: 'taken', size: 512 });
    const result = await run(['volume', 'import', ...args]);
    expect(result.stderr).toContain(message);
    expect(result.status).toBe(status);
    expect(names()).toEqual(['taken']);
  });

  it('leaves no volume when the store is full', async () => {
    await writeImage('disk.raw', image());
    node.onWrite = () => {
      throw Object.assign(new Error('full'), { code: 'ENOSPC' });
    };
    const { status, stderr } = await run(['volume', 'import', 'disk.raw', 'd']);
    expect(status).toBe(1);
    expect(stderr).toContain('error: ');
    await vi.waitFor(() => expect(names()).toEqual([]));
  });

  it.each(['SIGINT', 'SIGTERM', 'SIGKILL'] as const)('leaves no volume after %s', async (signal) => {
    let importer: { kill(signal: NodeJS.Signals): void } | undefined;
    node.onWrite = () => importer?.kill(signal);
    // A pipe that never ends.
    const child = spawn(process.execPath, [LAUNCHER, 'volume', 'import', '-', 'd', '--json', '--socket', node.socketPath]);
    importer = child;
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.stdin.on('error', () => undefined);
    child.stdin.write(randomBytes(3 * MIB));
    const status = await new Promise((resolve) => child.once('close', resolve));
    if (signal !== 'SIGKILL') {
      expect(status).toBe(1);
      expect(JSON.parse(stderr).error.message).toContain(`stopped by ${signal}`);
    }
    await vi.waitFor(() => expect(names()).toEqual([]));
  });

  it('says so when the node stops in the middle', async () => {
    node.onWrite = () => void node.server.close();
    const result = bytesOf(['volume', 'import', '-', 'd', '--json'], { socket: node.socketPath, input: randomBytes(4 * MIB) });
    const { status, stderr } = await result;
    expect([status, JSON.parse(stderr).error]).toMatchObject([5, { code: 'unavailable' }]);
  });
});

requireTools(['qemu-img', 'qemu-nbd'])('volume import of qcow2', () => {
  it('reads what qemu-img wrote and stops qemu-nbd', async () => {
    const bytes = image().subarray(0, 3 * MIB);
    await writeImage('disk.raw', bytes);
    const convert = spawn('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', 'disk.raw', 'disk.qcow2'], { cwd: node.directory });
    expect(await new Promise((resolve) => convert.once('close', resolve))).toBe(0);
    const { status, stderr } = await run(['volume', 'import', 'disk.qcow2', 'd', '--format', 'qcow2'], { env: { TMPDIR: node.directory } });
    expect([status, stderr]).toEqual([0, '']);
    expect(node.read('d', bytes.length).equals(bytes)).toBe(true);
    expect((await readdir(node.directory)).filter((entry) => entry.startsWith('archipelago-'))).toEqual([]);
  });

  it('hands on what qemu-nbd says of a broken image', async () => {
    await writeImage('bad.qcow2', Buffer.from('QFI\xfb\0\0\0\x63 version 99', 'latin1'));
    const { status, stderr } = await run(['volume', 'import', 'bad.qcow2', 'd', '--format', 'qcow2'], { env: { TMPDIR: node.directory } });
    expect([status, stderr]).toEqual([2, expect.stringContaining('qemu-nbd cannot serve')]);
    expect((await readdir(node.directory)).filter((entry) => entry.startsWith('archipelago-'))).toEqual([]);
  });

  it('says what to install where qemu-nbd is missing', async () => {
    await writeImage('disk.qcow2', Buffer.from('QFI\xfb', 'latin1'));
    const { status, json } = await run(['volume', 'import', 'disk.qcow2', 'd', '--format', 'qcow2', '--json'], {
      env: { PATH: '/nowhere', TMPDIR: node.directory },
    });
    expect([status, json.error.hint]).toEqual([5, 'apt-get install qemu-utils']);
  });
});

describe('volume export', () => {
  const bytes = image().subarray(0, 3 * MIB);
  beforeEach(async () => {
    await node.admin.createVolume({ name: 'd', size: bytes.length });
    node.write('d', 0, bytes.subarray(0, MIB));
    node.write('d', 3 * MIB - 4, bytes.subarray(3 * MIB - 4));
  });

  it('writes a sparse file from a snapshot of its own, and removes that', async () => {
    const { status, json } = await run(['volume', 'export', 'd', 'out.raw', '--json']);
    expect([status, json]).toEqual([0, { name: 'd', destination: 'out.raw', size: bytes.length }]);
    const path = join(node.directory, 'out.raw');
    expect((await readFile(path)).equals(bytes)).toBe(true);
    expect((await stat(path)).blocks * 512).toBeLessThan(2 * MIB);
    expect(names()).toEqual(['d']);
    expect(node.admin.calls.find(({ method }) => method === 'snapshotVolume')!.args).toEqual([
      'd',
      { name: expect.stringMatching(/^d@export-[0-9a-f]{8}$/) },
    ]);
  });

  it('leaves nothing of a longer old file', async () => {
    await writeImage('out.raw', Buffer.alloc(5 * MIB, 9));
    expect((await run(['volume', 'export', 'd', 'out.raw'])).status).toBe(0);
    expect((await readFile(join(node.directory, 'out.raw'))).equals(bytes)).toBe(true);
  });

  it('writes to standard output', async () => {
    const { status, stdout } = await bytesOf(['volume', 'export', 'd', '-'], { socket: node.socketPath });
    expect(status).toBe(0);
    expect(stdout.equals(bytes)).toBe(true);
  });

  it('writes to an NBD export', async () => {
    await node.admin.createVolume({ name: 'copy', size: bytes.length });
    expect((await run(['volume', 'export', 'd', node.admin.uriOf('copy', null)])).status).toBe(0);
    expect(node.read('copy', bytes.length).equals(bytes)).toBe(true);
  });

  it('reads a snapshot as it is', async () => {
    await node.admin.snapshotVolume('d', { name: 's' });
    expect((await run(['volume', 'export', 's', 'out.raw'])).status).toBe(0);
    expect(node.admin.calls.filter(({ method }) => method === 'snapshotVolume')).toHaveLength(1);
    expect(names()).toEqual(['d', 's']);
  });

  it('finds a name for the snapshot of the longest of names', async () => {
    const name = 'ä'.repeat(127);
    await node.admin.renameVolume('d', { name });
    expect((await run(['volume', 'export', name, 'out.raw'])).status).toBe(0);
    const [, request] = node.admin.calls.find(({ method }) => method === 'snapshotVolume')!.args as [string, { name: string }];
    expect(Buffer.byteLength(request.name)).toBeLessThanOrEqual(255);
    expect(request.name).toMatch(/^ä+@export-/);
  });

  it('removes its snapshot from a node that takes its reader for attached a while longer', async () => {
    node.detachMs = 300;
    expect((await run(['volume', 'export', 'd', 'out.raw'])).status).toBe(0);
    expect(node.admin.calls.filter(({ method }) => method === 'removeVolume').length).toBeGreaterThan(1);
    expect(names()).toEqual(['d']);
  });

  it('removes its snapshot and its file after a failure', async () => {
    await node.admin.createVolume({ name: 'small', size: 512 });
    const short = await run(['volume', 'export', 'd', node.admin.uriOf('small', null)]);
    expect(short.status).not.toBe(0);
    const nowhere = await run(['volume', 'export', 'd', 'no/such/folder']);
    expect([nowhere.status, nowhere.stderr]).toEqual([3, expect.stringContaining('no/such/folder')]);
    await truncate(await writeImage('full', Buffer.alloc(0)), 0);
    const full = await run(['volume', 'export', 'd', '/dev/full']);
    expect(full.status).toBe(1);
    expect(names()).toEqual(['d', 'small']);
  });

  it('stops at SIGTERM, and leaves neither a snapshot nor half a file', async () => {
    await node.admin.createVolume({ name: 'large', size: 2 ** 40 });
    const reader = spawn(process.execPath, [LAUNCHER, 'volume', 'export', 'large', '-', '--socket', node.socketPath], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    reader.stdout.once('data', () => reader.kill('SIGTERM'));
    reader.stdout.pipe(createWriteStream('/dev/null'));
    expect(await new Promise((resolve) => reader.once('close', resolve))).toBe(1);
    expect(names()).toEqual(['d', 'large']);
  });
});
