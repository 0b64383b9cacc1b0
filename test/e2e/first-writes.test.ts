/** Volumes follow the first write of a client, and stay where an administrator puts them. */
import { expect } from 'vitest';
import { qemuIo } from './support/clients.ts';
import { type Cluster, startCluster } from './support/cluster.ts';
import { stories } from './support/stories.ts';
import { eventually, sleep } from './support/wait.ts';
import { Writer } from './support/writer.ts';

/** For this long after a change of owner nothing moves by itself. */
const STAY_MS = 1000;
/** By now it would have moved. */
const settled = () => sleep(2 * STAY_MS);
const half = 8 << 20;

async function start(): Promise<Cluster> {
  const cluster = await startCluster();
  await cluster.createVolume('disk', '16M', 'n1');
  return cluster;
}

stories('a volume follows its first writer, no reader, and nobody else while that one writes', async () => {
  const cluster = await start();
  const sequence = { next: 1 };
  await settled();
  await qemuIo(cluster.uri('disk', 'n3'), 'read -P 0 0 16M', 'flush');
  await settled();
  expect(await cluster.owner('disk'), 'reads move nothing').toBe('n1');

  const first = await Writer.start({ uri: cluster.uri('disk', 'n2'), seed: 1, sequence, region: { start: 0, end: half }, requestsPerSecond: 100 });
  await eventually('it is where it is written', async () => (await cluster.owner('disk')) === 'n2');
  const { owner } = await cluster.info('disk');
  await settled();
  const second = await Writer.start({ uri: cluster.uri('disk', 'n3'), seed: 2, sequence, region: { start: half, end: 2 * half } });
  await second.progress(100);
  await settled();
  expect((await cluster.info('disk')).owner, 'two writers move it once').toEqual(owner);

  // By hand, and for good as far as these two are concerned.
  const { epoch } = await cluster.migrate('disk', 'n1');
  await Promise.all([first.progress(50), second.progress(50)]);
  await settled();
  expect((await cluster.info('disk')).owner).toEqual({ node: 'n1', epoch });
  const third = await Writer.attach({ uri: cluster.uri('disk', 'n2'), seed: 3 });
  await settled();
  expect(await cluster.owner('disk'), 'attached, and not writing').toBe('n1');
  await qemuIo(cluster.uri('disk', 'n1'), 'read 0 4k');
  await third.stop();

  for (const each of [first, second]) {
    await each.pause();
    expect(each.errors).toEqual([]);
    expect(each.disconnects).toBe(0);
    for (const node of cluster.names) await each.verify(cluster.uri('disk', node));
    await each.stop();
  }
  const anew = await Writer.start({ uri: cluster.uri('disk', 'n3'), seed: 4, content: first.content, sequence, region: { start: 0, end: half } });
  await eventually('it follows who attached since', async () => (await cluster.owner('disk')) === 'n3');
  await anew.stop();
});

stories('clients that come and go at two nodes move a volume once a second at most', async () => {
  const cluster = await start();
  const before = await cluster.info('disk');
  const startedMs = performance.now();
  for (let round = 0; round < 40; round++) {
    const node = round % 2 === 0 ? 'n2' : 'n3';
    await qemuIo(cluster.uri('disk', node), `write -P ${round + 1} ${round * 4}k 4k`, `read -P ${round + 1} ${round * 4}k 4k`);
  }
  const moves = Number((await cluster.info('disk')).owner?.epoch) - Number(before.owner?.epoch);
  expect(moves).toBeLessThanOrEqual((performance.now() - startedMs) / STAY_MS + 1);
  expect(moves).toBeGreaterThan(0);
  const reads = Array.from({ length: 40 }, (_, round) => `read -P ${round + 1} ${round * 4}k 4k`);
  for (const node of cluster.names) await qemuIo(cluster.uri('disk', node), ...reads);
});

stories('the node that has a volume open goes over to sharing it while it writes, and nothing fails or moves', async () => {
  const cluster = await start();
  const at = (node: string, ...args: string[]) => cluster.cli(['volume', ...args], { via: node });
  expect((await at('n1', 'open', 'disk')).status).toBe(0);
  const source = await Writer.start({ uri: cluster.uri('disk', 'n1'), seed: 1, queueDepth: 1 });
  await source.progress(20);
  const { owner } = await cluster.info('disk');
  source.resetTimes();
  for (let round = 0; round < 3; round++) {
    expect((await at('n1', 'open', 'disk', '--shared')).value).toMatchObject({ mode: 'shared' });
    await source.progress(20);
    // As the target of a live migration does, which attaches and reads before the guest is there.
    expect((await at('n2', 'open', 'disk', '--shared')).value).toMatchObject({ mode: 'shared', nodes: ['n1', 'n2'] });
    await qemuIo(cluster.uri('disk', 'n2'), 'read 0 64k');
    await source.progress(20);
    expect((await at('n2', 'close', 'disk')).status).toBe(0);
    expect((await at('n1', 'open', 'disk')).value).toMatchObject({ mode: 'exclusive', holder: 'n1' });
    await source.progress(20);
  }
  expect((await cluster.info('disk')).owner).toEqual(owner);
  await source.pause();
  expect(source.errors).toEqual([]);
  expect(source.disconnects).toBe(0);
  await source.verify(cluster.uri('disk', 'n3'));
  await source.stop();
});
