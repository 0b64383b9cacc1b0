/** Ceph fails in the ways in which it does: I/O waits or fails with an error that says why, the node stays alive, and nothing acknowledged is lost. */
import { randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type CephCluster, ceph, createPool } from '../../chaos/ceph/cluster.ts';
import type { ArchipelagoError } from '../../src/base/index.ts';
import { done, epochOf, expectBytes, expectCode, generationOf, owner, pattern, readOf, volumeId } from '../contract/store-support.ts';
import { requireTools } from '../support/tools.ts';
import { CEPH_TOOLS, endSharedCeph, sharedCeph, whileStopped } from './support/ceph.ts';
import { nbdsh, temporaryDirectory } from './support/clients.ts';
import { type Cluster, type ClusterStatus, startCluster, type VolumeInfo } from './support/cluster.ts';
import { atTestEnd, run } from './support/processes.ts';
import { newPlace, openAt } from './support/rados.ts';
import { stories } from './support/stories.ts';
import { eventually, sleep } from './support/wait.ts';
import { Writer } from './support/writer.ts';

const suite = requireTools([...CEPH_TOOLS, 'nbdsh', 'python3-libnbd']);

/** Many times a lease, and longer than Ceph itself takes to give an OSD up by default; everywhere, since what it looks for needs the time. */
const STALL_MS = 30_000;
const generation = generationOf(7);

/** The leases and epochs that must not change while Ceph is slow. */
async function ownership(cluster: Cluster) {
  const admin = cluster.admin('n1');
  const { nodes } = await admin.call<ClusterStatus>('GET', '/v1/cluster');
  const { owner: holder } = await admin.call<VolumeInfo>('GET', '/v1/volumes/disk');
  return { holder, nodes: nodes.map(({ name, lease, volumes }) => ({ name, lease, volumes })) };
}

