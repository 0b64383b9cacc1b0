/** The owner of a volume dies, pauses, or is cut off from the others: its clients elsewhere go on within seconds, and it does no harm when it is back. */
import { expect } from 'vitest';
import { tryQemuIo } from './support/clients.ts';
import { type Cluster, startCluster } from './support/cluster.ts';
import { stories } from './support/stories.ts';
import { eventually } from './support/wait.ts';
import { Writer } from './support/writer.ts';

/** Election, lease and takeover take less than five seconds; a busy machine takes longer. */
const FAILOVER_MS = 20_000;

/** A writer attached at n2, while n1 owns the volume. */
async function writerElsewhere(cluster: Cluster, seed: number): Promise<Writer> {
  await cluster.createVolume('disk', '16M');
  const writer = await Writer.start({ uri: cluster.uri('disk', 'n2'), seed, zeroes: true });
  await writer.progress(20);
  await cluster.migrate('disk', 'n1');
  await writer.progress(50);
  writer.resetTimes();
  return writer;
}

async function makeLeader(cluster: Cluster, wanted: string): Promise<void> {
  await cluster.json('cluster', 'transfer-leader', wanted);
  await eventually(`${wanted} leads`, async () => (await cluster.status()).leader === wanted);
}

/** Every node has a lease again. */
const allBack = (cluster: Cluster) =>
  eventually('all nodes have a lease', async () => (await cluster.status('n2')).nodes.every(({ lease }) => lease));

async function expectNothingLost(cluster: Cluster, writer: Writer): Promise<void> {
  await writer.progress(50);
  await writer.pause();
  expect(writer.errors).toEqual([]);
  expect(writer.disconnects).toBe(0);
  for (const node of cluster.names) await writer.verify(cluster.uri('disk', node));
  writer.resume();
}

stories('a killed owner is replaced within seconds, whether or not it led the cluster, and nothing is lost', async () => {
  const cluster = await startCluster();
  const writer = await writerElsewhere(cluster, 1);
  for (const lead of ['n3', 'n1']) {
    await makeLeader(cluster, lead);
    writer.resetTimes();
    await cluster.kill('n1');
    await writer.progress(50);
    expect(writer.longestRequestMs).toBeLessThan(FAILOVER_MS);
    expect((await cluster.info('disk', 'n2')).owner?.node).toBe('n2');
    await cluster.up();
    await expectNothingLost(cluster, writer);
    await cluster.migrate('disk', 'n1');
    await writer.progress(50);
  }
  await writer.stop();
});

