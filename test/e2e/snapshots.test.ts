/** Snapshots and clones under real clients: what each of them shows, while others are written, and after a restart. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Prng } from '../../src/base/index.ts';
import { requireTools } from '../support/tools.ts';
import { checksum, nbdsh, qemuIo, temporaryDirectory } from './support/clients.ts';
import { shareCluster, type VolumeInfo } from './support/cluster.ts';
import { fioVerify } from './support/fio.ts';
import { run, runBeside } from './support/processes.ts';
import { eventually } from './support/wait.ts';

const MIB = 1024 ** 2;

const suite = requireTools(['fio', 'qemu-io', 'nbdcopy', 'nbdsh', 'python3-libnbd']);

suite('snapshots and clones', () => {
  const cluster = shareCluster();
  const uri = (volume: string, node = 'n1') => cluster().uri(volume, node);
  const sums = async (...names: string[]) => Object.fromEntries(await Promise.all(names.map(async (name) => [name, await checksum(uri(name))])));
  const snapshot = (volume: string, name: string) => cluster().json<VolumeInfo>('volume', 'snapshot', volume, name);
  const clone = (from: string, name: string, ...args: string[]) => cluster().json<VolumeInfo>('volume', 'clone', from, name, ...args);

  it('taken while fio writes stay as they were, whatever is done to volume, clones and siblings', async () => {
    await cluster().createVolume('parent', '64M', 'n1');
    const fio = fioVerify({ uri: uri('parent'), seconds: 12, size: '48m' });
    await eventually('fio writes', async () => (await cluster().info('parent')).allocatedBytes > 16 * MIB);
    await snapshot('parent', 'parent-1');
    const first = await checksum(uri('parent-1', 'n2'));
    await clone('parent-1', 'clone');
    await clone('parent-1', 'sibling');
    await qemuIo(uri('clone', 'n2'), 'write -P 1 0 9M', 'write -P 2 50M 1M', 'write -z 20M 5M', 'discard 30M 4M', 'flush');
    await snapshot('parent', 'parent-2');
    const second = await checksum(uri('parent-2', 'n3'));
    expect(await fio).toMatchObject({ status: 0, stderr: '' });
    expect(second).not.toBe(first);

    const before = await sums('parent', 'clone');
    expect(await sums('parent-1', 'sibling', 'parent-2')).toEqual({ 'parent-1': first, sibling: first, 'parent-2': second });
    await qemuIo(uri('sibling', 'n3'), 'write -P 3 0 64M');
    await qemuIo(uri('clone', 'n1'), 'read -P 1 0 9M', 'read -P 2 50M 1M', 'read -P 0 20M 5M', 'read -P 0 30M 4M');
    await qemuIo(uri('sibling', 'n2'), 'read -P 3 0 64M');
    expect(await sums('parent', 'clone', 'parent-1', 'parent-2')).toEqual({ ...before, 'parent-1': first, 'parent-2': second });
    // Another fio on the clone, which shares most of its blocks.
    expect(await fioVerify({ uri: uri('clone', 'n3'), seconds: 3, size: '32m' })).toMatchObject({ status: 0, stderr: '' });
    expect(await sums('parent', 'parent-1', 'parent-2')).toEqual({ parent: before['parent'], 'parent-1': first, 'parent-2': second });
  });

  it('hold exactly what was written up to one moment', async () => {
    const slots = 512;
    await cluster().json('volume', 'create', 'counted', '--size', '2M', '--block-size', '64K');
    const stop = join(temporaryDirectory(), 'stop');
    writeFileSync(stop, '');
    // One write after the other, all over the volume: number N is in slot N * 131 % 512.
    const writer = `import os, struct
number = 0
while os.path.exists(${JSON.stringify(stop)}):
  number += 1
  h.pwrite(struct.pack('>Q', number) * 512, number * 131 % ${slots} * 4096)
print(number)`;
    const written = runBeside('nbdsh', ['--uri', uri('counted', 'n2'), '-c', writer]);
    await eventually('it writes', async () => (await cluster().info('counted')).allocatedBytes === 2 * MIB);
    const taken = ['counted-1', 'counted-2', 'counted-3'];
    for (const name of taken) await snapshot('counted', name);
    rmSync(stop);
    const last = Number((await written).stdout);
    const reader = `import struct
data = h.pread(${slots} * 4096, 0)
got = {}
for slot in range(${slots}):
  page = data[slot * 4096:(slot + 1) * 4096]
  assert page == page[:8] * 512, slot
  got[slot] = struct.unpack('>Q', page[:8])[0]
last = max(got.values())
expected = dict.fromkeys(range(${slots}), 0)
for number in range(max(1, last - ${slots - 1}), last + 1):
  expected[number * 131 % ${slots}] = number
assert got == expected, [(slot, got[slot], expected[slot]) for slot in got if got[slot] != expected[slot]]
print(last)`;
    const ends: number[] = [];
    for (const name of [...taken, 'counted']) ends.push(Number(await nbdsh(uri(name, 'n3'), reader)));
    expect(ends).toEqual([...ends].sort((a, b) => a - b));
    expect(new Set(ends).size).toBe(4);
    expect(ends[3]).toBe(last);
  });

  it('go on from generation to generation, and outlive what they came from', async () => {
    await cluster().createVolume('a', '9M', 'n1');
    await qemuIo(uri('a'), 'write -P 1 0 9M');
    await snapshot('a', 'a1');
    await clone('a1', 'b', '--size', '13M');
    await qemuIo(uri('b', 'n2'), 'write -P 2 1M 1M', 'read -P 0 9M 4M', 'write -P 2 12M 512k');
    await snapshot('b', 'b1');
    await clone('b1', 'c');
    await qemuIo(uri('c', 'n3'), 'write -P 3 1536k 1M');
    const shows = async (name: string, ...reads: string[]) => {
      for (const node of cluster().names) await qemuIo(uri(name, node), ...reads);
    };
    const ofB = ['read -P 1 0 1M', 'read -P 2 1M 1M', 'read -P 1 2M 7M', 'read -P 0 9M 3M', 'read -P 2 12M 512k', 'read -P 0 12800k 512k'];
    const ofC = ['read -P 1 0 1M', 'read -P 2 1M 512k', 'read -P 3 1536k 1M', 'read -P 1 2560k 6656k', 'read -P 0 9M 3M', 'read -P 2 12M 512k'];
    await shows('b', ...ofB);
    await shows('c', ...ofC);
    expect(await cluster().info('c')).toMatchObject({ origin: 'b1', size: 13 * MIB });

    for (const name of ['a', 'a1', 'b']) await cluster().json('volume', 'rm', name);
    expect(await cluster().info('c')).toMatchObject({ origin: 'b1' });
    await shows('b1', ...ofB);
    await cluster().json('volume', 'rm', 'b1');
    expect(await cluster().info('c')).toMatchObject({ origin: null });
    await shows('c', ...ofC);
  });

  it('keep their size when the volume is resized, and what was cut off never comes back', async () => {
    await cluster().createVolume('sized', '10M', 'n2');
    await qemuIo(uri('sized', 'n2'), 'write -P 1 0 10M');
    await snapshot('sized', 'sized-1');
    const resize = (size: string, ...flags: string[]) => cluster().json<VolumeInfo>('volume', 'resize', 'sized', '--size', size, ...flags);
    expect((await resize('5M', '--shrink')).size).toBe(5 * MIB);
    for (const node of cluster().names) expect((await nbdsh(uri('sized', node), 'print(h.get_size())')).trim()).toBe(String(5 * MIB));
    expect((await resize('20M')).size).toBe(20 * MIB);
    for (const node of cluster().names) await qemuIo(uri('sized', node), 'read -P 1 0 5M', 'read -P 0 5M 15M');
    // Within one block, and to no multiple of anything but sectors.
    await qemuIo(uri('sized'), 'write -P 2 5M 15M');
    await resize(String(5 * MIB + 512 * 3), '--shrink');
    await resize('8M');
    await qemuIo(uri('sized', 'n3'), 'read -P 1 0 5M', 'read -P 2 5M 1536', `read -P 0 ${5 * MIB + 1536} ${3 * MIB - 1536}`);
    expect((await cluster().info('sized-1')).size).toBe(10 * MIB);
    await qemuIo(uri('sized-1', 'n1'), 'read -P 1 0 10M');
  });

  it('are what they were after many random steps, and after a restart', async () => {
    const prng = new Prng(Number(process.env['E2E_SEED'] ?? 20_260));
    const directory = temporaryDirectory();
    /** What each volume and snapshot has to hold. */
    const model = new Map<string, { bytes: Buffer; kind: 'volume' | 'snapshot' }>();
    const pick = (kind?: 'volume' | 'snapshot') => {
      const names = [...model].filter(([, entry]) => kind === undefined || entry.kind === kind).map(([name]) => name);
      return names[prng.below(names.length)]!;
    };
    const node = () => cluster().names[prng.below(3)]!;
    const write = async (name: string) => {
      const { bytes } = model.get(name)!;
      const lines: string[] = [];
      for (let count = 1 + prng.below(12); count > 0; count--) {
        const length = Math.min(bytes.length, 512 * (1 + prng.below(prng.below(4) === 0 ? 4096 : 200)));
        const offset = 512 * prng.below((bytes.length - length) / 512 + 1);
        const pattern = 1 + prng.below(255);
        const kind = prng.below(5);
        bytes.fill(kind < 3 ? pattern : 0, offset, offset + length);
        lines.push(
          kind < 3
            ? `h.pwrite(bytes([${pattern}]) * ${length}, ${offset})`
            : kind === 3
              ? `h.zero(${length}, ${offset})`
              : `h.pwrite(bytes(${length}), ${offset})`,
        );
      }
      await nbdsh(uri(name, node()), lines.join('\n'));
    };
    const verify = async () => {
      for (const [name, { bytes }] of model) {
        const file = join(directory, 'read');
        await run('nbdcopy', ['--', uri(name, node()), file]);
        const read = readFileSync(file);
        expect([name, read.length]).toEqual([name, bytes.length]);
        expect([name, firstDifference(read, bytes)]).toEqual([name, -1]);
        rmSync(file);
      }
    };
    for (const [place, blockSize] of ['64K', '256K', '1M'].entries()) {
      const size = 512 * (4096 + prng.below(8192));
      await cluster().json('volume', 'create', `r${place}`, '--size', String(size), '--block-size', blockSize);
      model.set(`r${place}`, { bytes: Buffer.alloc(size), kind: 'volume' });
    }
    for (let step = 0; step < 40; step++) {
      const kind = prng.below(10);
      const name = `s${step}`;
      if (kind < 4) await write(pick('volume'));
      else if (kind < 6) {
        const from = pick('volume');
        await snapshot(from, name);
        model.set(name, { bytes: Buffer.from(model.get(from)!.bytes), kind: 'snapshot' });
      } else if (kind < 8 && [...model.values()].some((entry) => entry.kind === 'snapshot')) {
        const from = pick('snapshot');
        const old = model.get(from)!.bytes;
        const size = old.length + (prng.below(2) === 0 ? 0 : 512 * prng.below(4096));
        await clone(from, name, '--size', String(size));
        model.set(name, { bytes: Buffer.concat([old, Buffer.alloc(size - old.length)]), kind: 'volume' });
        await write(name);
      } else if (kind === 8) {
        const from = pick('volume');
        const old = model.get(from)!.bytes;
        const size = Math.max(512, old.length + 512 * (prng.below(4096) - 2048));
        await cluster().json('volume', 'resize', from, '--size', String(size), '--shrink');
        const bytes = Buffer.alloc(size);
        old.copy(bytes);
        model.set(from, { bytes, kind: 'volume' });
      } else if (prng.below(2) === 0) await cluster().migrate(pick('volume'), node());
      else if (model.size > 6) {
        const gone = pick();
        if ([...model.values()].filter((entry) => entry.kind === 'volume').length === 1) continue;
        await eventually('no client is left', async () => (await cluster().info(gone)).clients === 0);
        await cluster().json('volume', 'rm', gone);
        model.delete(gone);
      }
    }
    await verify();
    for (const name of model.keys()) expect(await cluster().json('volume', 'check', name)).toMatchObject({ ok: true, problems: [] });
    await cluster().down();
    await cluster().up();
    await verify();
    await write(pick('volume'));
    await verify();
  });
});

/** The first byte that differs, or -1. */
function firstDifference(a: Buffer, b: Buffer): number {
  if (a.equals(b)) return -1;
  return a.findIndex((byte, at) => byte !== b[at]);
}
