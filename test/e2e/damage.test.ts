/** What `volume check` and clients say when somebody has been at the files of the store. */
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { requireTools } from '../support/tools.ts';
import { nbdsh, qemuIo } from './support/clients.ts';
import { shareCluster } from './support/cluster.ts';
import { LAUNCHER, runToEnd } from './support/processes.ts';

interface Check {
  readonly ok: boolean;
  readonly blocks: number;
  readonly pages: number;
  readonly problems: string[];
}

const suite = requireTools(['qemu-io', 'nbdsh', 'python3-libnbd']);

suite('a store that was tampered with', () => {
  const cluster = shareCluster({ nodes: 1 });
  const filesIn = (folder: string) => {
    const path = join(cluster().directory, 'store', folder);
    const entries = readdirSync(path, { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  };
  /** The files of a folder of the store that are new after `work`. */
  const madeBy = async (folder: string, work: () => Promise<unknown>) => {
    const before = new Set(filesIn(folder));
    await work();
    return filesIn(folder)
      .filter((path) => !before.has(path))
      .sort();
  };
  const whileDown = async (work: () => void) => {
    await cluster().down();
    work();
    await cluster().up();
  };
  const check = async (name: string): Promise<[number | null, Check]> => {
    const { status, stdout } = await cluster().cli(['volume', 'check', name]);
    return [status, JSON.parse(stdout) as Check];
  };

  let objects: string[];
  let pages: string[];
  beforeAll(async () => {
    await cluster().createVolume('other', '1M');
    await qemuIo(cluster().uri('other', 'n1'), 'write -P 9 0 1M');
    await cluster().createVolume('disk', '16M');
    objects = await madeBy('blocks', () => qemuIo(cluster().uri('disk', 'n1'), 'write -P 1 0 16M', 'flush'));
    pages = await madeBy('pages', () => cluster().json('volume', 'snapshot', 'disk', 'then'));
  });

  it('is sound before that', async () => {
    expect(objects).toHaveLength(4);
    expect(pages.length).toBeGreaterThan(0);
    for (const name of ['disk', 'then']) {
      const [status, { ok, blocks, pages: read, problems }] = await check(name);
      expect([name, status, ok, blocks, problems]).toEqual([name, 0, true, 4, []]);
      expect(read).toBeGreaterThan(0);
    }
  });

  it('has an object less: the check says which, and a read of it fails instead of giving zeros', async () => {
    const [, , gone] = objects;
    const bytes = readFileSync(gone!);
    await whileDown(() => rmSync(gone!));
    for (const name of ['disk', 'then']) {
      const [status, { ok, problems }] = await check(name);
      expect([name, status, ok, problems]).toEqual([name, 1, false, [expect.stringMatching(/block 2: its object of generation \d+ is missing/)]]);
      const program = `def got(at):
  try:
    return h.pread(512, at)[:1].hex()
  except nbd.Error as ex:
    return ex.errno
print(*[got(at * 1024 * 1024) for at in (0, 8, 11, 12)])`;
      expect((await nbdsh(cluster().uri(name, 'n1'), program)).trim()).toBe('01 EIO EIO 01');
    }
    const text = await runToEnd(process.execPath, [LAUNCHER, 'volume', 'check', 'disk'], {
      environment: { ARCHIPELAGO_SOCKET: cluster().node('n1').adminSocket },
    });
    expect([text.status, text.stderr]).toEqual([1, '']);
    expect(text.stdout).toMatch(/^'disk' is damaged .*\n {2}block 2: its object of generation \d+ is missing\n$/);
    expect(await check('other')).toMatchObject([0, { ok: true }]);
    await whileDown(() => writeFileSync(gone!, bytes));
    expect(await check('disk')).toMatchObject([0, { ok: true }]);
  });

  it.each<[string, (bytes: Buffer) => Buffer | null]>([
    ['a flipped bit', (bytes) => Buffer.from(bytes.map((byte, at) => (at === bytes.length >> 1 ? byte ^ 4 : byte)))],
    ['half its bytes', (bytes) => bytes.subarray(0, bytes.length >> 1)],
    ['no bytes', () => Buffer.alloc(0)],
    ['no file', () => null],
  ])('has a page with %s: the check says so, and reads fail', async (_what, damage) => {
    const before = pages.map((path) => [path, readFileSync(path)] as const);
    await whileDown(() => {
      for (const [path, bytes] of before) {
        const damaged = damage(Buffer.from(bytes));
        if (damaged === null) rmSync(path);
        else writeFileSync(path, damaged);
      }
    });
    const [status, { ok, problems }] = await check('then');
    expect([status, ok]).toEqual([1, false]);
    expect(problems[0]).toMatch(/^page \d+\/\d+, from block 0 on: /);
    const program = `try:
  print(h.pread(512, 0)[:1].hex())
except nbd.Error as ex:
  print(ex.errno)`;
    const read = await runToEnd('nbdsh', ['--uri', cluster().uri('then', 'n1'), '-c', program]);
    // Refused at the door, or at the read.
    if (read.status === 0) expect(read.stdout.trim()).toBe('EIO');
    expect(await check('other')).toMatchObject([0, { ok: true }]);
    await whileDown(() => {
      for (const [path, bytes] of before) writeFileSync(path, bytes);
    });
    expect(await check('then')).toMatchObject([0, { ok: true }]);
    expect(statSync(pages[0]!).size).toBe(before[0]![1].length);
  });
});
