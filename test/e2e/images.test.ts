/** Disk images on their way in and out: nbdcopy, `volume import` and `volume export`, with files, pipes and NBD. */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { requireTools } from '../support/tools.ts';
import { checksum, compare, nbdkit, nbdsh, pipeline, startCli, temporaryDirectory } from './support/clients.ts';
import { type Cluster, shareCluster, type VolumeInfo } from './support/cluster.ts';
import { checkFileSystem, type DiskImage, makeDiskImage } from './support/disk-image.ts';
import { run } from './support/processes.ts';
import { eventually } from './support/wait.ts';

const MIB = 1024 ** 2;

const suite = requireTools(['mke2fs', 'e2fsck', 'nbdcopy', 'nbdinfo', 'nbdkit', 'qemu-img', 'nbdsh', 'python3-libnbd']);

suite('an image of a directory tree', () => {
  const cluster = shareCluster();
  let home: string;
  let image: DiskImage;
  let sum: string;
  beforeAll(async () => {
    home = mkdtempSync(join(tmpdir(), 'e2e-'));
    image = await makeDiskImage(home);
    sum = fileSum(image.path);
  });
  afterAll(() => rmSync(home, { recursive: true, force: true }));

  /** Whether every node shows what is in the image. */
  const expectEverywhere = async (volume: string) =>
    expect(await compare(image.path, ...cluster().names.map((node) => cluster().uri(volume, node)))).toEqual(Array(3).fill('Images are identical.'));

  it('is the same on every node after nbdcopy wrote it into a volume', async () => {
    await cluster().createVolume('copied', String(image.sizeBytes));
    await run('nbdcopy', [image.path, cluster().uri('copied', 'n2')]);
    await expectEverywhere('copied');
    const { size, allocatedBytes } = await cluster().info('copied');
    expect(size).toBe(image.sizeBytes);
    expect(allocatedBytes).toBeLessThan(size);
  });

  it('is the same on every node after an import', async () => {
    const made = await cluster().json<VolumeInfo>('volume', 'import', image.path, 'imported');
    expect(made).toMatchObject({ name: 'imported', kind: 'volume', size: image.sizeBytes, origin: null, clients: 0 });
    expect(made.allocatedBytes).toBeLessThan(image.sizeBytes);
    await expectEverywhere('imported');
  });

  it('is the same after an import of it as qcow2, which must be asked for', async () => {
    const path = join(temporaryDirectory(), 'image.qcow2');
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', image.path, path]);
    const refused = await cluster().cli(['volume', 'import', path, 'guest']);
    expect([refused.status, refused.error?.code, refused.error?.message]).toEqual([2, 'invalid-argument', `${path} looks like qcow2`]);
    expect(refused.error?.hint).toContain('--format qcow2');
    await expectNoVolume(cluster(), 'guest');

    await cluster().json('volume', 'import', path, 'guest', '--format', 'qcow2');
    expect(await checksum(cluster().uri('guest', 'n1'))).toBe(sum);
    await cluster().json('volume', 'rm', 'guest');
  });

  it('is a clean file system, with its holes, after an export to a file', async () => {
    const path = join(temporaryDirectory(), 'exported.raw');
    expect(await cluster().json('volume', 'export', 'imported', path)).toEqual({ name: 'imported', destination: path, size: image.sizeBytes });
    await checkFileSystem(path);
    expect(fileSum(path)).toBe(sum);
    const { size, blocks } = statSync(path);
    expect(size).toBe(image.sizeBytes);
    // The image has some 80 MB of holes; a few small ones may be filled.
    expect(blocks * 512).toBeLessThan(size - 32 * MIB);
    await expectNoSnapshots(cluster());
  });

  it('is the same behind a pipe, both ways', async () => {
    const out = await pipeline(cluster(), 'archipelago volume export copied - | sha256sum');
    expect(out).toMatchObject({ status: 0, stderr: '' });
    expect(out.stdout.slice(0, 64)).toBe(sum);
    await expectNoSnapshots(cluster());

    const through = await pipeline(cluster(), 'archipelago volume export copied - | archipelago volume import - piped --json');
    expect(through).toMatchObject({ status: 0, stderr: '' });
    expect(JSON.parse(through.stdout)).toMatchObject({ name: 'piped', size: image.sizeBytes });
    expect(await checksum(cluster().uri('piped', 'n1'))).toBe(sum);
    await cluster().json('volume', 'rm', 'piped');
  });

  it('is the same after a way from NBD server to NBD server', async () => {
    const source = await nbdkit('file', image.path);
    expect(await cluster().json('volume', 'import', source, 'fetched')).toMatchObject({ size: image.sizeBytes });
    expect(await checksum(cluster().uri('fetched', 'n1'))).toBe(sum);

    await cluster().createVolume('target', String(image.sizeBytes));
    await nbdsh(cluster().uri('target', 'n1'), "h.pwrite(b'old' * 1000, h.get_size() - 3000)");
    await cluster().json('volume', 'export', 'fetched', cluster().uri('target', 'n3'));
    expect(await checksum(cluster().uri('target', 'n1'))).toBe(sum);
    await cluster().json('volume', 'rm', 'target');
    await cluster().json('volume', 'rm', 'fetched');
  });

  it('is the same after down and up', async () => {
    await cluster().down();
    await cluster().up();
    expect(await checksum(cluster().uri('copied', 'n1'))).toBe(sum);
    expect(await checksum(cluster().uri('imported', 'n1'))).toBe(sum);
  });
});