stories('a node whose control process stands still is replaced, and so is one whose data process does', async () => {
  const cluster = await startCluster();
  const writer = await writerElsewhere(cluster, 2);
  for (const part of ['control', 'data'] as const) {
    const pid = part === 'control' ? cluster.node('n1').pid : (cluster.dataPid('n1') as number);
    writer.resetTimes();
    process.kill(pid, 'SIGSTOP');
    try {
      await eventually('another node is the owner', async () => (await cluster.info('disk', 'n2')).owner?.node === 'n2');
      await writer.progress(50);
      expect(writer.longestRequestMs).toBeLessThan(FAILOVER_MS);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await allBack(cluster);
    await expectNothingLost(cluster, writer);
    await cluster.migrate('disk', 'n1');
    await writer.progress(50);
  }
  await writer.stop();
});

stories('a paused owner answers nothing under what it has lost, and its own clients go on when it is back', async () => {
  const cluster = await startCluster();
  const writer = await writerElsewhere(cluster, 3);
  await writer.pause();
  const half = 8 << 20;
  const content = writer.content;
  const [here, elsewhere] = await Promise.all([
    Writer.start({ uri: cluster.uri('disk', 'n1'), seed: 4, content, region: { start: 0, end: half }, sequence: { next: 1_000_000 } }),
    Writer.start({ uri: cluster.uri('disk', 'n2'), seed: 5, content, region: { start: half, end: 2 * half }, sequence: { next: 2_000_000 } }),
  ]);
  await Promise.all([here.progress(50), elsewhere.progress(50)]);
  await cluster.migrate('disk', 'n1');
  await Promise.all([here.progress(50), elsewhere.progress(50)]);
  elsewhere.resetTimes();
  cluster.signal('n1', 'SIGSTOP');
  try {
    await eventually('another node is the owner', async () => (await cluster.info('disk', 'n2')).owner?.node === 'n2');
    await elsewhere.progress(50);
    expect(elsewhere.longestRequestMs).toBeLessThan(FAILOVER_MS);
  } finally {
    cluster.signal('n1', 'SIGCONT');
  }
  await Promise.all([here.progress(100), elsewhere.progress(50)]);
  expect((await cluster.info('disk', 'n2')).owner?.node, 'the node that was paused forwards').toBe('n2');
  for (const each of [here, elsewhere]) {
    await each.pause();
    expect(each.errors).toEqual([]);
    expect(each.disconnects).toBe(0);
  }
  for (const node of cluster.names) for (const each of [here, elsewhere]) await each.verify(cluster.uri('disk', node));
  await Promise.all([here.stop(), elsewhere.stop(), writer.stop()]);
});

stories('without a quorum I/O waits, and goes on with it', async () => {
  const cluster = await startCluster();
  const writer = await writerElsewhere(cluster, 6);
  await cluster.kill('n1', 'n3');
  await eventually('the node has no lease', async () => !(await cluster.status('n2')).nodes.find(({ name }) => name === 'n2')?.lease);
  const before = writer.acknowledged;
  await eventually('the writer waits', async () => {
    const now = writer.acknowledged;
    return now === before && now > 0;
  });
  await cluster.up();
  await expectNothingLost(cluster, writer);
  await writer.stop();
});

stories('open, close, lock and unlock keep nodes apart', async () => {
  const cluster = await startCluster();
  await cluster.createVolume('disk', '16M', 'n1');
  const at = async (node: string, ...args: string[]) => {
    const { value, status, error } = await cluster.cli(['volume', ...args], { via: node });
    return status === 0 ? (value as { mode: string | null }).mode : `${status} ${error?.code}`;
  };
  const writes = async (node: string) =>
    !/failed|error/i.test(Object.values(await tryQemuIo(cluster.uri('disk', node), 'write -P 7 0 4k')).join(' '));
  const reads = async (node: string) => !/failed|error/i.test(Object.values(await tryQemuIo(cluster.uri('disk', node), 'read 0 4k')).join(' '));

  // Ganeti's live migration from n1 to n2, without a moment at which the guest's node may not write.
  expect(await at('n1', 'open', 'disk')).toBe('exclusive');
  expect(await at('n1', 'open', 'disk')).toBe('exclusive');
  expect([await writes('n1'), await writes('n2'), await reads('n2')]).toEqual([true, false, true]);
  expect(await at('n2', 'close', 'disk')).toBe('4 conflict');
  expect(await at('n1', 'open', 'disk', '--shared')).toBe('shared');
  expect(await at('n2', 'open', 'disk', '--shared')).toBe('shared');
  expect([await writes('n1'), await writes('n2')]).toEqual([true, true]);
  expect(await at('n1', 'close', 'disk')).toBe('shared');
  expect(await at('n2', 'open', 'disk')).toBe('exclusive');
  expect([await writes('n1'), await writes('n2')]).toEqual([false, true]);
  expect(await at('n2', 'close', 'disk')).toBe(null);
  expect(await at('n2', 'close', 'disk')).toBe('4 conflict');

  // A lock, and how it is broken.
  await cluster.migrate('disk', 'n1');
  expect(await at('n1', 'lock', 'disk')).toBe('locked');
  expect(await at('n2', 'lock', 'disk')).toBe('4 in-use');
  expect(await at('n2', 'unlock', 'disk')).toBe('4 in-use');
  expect((await cluster.cli(['volume', 'migrate', 'disk', '--to', 'n2'])).error?.code).toBe('in-use');
  const holder = await Writer.start({ uri: cluster.uri('disk', 'n1'), seed: 7, queueDepth: 1 });
  await holder.progress(20);
  expect(await at('n2', 'unlock', 'disk', '--force')).toBe(null);
  await eventually('the old holder is refused', () => holder.errors.length > 0);
  expect(holder.errors[0]?.code).toBe('read-only');
  holder.expectTheEnd();
  expect([await writes('n1'), await writes('n2')]).toEqual([false, true]);
  expect(await at('n1', 'open', 'disk', '--shared')).toBe('shared');
  expect(await writes('n1')).toBe(true);

  // A holder that dies does not keep the others from going on.
  expect(await at('n1', 'open', 'disk')).toBe('exclusive');
  await cluster.kill('n1');
  await eventually('another node may have it', async () => (await at('n2', 'open', 'disk')) === 'exclusive');
  expect(await writes('n2')).toBe(true);
});
