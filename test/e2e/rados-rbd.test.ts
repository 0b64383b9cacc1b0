/** Images of RBD, as the clients of Ceph make and read them, come in and go out. */
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import type { CephCluster } from '../../chaos/ceph/cluster.ts';
import { requireTools } from '../support/tools.ts';
import { CEPH_TOOLS, sharedCeph } from './support/ceph.ts';
import { compare, qemuIo, startCli, temporaryDirectory } from './support/clients.ts';
import { shareCluster, type VolumeInfo } from './support/cluster.ts';
import { run } from './support/processes.ts';
import { eventually } from './support/wait.ts';

const MIB = 1024 ** 2;

requireTools([...CEPH_TOOLS, 'rbd', 'qemu-img', 'qemu-nbd', 'qemu-io', 'nbdcopy'])('images of RBD', () => {
  const cluster = shareCluster();
  let ceph: CephCluster;

  beforeAll(async () => {
    ceph = await sharedCeph();
  });

  const image = (name: string) => `rbd:${ceph.blocksPool}/${name}:conf=${ceph.confFile}`;
  const rbd = (...args: string[]) => run('rbd', ['--conf', ceph.confFile, ...args]);
  const allocatedBytes = async (name: string): Promise<number> => {
    const { images } = JSON.parse(await rbd('du', '--format', 'json', `${ceph.blocksPool}/${name}`)) as { images: { used_size: number }[] };
    return images.reduce((sum, { used_size }) => sum + used_size, 0);
  };

  it('a snapshot becomes a volume as it was, thin, and a volume an image', async () => {
    await run('qemu-img', ['create', '-q', '-f', 'raw', image('guest'), '1G']);
    await qemuIo(image('guest'), 'write -P 0x11 0 1M', 'write -P 0x22 700M 64k', 'write -P 0x33 1023M 1M');
    await rbd('snap', 'create', `${ceph.blocksPool}/guest@monday`);
    await qemuIo(image('guest'), 'write -P 0x44 0 2M');

    const made = await cluster().json<VolumeInfo>('volume', 'import', image('guest@monday'), 'guest');
    expect(made).toMatchObject({ size: 1024 * MIB, origin: null });
    expect(made.allocatedBytes).toBeLessThanOrEqual(12 * MIB);
    const uri = cluster().uri('guest', 'n2');
    await qemuIo(uri, 'read -P 0x11 0 1M', 'read -P 0 1M 699M', 'read -P 0x22 700M 64k', 'read -P 0x33 1023M 1M');

    await qemuIo(uri, 'write -P 0x55 512M 1M', 'flush');
    expect(await cluster().json('volume', 'export', 'guest', image('copy'))).toMatchObject({ name: 'guest', size: 1024 * MIB });
    await qemuIo(image('copy'), 'read -P 0x55 512M 1M', 'read -P 0x22 700M 64k');
    const file = join(temporaryDirectory(), 'copy.raw');
    await rbd('export', `${ceph.blocksPool}/copy`, file);
    expect(await compare(file, uri)).toEqual(['Images are identical.']);
    expect(await allocatedBytes('copy')).toBeLessThan(32 * MIB);
  });

  it('what is there already is not overwritten', async () => {
    await cluster().createVolume('other', '8M');
    await run('qemu-img', ['create', '-q', '-f', 'raw', image('taken'), '8M']);
    const refused = await cluster().cli(['volume', 'export', 'other', image('taken')]);
    expect([refused.status, refused.error?.code]).toEqual([4, 'exists']);
  });

  it.each<[string, () => string[], number, string]>([
    ['an image that is not there', () => ['import', image('nothing'), 'a'], 3, 'not-found'],
    ['no image at all', () => ['import', 'rbd:pool', 'a'], 2, 'invalid-argument'],
    ['a pool that is not there', () => ['export', 'some', `rbd:nowhere/image:conf=${ceph.confFile}`], 3, 'not-found'],
    ['a snapshot as destination', () => ['export', 'some', image('guest@tuesday')], 4, 'read-only'],
  ])('%s is told as such', async (_, args, status, code) => {
    if (args()[0] === 'export') await cluster().cli(['volume', 'create', 'some', '--size', '8M']);
    const refused = await cluster().cli(['volume', ...args()]);
    expect([refused.status, refused.error?.code]).toEqual([status, code]);
    expect((await cluster().json<VolumeInfo[]>('volume', 'ls')).map(({ name }) => name)).not.toContain('a');
  });

  it('an export that is stopped leaves no image', async () => {
    await cluster().createVolume('large', '4G');
    await qemuIo(cluster().uri('large', 'n1'), 'write -P 0x66 0 256M', 'flush');
    const { child, ended } = startCli(cluster(), 'volume', 'export', 'large', image('half'));
    const images = () => rbd('ls', ceph.blocksPool);
    await eventually('the image is made', async () => (await images()).includes('half'));
    child.kill('SIGINT');
    expect((await ended).status).not.toBe(0);
    expect(await images()).not.toContain('half');
  });
});