suite('an import', () => {
  const cluster = shareCluster({ nodes: 1 });
  const importing = (...args: string[]) => cluster().cli(['volume', 'import', ...args]);

  it.each([1, 511, 513, 4 * MIB + 3])('pads an image of %i bytes with zeros', async (length) => {
    const path = join(temporaryDirectory(), 'odd.raw');
    const bytes = Buffer.alloc(length, 'x');
    writeFileSync(path, bytes);
    const size = Math.ceil(length / 512) * 512;
    const expected = hash(Buffer.concat([bytes, Buffer.alloc(size - length)]));
    for (const [name, script] of [
      [`odd-file-${length}`, 'archipelago volume import "$1" "$2" --json'],
      [`odd-pipe-${length}`, 'cat "$1" | archipelago volume import - "$2" --json'],
      [`odd-input-${length}`, 'archipelago volume import - "$2" --json < "$1"'],
    ] as const) {
      const { status, stdout, stderr } = await pipeline(cluster(), script, path, name);
      expect([status, stderr]).toEqual([0, '']);
      expect(JSON.parse(stdout)).toMatchObject({ name, size });
      expect(await checksum(cluster().uri(name, 'n1'))).toBe(expected);
    }
  });

  it('stores nothing for zeros, whether they are holes or written out', async () => {
    const path = join(temporaryDirectory(), 'zeros.raw');
    const file = openSync(path, 'w');
    writeSync(file, Buffer.alloc(8 * MIB), 0, 8 * MIB, 0);
    writeSync(file, Buffer.from('end'), 0, 3, 64 * MIB - 3);
    expect(await cluster().json('volume', 'import', path, 'zeros')).toMatchObject({ size: 64 * MIB, allocatedBytes: 4 * MIB });
    expect(await checksum(cluster().uri('zeros', 'n1'))).toBe(fileSum(path));
  });

  it.each<[string, (directory: string) => string[], number, string, RegExp]>([
    ['a file that is not there', (directory) => [`${directory}/missing.raw`], 3, 'not-found', /missing\.raw/],
    ['a directory', (directory) => [directory], 2, 'invalid-argument', /is a directory/],
    ['an empty file', (directory) => [filled(`${directory}/empty`, 0)], 2, 'invalid-argument', /empty is empty/],
    [
      'raw bytes that are said to be qcow2',
      (directory) => [filled(`${directory}/raw`, MIB), '--format', 'qcow2'],
      2,
      'invalid-argument',
      /not in qcow2 format/,
    ],
    [
      'a format that does not exist',
      (directory) => [filled(`${directory}/raw`, MIB), '--format', 'vmdk'],
      2,
      'invalid-argument',
      /'vmdk' is invalid.*raw, qcow2/,
    ],
    ['an NBD server that is not there', (directory) => [`nbd+unix:///?socket=${directory}/no.sock`], 5, 'unavailable', /no\.sock/],
    [
      'a size below that of the source',
      (directory) => [filled(`${directory}/raw`, MIB), '--size', '512K'],
      2,
      'invalid-argument',
      /--size 512K is less/,
    ],
  ])('of %s fails and leaves no volume', async (_what, args, status, code, message) => {
    const [source, ...options] = args(temporaryDirectory());
    const failed = await importing(source!, 'failed', ...options);
    expect([failed.status, failed.error?.code]).toEqual([status, code]);
    expect(failed.error?.message).toMatch(message);
    await expectNoVolume(cluster(), 'failed');
  });

  it('whose source fails half-way leaves no volume', async () => {
    const path = join(temporaryDirectory(), 'source');
    filled(path, 32 * MIB);
    const source = await nbdkit('--filter=error', 'file', path, 'error-pread=EIO', 'error-pread-rate=40%');
    const failed = await importing(source, 'failed');
    expect([failed.status, failed.error?.code]).toEqual([1, 'io-error']);
    await expectNoVolume(cluster(), 'failed');
  });

  it('under a name that is taken leaves what has it alone', async () => {
    const path = filled(join(temporaryDirectory(), 'image'), MIB);
    await cluster().json('volume', 'import', path, 'taken');
    const before = await cluster().info('taken');
    writeFileSync(path, Buffer.alloc(2 * MIB, 'other'));
    const failed = await importing(path, 'taken');
    expect([failed.status, failed.error?.code]).toEqual([4, 'exists']);
    expect(failed.error?.message).toContain('taken');
    expect(await cluster().info('taken')).toEqual(before);
    expect(await checksum(cluster().uri('taken', 'n1'))).toBe(hash(Buffer.alloc(MIB, 'x')));
  });

  it.each(['SIGINT', 'SIGTERM', 'SIGKILL'] as const)('that %s stops half-way leaves no volume', async (signal) => {
    const objects = countObjects(cluster());
    const { child, ended } = startCli(cluster(), 'volume', 'import', '-', 'half');
    child.stdin!.write(Buffer.alloc(24 * MIB, 'half'));
    await eventually('some of the data has reached the store', () => countObjects(cluster()) > objects);
    expect((await cluster().json<VolumeInfo[]>('volume', 'ls')).map(({ name }) => name)).not.toContain('half');
    child.kill(signal);
    const end = await ended;
    if (signal !== 'SIGKILL') {
      expect([end.status, end.signal]).toEqual([1, null]);
      expect(JSON.parse(end.stderr)).toMatchObject({ error: { code: 'io-error', message: `the import was stopped by ${signal}` } });
    }
    await eventually('the volume is gone', async () => (await cluster().cli(['volume', 'info', 'half'])).status === 3);
    // The name is free, and what has it now has nothing of what was there.
    await cluster().createVolume('half', '16M');
    expect(await checksum(cluster().uri('half', 'n1'))).toBe(hash(Buffer.alloc(16 * MIB)));
    await cluster().json('volume', 'rm', 'half');
  });
});

