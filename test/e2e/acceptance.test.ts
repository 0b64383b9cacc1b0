/**
 * What the original Archipelago promised its users, as stories told with real clients: its cases 1 to 11, by their numbers, each on a cluster
 * of three nodes. Opening, closing, locking and mapping are not among them.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { requireTools } from '../support/tools.ts';
import { checksum, nbdsh, qemuIo, tryQemuIo } from './support/clients.ts';
import { type ClusterStatus, shareCluster, type VolumeInfo } from './support/cluster.ts';
import { run, runToEnd } from './support/processes.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

const suite = requireTools(['qemu-io', 'nbdcopy', 'nbdinfo', 'nbdsh', 'python3-libnbd']);

suite('as in the original', () => {
  const cluster = shareCluster();
  const cli = (...args: string[]) => cluster().cli(args);
  const uri = (volume: string, node = 'n1') => cluster().uri(volume, node);
  /** Exit status and code of a command that has to fail. */
  const failure = async (...args: string[]) => {
    const { status, error } = await cli(...args);
    return [status, error?.code];
  };
  const objects = () =>
    readdirSync(join(cluster().directory, 'store', 'blocks'), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).length;

  it('1: a missing volume is not found, whatever is asked of it', async () => {
    const commands = [
      ['info', 'missing'],
      ['rename', 'missing', 'other'],
      ['resize', 'missing', '--size', '1G'],
      ['snapshot', 'missing', 'other'],
      ['clone', 'missing', 'other'],
      ['rm', 'missing'],
      ['uri', 'missing'],
      ['label', 'missing', 'a=b'],
      ['migrate', 'missing', '--to', 'n1'],
      ['check', 'missing'],
      ['export', 'missing', '/dev/null'],
    ];
    for (const command of commands) {
      const { status, error } = await cli('volume', ...command);
      expect([command, status, error?.code]).toEqual([command, 3, 'not-found']);
      expect(error?.message).toContain("'missing'");
    }
    for (const node of cluster().names) {
      const { status, stderr } = await runToEnd('nbdinfo', [uri('missing', node)]);
      expect(status).not.toBe(0);
      expect(stderr).toMatch(/missing|not found|unknown/i);
    }
    expect((await tryQemuIo(uri('missing'), 'write 0 4k')).status).not.toBe(0);
  });

  it('2: a name that exists, size 0 and a clone smaller than its source are refused', async () => {
    await cluster().createVolume('second', '8M');
    const before = await cluster().info('second');
    expect(await failure('volume', 'create', 'second', '--size', '16M')).toEqual([4, 'exists']);
    expect(await failure('volume', 'create', 'second-zero', '--size', '0')).toEqual([2, 'invalid-argument']);
    await cluster().json('volume', 'snapshot', 'second', 'second-then');
    expect(await failure('volume', 'clone', 'second-then', 'second-small', '--size', '4M')).toEqual([2, 'invalid-argument']);
    expect(await failure('volume', 'clone', 'second-then', 'second')).toEqual([4, 'exists']);
    expect(await failure('volume', 'create', 'second-then', '--size', '8M')).toEqual([4, 'exists']);
    expect(await cluster().info('second')).toMatchObject({ size: before.size, id: before.id, createdAt: before.createdAt });
    const names = (await cluster().json<VolumeInfo[]>('volume', 'ls')).map(({ name }) => name);
    expect(names.filter((name) => name.startsWith('second'))).toEqual(['second', 'second-then']);
  });

  it('3: a removed volume takes neither writes nor another removal, and its name comes back without its blocks', async () => {
    await cluster().createVolume('third', '8M', 'n1');
    await qemuIo(uri('third', 'n2'), 'write -P 3 0 8M', 'flush');
    const { id } = await cluster().json<VolumeInfo>('volume', 'rm', 'third');
    expect(await failure('volume', 'rm', 'third')).toEqual([3, 'not-found']);
    for (const node of cluster().names) expect((await tryQemuIo(uri('third', node), 'write -P 4 0 4k')).status).not.toBe(0);
    const anew = await cluster().createVolume('third', '8M');
    expect(anew.id).not.toBe(id);
    expect(anew.allocatedBytes).toBe(0);
    for (const node of cluster().names) await qemuIo(uri('third', node), 'read -P 0 0 8M');
    await qemuIo(uri('third', 'n3'), 'write -P 5 1M 4k', 'read -P 0 0 1M', 'read -P 5 1M 4k', 'read -P 0 1028k 7164k');
  });

  it('4: a new volume of 100 GiB reads zeros everywhere and takes no room', async () => {
    const before = objects();
    await cluster().createVolume('fourth', '100G', 'n1');
    const samples = [0, 1, 4 * MIB - 1, 50 * GIB + 12_345, 100 * GIB - 3];
    const program = `for at in [${samples.join(',')}]:
  n = min(65536, h.get_size() - at)
  assert h.pread(n, at) == bytes(n), at
print(h.get_size())`;
    for (const node of cluster().names) expect((await nbdsh(uri('fourth', node), program)).trim()).toBe(String(100 * GIB));
    const map = JSON.parse(await run('nbdinfo', ['--map', '--json', uri('fourth')])) as { offset: number; length: number; type: number }[];
    // Hole and zero.
    expect(map.map(({ type }) => type)).toEqual(map.map(() => 3));
    expect(map.reduce((sum, { length }) => sum + length, 0)).toBe(100 * GIB);
    expect((await cluster().info('fourth')).allocatedBytes).toBe(0);
    expect(objects()).toBe(before);

    await qemuIo(uri('fourth'), `write -P 7 ${70 * GIB} 4k`, `read -P 0 ${70 * GIB - MIB} 1M`, `read -P 0 ${70 * GIB + 4096} 4M`);
    expect(objects()).toBe(before + 1);
    expect((await cluster().info('fourth')).allocatedBytes).toBe(4 * MIB);
  });

  it('5: infos and reads at the same time agree, on all nodes', async () => {
    await cluster().createVolume('fifth', '16M', 'n2');
    await qemuIo(uri('fifth'), 'write -P 9 3M 6M');
    // It may have followed its writer.
    await cluster().migrate('fifth', 'n2');
    const infos = await Promise.all([...cluster().names, ...cluster().names].map((node) => cluster().info('fifth', node)));
    for (const info of infos) expect(info).toEqual({ ...infos[0], clients: info.clients });
    expect(infos[0]).toMatchObject({ size: 16 * MIB, allocatedBytes: 12 * MIB, owner: { node: 'n2' } });
    const read = [...cluster().names, ...cluster().names].map((node) => uri('fifth', node));
    expect(new Set(await Promise.all(read.map(checksum))).size).toBe(1);
    const maps = await Promise.all(Array.from({ length: 3 }, () => run('nbdinfo', ['--map', uri('fifth', 'n2')])));
    expect(maps[0]).toMatch(/ 0 +3145728 +3 +hole,zero\n +3145728 +6291456 +0 +data\n +9437184 +7340032 +3 +hole,zero/);
    expect(maps).toEqual(Array(3).fill(maps[0]));
  });

  it('6: a volume of another node is read and written here, and not past its end', async () => {
    await cluster().createVolume('sixth', '5M', 'n3');
    await qemuIo(uri('sixth', 'n3'), 'write -P 6 0 5M');
    await qemuIo(uri('sixth', 'n1'), 'read -P 6 0 5M');
    for (const node of ['n1', 'n3']) {
      // Past the strict checks of the client's own.
      const program = `h.set_strict_mode(0)
def refused(what, *args):
  try:
    what(*args)
  except nbd.Error as ex:
    return ex.errno
size = h.get_size()
print(refused(h.pwrite, b'x' * 512, size), refused(h.pwrite, b'x' * 1024, size - 512), refused(h.pread, 1024, size - 512), refused(h.pread, 1, 1 << 40))
print(h.pread(512, size - 512) == b'\\x06' * 512)`;
      expect((await nbdsh(uri('sixth', node), program)).trim().split('\n')).toEqual(['ENOSPC ENOSPC EINVAL EINVAL', 'True']);
    }
    expect((await cluster().info('sixth')).size).toBe(5 * MIB);
  });

  it('7: seven first writes to one block at the same time make one object', async () => {
    await cluster().createVolume('seventh', '16M');
    const before = objects();
    const writes = Array.from({ length: 7 }, (_, place) =>
      qemuIo(uri('seventh', cluster().names[place % 3]), `write -P ${place + 1} ${4096 + place * 512} 512`),
    );
    await Promise.all(writes);
    expect(objects()).toBe(before + 1);
    await qemuIo(uri('seventh'), ...Array.from({ length: 7 }, (_, place) => `read -P ${place + 1} ${4096 + place * 512} 512`), 'read -P 0 0 4k');

    // The same of one client, that has all seven in flight.
    const program = `size = 4096
done = [h.aio_pwrite(bytes([place + 1]) * size, 8 * 1024 * 1024 + place * size) for place in range(7)]
while h.aio_in_flight() > 0:
  h.poll(-1)
print(b''.join(bytes([place + 1]) * size for place in range(7)) == h.pread(7 * size, 8 * 1024 * 1024))`;
    expect((await nbdsh(uri('seventh', 'n2'), program)).trim()).toBe('True');
    expect(objects()).toBe(before + 2);
    expect((await cluster().info('seventh')).allocatedBytes).toBe(8 * MIB);
  });

  it('9: a snapshot stays as it was, keeps its name to itself, and takes no writes', async () => {
    await cluster().createVolume('ninth', '12M', 'n1');
    await qemuIo(uri('ninth'), 'write -P 1 0 6M');
    const before = await checksum(uri('ninth'));
    await cluster().json('volume', 'snapshot', 'ninth', 'ninth-then');
    await qemuIo(uri('ninth', 'n2'), 'write -P 2 1M 8M', 'write -z 0 512k', 'discard 4M 1M');
    for (const node of cluster().names) expect(await checksum(uri('ninth-then', node))).toBe(before);
    expect(await checksum(uri('ninth'))).not.toBe(before);
    expect(await failure('volume', 'snapshot', 'ninth', 'ninth-then')).toEqual([4, 'exists']);
    expect(await failure('volume', 'snapshot', 'ninth', 'ninth')).toEqual([4, 'exists']);
    expect(await failure('volume', 'resize', 'ninth-then', '--size', '1G')).toEqual([4, 'read-only']);
    expect(await failure('volume', 'snapshot', 'ninth-then', 'ninth-again')).toEqual([4, 'read-only']);
    for (const node of cluster().names) {
      expect((await nbdsh(uri('ninth-then', node), 'print(h.is_read_only())')).trim()).toBe('True');
      const program = `h.set_strict_mode(0)
for what in [lambda: h.pwrite(b'x' * 512, 0), lambda: h.zero(512, 0), lambda: h.trim(512, 0)]:
  try:
    what()
    print('done')
  except nbd.Error as ex:
    print(ex.errno)`;
      expect((await nbdsh(uri('ninth-then', node), program)).trim().split('\n')).toEqual(['EPERM', 'EPERM', 'EPERM']);
    }
    expect(await checksum(uri('ninth-then'))).toBe(before);
  });

  it('10: a clone has a tail of zeros, and what is written to it is seen by neither parent nor sibling', async () => {
    await cluster().createVolume('tenth', '6M', 'n1');
    await qemuIo(uri('tenth'), 'write -P 10 0 6M');
    await cluster().json('volume', 'snapshot', 'tenth', 'tenth-then');
    const clone = (name: string, ...args: string[]) => cluster().json<VolumeInfo>('volume', 'clone', 'tenth-then', name, ...args);
    expect(await clone('tenth-large', '--size', '20M')).toMatchObject({ origin: 'tenth-then', size: 20 * MIB, kind: 'volume' });
    await clone('tenth-sibling');
    const before = await Promise.all(['tenth', 'tenth-then', 'tenth-sibling'].map((name) => checksum(uri(name))));
    expect(new Set(before).size).toBe(1);
    for (const node of cluster().names) await qemuIo(uri('tenth-large', node), 'read -P 10 0 6M', 'read -P 0 6M 14M');
    await qemuIo(uri('tenth-large', 'n2'), 'write -P 11 5M 2M', 'write -P 12 18M 2M', 'discard 0 1M', 'read -P 0 0 1M', 'read -P 10 1M 4M');
    await qemuIo(uri('tenth-sibling', 'n3'), 'write -P 13 512 512', 'read -P 10 0 512', 'read -P 13 512 512', 'read -P 10 1k 5M');
    const sibling = await checksum(uri('tenth-sibling'));
    await qemuIo(uri('tenth-large', 'n1'), 'read -P 11 5M 2M', 'read -P 0 7M 11M', 'read -P 12 18M 2M');
    expect(await Promise.all(['tenth', 'tenth-then', 'tenth-sibling'].map((name) => checksum(uri(name, 'n2'))))).toEqual([
      ...before.slice(0, 2),
      sibling,
    ]);
  });

  it('11: a renamed volume is found under its new name only, with its data, and can be snapshotted', async () => {
    await cluster().createVolume('eleventh', '8M', 'n2');
    await qemuIo(uri('eleventh'), 'write -P 11 2M 3M');
    const [before, { id }] = [await checksum(uri('eleventh')), await cluster().info('eleventh')];
    expect(await cluster().json('volume', 'rename', 'eleventh', 'eleven')).toMatchObject({ name: 'eleven', id });
    expect(await failure('volume', 'info', 'eleventh')).toEqual([3, 'not-found']);
    expect((await runToEnd('nbdinfo', [uri('eleventh')])).status).not.toBe(0);
    for (const node of cluster().names) expect(await checksum(uri('eleven', node))).toBe(before);
    await cluster().json('volume', 'snapshot', 'eleven', 'eleven-then');
    expect(await checksum(uri('eleven-then'))).toBe(before);
    expect(await failure('volume', 'rename', 'eleven', 'eleven-then')).toEqual([4, 'exists']);
    // The old name is free.
    await cluster().createVolume('eleventh', '8M');
    await qemuIo(uri('eleventh'), 'read -P 0 0 8M');
    expect(await checksum(uri('eleven'))).toBe(before);
  });

  it('8: after a restart the maps are what they were', async () => {
    const shown = async () => {
      const volumes = await cluster().json<VolumeInfo[]>('volume', 'ls');
      const maps: [string, string, string][] = [];
      for (const { name, size } of volumes) {
        const sum = size > GIB ? '' : await checksum(uri(name));
        // Other nodes than the owner have no map to tell of.
        maps.push([name, sum, await run('nbdinfo', ['--map', uri(name, (await cluster().owner(name)) ?? 'n1')])]);
      }
      // Ownership begins anew.
      return { volumes: (await cluster().json<VolumeInfo[]>('volume', 'ls')).map(({ owner: _, clients: __, ...rest }) => rest), maps };
    };
    const before = await shown();
    expect(before.volumes.length).toBeGreaterThan(10);
    await cluster().down();
    await cluster().up();
    expect(await shown()).toEqual(before);
    expect((await cluster().json<ClusterStatus>('cluster', 'status')).volumes).toBe(before.volumes.length);
  });
});