suite('Ceph', () => {
  let shared: CephCluster;

  afterAll(endSharedCeph);

  beforeAll(async () => {
    shared = await sharedCeph();
  });

  async function open(place = newPlace(shared)) {
    const store = await openAt(place);
    atTestEnd(() => store.close());
    return store;
  }

  stories('stands still, is full, and is whole again: guests wait or are told, and no lease is lost for it', async () => {
    const cluster = await startCluster();
    await cluster.createVolume('disk', '256M');
    const region = { start: 0, end: 128 << 20 };
    const load = { maxBytes: 256 << 10, requestsPerSecond: 100, zeroes: true };
    const writer = await Writer.start({ uri: cluster.uri('disk', 'n2'), seed: 1, region, ...load });
    await writer.progress(50);
    const before = await ownership(cluster);
    expect(before.nodes.map(({ lease }) => lease)).toEqual([true, true, true]);
    const holder = before.holder?.node ?? '';

    await whileStopped(shared.osdPids, async () => {
      const until = performance.now() + STALL_MS;
      const half = performance.now() + STALL_MS / 2;
      let acknowledged: number | null = null;
      let asked = 0;
      while (performance.now() < until) {
        expect(await ownership(cluster)).toEqual(before);
        // What needs no more than the map in memory is served by the owner, which looks at its lease for each answer.
        await nbdsh(cluster.uri('disk', holder), 'assert h.pread(4096, 200 * 1024 * 1024) == bytes(4096)');
        // The rest waits. By then whatever the writer may have under way at a time does.
        if (performance.now() > half) acknowledged ??= writer.acknowledged;
        asked++;
      }
      expect(asked).toBeGreaterThan(1);
      expect(writer.acknowledged).toBe(acknowledged);
    });
    await writer.progress(50);
    expect(await ownership(cluster)).toEqual(before);
    expect(writer.errors).toEqual([]);

    // Without the monitor whoever is connected goes on, and a node that starts waits for it.
    await whileStopped([shared.monitorPid], async () => {
      await writer.progress(100);
      await cluster.kill('n3');
      await cluster.start('n3');
      await sleep(STALL_MS / 10);
      expect((await ownership(cluster)).nodes.find(({ name }) => name === 'n3')?.lease).toBe(false);
      await writer.progress(50);
    });
    await cluster.ready('n3');
    expect(writer.errors).toEqual([]);

    await setFull(shared, true);
    await eventually('guests are told that there is no room', () => writer.errors.length >= 5, 120_000);
    await cluster.json('volume', 'rm', 'first');
    await setFull(shared, false);
    const told = await eventually('there is room again', async () => {
      const count = writer.errors.length;
      await writer.progress(100);
      return writer.errors.length === count ? count : null;
    });
    expect(told).toBeGreaterThan(0);
    expect(new Set(writer.errors.map(({ code }) => code))).toEqual(new Set(['no-space']));
    expect(writer.disconnects).toBe(0);
    await writer.pause();
    for (const node of cluster.names) await writer.verify(cluster.uri('disk', node));
    expect((await ownership(cluster)).holder).toEqual(before.holder);
    expect(await cluster.json('volume', 'check', 'disk')).toMatchObject({ ok: true });
    await writer.stop();
  });

  stories('has lost an object, or has one of other content: reads fail, the check says where, and other volumes are served', async () => {
    const cluster = await startCluster();
    const namespace = /namespace = "(.+)"/.exec(readFileSync(`${cluster.directory}/n1/node.toml`, 'utf8'))?.[1] ?? '';
    const rados = (pool: string, ...args: string[]) => run('rados', ['--conf', shared.confFile, '-p', pool, '-N', namespace, ...args]);
    for (const name of ['whole', 'disk']) {
      await cluster.createVolume(name, '16M', 'n1');
      await nbdsh(cluster.uri(name, 'n1'), 'for at in range(4): h.pwrite(bytes([at + 1]) * 65536, at * 4 * 1024 * 1024)\nh.flush()');
    }
    const names = (await rados('blocks', 'ls'))
      .split('\n')
      .filter((name) => name.startsWith('block.'))
      .sort();
    const [, , gone] = names.filter((name) => name.split('.')[1] === names.at(-1)?.split('.')[1]) as [string, string, string];
    await rados('blocks', 'rm', gone);
    const program = `def got(at):
  try:
    return h.pread(512, at)[:1].hex()
  except nbd.Error as ex:
    return ex.errno
print(*[got(at * 4 * 1024 * 1024) for at in range(4)])`;
    expect((await nbdsh(cluster.uri('disk', 'n2'), program)).trim()).toBe('01 02 EIO 04');
    expect(await cluster.cli(['volume', 'check', 'disk'])).toMatchObject({ status: 1 });
    expect((await nbdsh(cluster.uri('whole', 'n2'), program)).trim()).toBe('01 02 03 04');

    // The map of the volume, folded by a change of owner, as its next owner reads it.
    const file = `${temporaryDirectory()}/page`;
    const mine = async () => (await rados('maps', 'ls')).split('\n').filter((name) => name.startsWith('page.'));
    await cluster.terminate('n1');
    const pages = await eventually('the map was folded', async () => ((await mine()).length >= 2 ? await mine() : null));
    for (const page of pages) {
      await rados('maps', 'get', page, file);
      const bytes = readFileSync(file);
      bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 4;
      writeFileSync(file, bytes);
      await rados('maps', 'put', page, file);
    }
    await cluster.kill('n2', 'n3');
    await cluster.up();
    expect(await cluster.cli(['volume', 'check', 'whole'])).toMatchObject({ status: 1 });
  });

  it('loses a pool: whoever asks is told so, and nothing is taken for empty', async () => {
    const [mapsPool, blocksPool] = [`maps-${randomUUID()}`, `blocks-${randomUUID()}`];
    for (const pool of [mapsPool, blocksPool]) await createPool(shared.confFile, pool);
    const place = { ...newPlace(shared), user: 'admin', mapsPool, blocksPool };
    const store = await open(place);
    const volume = await owner(store, 1, 1);
    const object = volume.object(generation, 1);
    await done((waiter) => object.create(0, pattern(1, 4096), waiter));
    await volume.writeHeader(pattern(1, 100));
    await done((waiter) => volume.appendJournal(1, 0, pattern(2, 10), waiter));
    for (const pool of [mapsPool, blocksPool]) await ceph(shared.confFile, 'osd', 'pool', 'delete', pool, pool, '--yes-i-really-really-mean-it');
    for (const ask of [
      () => readOf(object, 0, 512),
      () => done((waiter) => object.write(0, pattern(2, 512), waiter)),
      () => done((waiter) => object.remove(waiter)),
      () => done((waiter) => volume.object(generation, 2).create(0, pattern(2, 512), waiter)),
      () => done((waiter) => volume.appendJournal(1, 0, pattern(2, 10), waiter)),
      () => volume.writeHeader(pattern(2, 100)),
      () => volume.dropSegments(2),
      () => store.readHeader(volumeId(1)),
      () => store.readLog(volumeId(1)),
      () => store.takeOver(volumeId(2), epochOf(1), false),
      () => store.objectExists({ generation, index: 1 }),
      () => store.removeLog(volumeId(1)),
    ]) {
      await expectCode(ask(), 'io-error');
    }
    // A pool of the same name is not the one that held the data.
    for (const pool of [mapsPool, blocksPool]) await createPool(shared.confFile, pool);
    await expectCode(openAt({ ...place, mustExist: true }), 'not-found');
  });

  it('lets in who has a key and may do what is needed, and nobody else', async () => {
    const place = newPlace(shared);
    const at = ({ namespace } = place) =>
      `allow rw pool=${place.mapsPool} namespace=${namespace}, allow rw pool=${place.blocksPool} namespace=${namespace}`;
    const directory = temporaryDirectory();
    const withUser = async (user: string, osd: string, change = (keyring: string) => keyring) => {
      const keyring = await ceph(shared.confFile, 'auth', 'get-or-create', `client.${user}`, 'mon', 'allow r', 'osd', osd);
      const [confFile, keyringFile] = [`${directory}/${user}.conf`, `${directory}/${user}.keyring`];
      writeFileSync(keyringFile, change(keyring), { mode: 0o600 });
      writeFileSync(confFile, readFileSync(shared.confFile, 'utf8').replace(/^keyring = .*$/m, `keyring = ${keyringFile}`));
      return { ...place, user, confFile };
    };
    // All that the least capabilities of docs/rados.md have to allow.
    const store = await open(await withUser('least', at()));
    const volume = await owner(store, 1, 1);
    await done((waiter) => volume.object(generation, 1).create(0, pattern(1, 4096), waiter));
    await done((waiter) => volume.object(generation, 1).claim(waiter));
    await done((waiter) => volume.object(generation, 1).zero(0, 512, waiter));
    await done((waiter) => volume.appendJournal(1, 0, pattern(2, 10), waiter));
    await volume.writeHeader(pattern(1, 100));
    await volume.writePage(generation, 1, pattern(1, 100));
    expect((await store.status()).kind).toBe('rados');
    const listed: unknown[] = [];
    for await (const names of store.list('object', () => true)) listed.push(...names);
    expect(listed).toEqual([{ generation, index: 1 }]);
    expect((await store.remove('object', [{ generation, index: 1 }])).count).toBe(1);

    const refused = (opening: Promise<unknown>) =>
      opening.then(
        () => 'let in',
        ({ code, message }: ArchipelagoError) => `${code}: ${message}`,
      );
    expect(await refused(openAt(await withUser('stranger', at({ ...place, namespace: 'elsewhere' }))))).toMatch(/^forbidden: .*is not allowed/);
    const forged = (keyring: string) => keyring.replace(/key = .*/, 'key = AQBTYWFhAAAAABAAsxWCi1k4LTOAKH3YQkP5Xw==');
    expect(await refused(openAt(await withUser('forger', at(), forged)))).toMatch(/^forbidden: connecting .*is not allowed/);
    expect(await refused(openAt({ ...place, user: 'nobody' }))).toMatch(/^(forbidden|not-found): /);
    expect(await refused(openAt({ ...place, confFile: `${directory}/none` }))).toMatch(/^not-found: Ceph's configuration file .*none does not exist/);
    expect(await refused(openAt({ ...place, blocksPool: 'none' }))).toMatch(/^not-found: Ceph's pool 'none'/);
    expect(await refused(openAt({ ...place, clusterId: randomUUID() }))).toMatch(/^conflict: .*belongs to cluster/);
  });

  it('shuts a client out: its process is told before anyone hears of an error', async () => {
    const order: string[] = [];
    const store = await openAt(newPlace(shared), () => order.push('shut out'));
    atTestEnd(() => store.close());
    const volume = await owner(store);
    const object = volume.object(generation, 1);
    await done((waiter) => object.create(0, pattern(1, 512), waiter));
    // Whoever is at this address.
    const address = '127.0.0.1:0/0';
    await ceph(shared.confFile, 'osd', 'blocklist', 'add', address, '60');
    try {
      await eventually('an operation fails', () =>
        done((waiter) => object.write(0, pattern(2, 512), waiter)).then(
          () => false,
          ({ code }: ArchipelagoError) => order.push(code),
        ),
      );
    } finally {
      await ceph(shared.confFile, 'osd', 'blocklist', 'rm', address);
    }
    expect(order.slice(0, 2)).toEqual(['shut out', 'io-error']);
    const next = await open();
    await next.status();
  });

  it('stands still under more operations than it takes at a time: nothing blocks, and all are done in the end', async () => {
    const volume = await owner(await open());
    const [large, small] = [pattern(1, 4 << 20), pattern(2, 512)];
    const operations = await whileStopped(shared.osdPids, async () => {
      const started = [
        ...Array.from({ length: 40 }, (_, index) => done((waiter) => volume.object(generation, index).create(0, large, waiter))),
        ...Array.from({ length: 1500 }, (_, index) => done((waiter) => volume.object(generation, 1000 + index).create(0, small, waiter))),
      ];
      // A call that blocked would block for ever, since nobody would let the OSD go on.
      await sleep(100);
      return { started };
    });
    await Promise.all(operations.started);
    expectBytes(await readOf(volume.object(generation, 39), 0, large.byteLength), large);
    expectBytes(await readOf(volume.object(generation, 2499), 0, small.byteLength), small);
  });
});

/** Lets the OSDs believe that they are full, by what counts as full, until every pool says so. */
async function setFull({ confFile }: CephCluster, full: boolean): Promise<void> {
  const ratios = { nearfull: full ? '0.0000001' : '0.85', backfillfull: full ? '0.0000002' : '0.9', full: full ? '0.000001' : '0.95' };
  // One after the other, never out of their order.
  const order = full ? (['nearfull', 'backfillfull', 'full'] as const) : (['full', 'backfillfull', 'nearfull'] as const);
  for (const each of order) await ceph(confFile, 'osd', `set-${each}-ratio`, ratios[each]);
  await eventually(
    `the pools are ${full ? '' : 'not '}full`,
    async () => /flags .*\bfull\b/.test(await ceph(confFile, 'osd', 'dump')) === full,
    60_000,
  );
}