suite('an export', () => {
  const cluster = shareCluster({ nodes: 1 });
  const exporting = (...args: string[]) => cluster().cli(['volume', 'export', ...args]);
  beforeAll(async () => {
    await cluster().createVolume('disk', '24M');
    await nbdsh(cluster().uri('disk', 'n1'), "h.pwrite(b'disk' * 65536, 0)\nh.pwrite(b'end!' * 1024, 8 * 1024 * 1024)");
  });

  it('replaces a larger file', async () => {
    const path = join(temporaryDirectory(), 'old.raw');
    filled(path, 40 * MIB);
    await cluster().json('volume', 'export', 'disk', path);
    expect(statSync(path).size).toBe(24 * MIB);
    expect(fileSum(path)).toBe(await checksum(cluster().uri('disk', 'n1')));
  });

  it('of a snapshot gives the snapshot', async () => {
    const before = await checksum(cluster().uri('disk', 'n1'));
    await cluster().json('volume', 'snapshot', 'disk', 'then');
    await nbdsh(cluster().uri('disk', 'n1'), "h.pwrite(b'new!' * 1024, 0)");
    const path = join(temporaryDirectory(), 'then.raw');
    expect(await cluster().json('volume', 'export', 'then', path)).toEqual({ name: 'then', destination: path, size: 24 * MIB });
    expect(fileSum(path)).toBe(before);
    await cluster().json('volume', 'rm', 'then');
  });

  it('that cannot be written fails and leaves nothing behind', async () => {
    const directory = temporaryDirectory();
    await cluster().createVolume('small', '1M');
    await nbdsh(cluster().uri('small', 'n1'), "h.pwrite(b'kept' * 1024, 0)");
    const kept = await checksum(cluster().uri('small', 'n1'));
    for (const [args, status, code, message] of [
      [['nothing', `${directory}/a`], 3, 'not-found', /'nothing'/],
      [['disk', `${directory}/missing/a`], 3, 'not-found', /missing\/a/],
      [['disk', directory], 1, 'io-error', new RegExp(directory)],
      [['disk', '/dev/full'], 1, 'no-space', /no space/i],
      [['disk', cluster().uri('small', 'n1')], 2, 'invalid-argument', /small.* has 1M, which is less than the 24M/],
      [['disk', cluster().uri('unknown', 'n1')], 3, 'not-found', /unknown/],
    ] as const) {
      const failed = await exporting(...args);
      expect([args, failed.status, failed.error?.code]).toEqual([args, status, code]);
      expect(failed.error?.message).toMatch(message);
    }
    expect(readdirSync(directory)).toEqual([]);
    expect(await checksum(cluster().uri('small', 'n1'))).toBe(kept);
    await expectNoSnapshots(cluster());
  });

  it.each(['SIGINT', 'SIGTERM'] as const)('that %s stops half-way leaves no snapshot', async (signal) => {
    const slow = await nbdkit('--filter=delay', 'memory', '24M', 'delay-write=2');
    const { child, ended } = startCli(cluster(), 'volume', 'export', 'disk', slow);
    await eventually('it has begun', async () => (await snapshots(cluster())).length === 1);
    child.kill(signal);
    const { status, stderr } = await ended;
    expect(status).toBe(1);
    expect(JSON.parse(stderr)).toMatchObject({ error: { code: 'io-error', message: `the export was stopped by ${signal}` } });
    await expectNoSnapshots(cluster());
  });

  it('whose reader goes away leaves no snapshot', async () => {
    const { status } = await pipeline(cluster(), 'archipelago volume export disk - > >(head -c 1000 > /dev/null)');
    expect(status).not.toBe(0);
    await expectNoSnapshots(cluster());
  });
});

function filled(path: string, length: number): string {
  writeFileSync(path, Buffer.alloc(length, 'x'));
  truncateSync(path, length);
  return path;
}

function hash(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function fileSum(path: string): string {
  return hash(readFileSync(path));
}

async function expectNoVolume(cluster: Cluster, name: string): Promise<void> {
  await eventually(`${name} is gone`, async () => (await cluster.cli(['volume', 'info', name])).error?.code === 'not-found');
}

async function snapshots(cluster: Cluster): Promise<string[]> {
  const volumes = await cluster.json<VolumeInfo[]>('volume', 'ls');
  return volumes.filter(({ kind }) => kind === 'snapshot').map(({ name }) => name);
}

async function expectNoSnapshots(cluster: Cluster): Promise<void> {
  expect(await snapshots(cluster)).toEqual([]);
}

function countObjects(cluster: Cluster): number {
  const blocks = join(cluster.directory, 'store', 'blocks');
  return existsSync(blocks) ? readdirSync(blocks, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).length : 0;
}
