/** One node of three dies, pauses, or is stopped: the others go on, with its volumes, and nobody sees an error. */
import { expect } from 'vitest';
import { startCluster } from './support/cluster.ts';
import { stories } from './support/stories.ts';
import { eventually, sleep } from './support/wait.ts';
import { Writer } from './support/writer.ts';

const PAUSE_MS = 3_000;

stories('one node killed: the others go on, with its volumes as well, and it catches up', async () => {
  const cluster = await startCluster();
  await cluster.createVolume('dead', '32M', 'n1');
  await cluster.createVolume('alive', '32M', 'n2');
  const dead = await Writer.start({ uri: cluster.uri('dead', 'n2'), seed: 1, zeroes: true });
  const alive = await Writer.start({ uri: cluster.uri('alive', 'n3'), seed: 2, requestsPerSecond: 100 });
  await Promise.all([dead.progress(50), alive.progress(20)]);
  // Away from their writers, whose first writes they follow.
  await Promise.all([cluster.migrate('dead', 'n1'), cluster.migrate('alive', 'n2')]);
  await Promise.all([dead.progress(100), alive.progress(80)]);

  await cluster.kill('n1');
  // If it led, the others elect a leader first. Commands work without it, and so do volumes of the others.
  await eventually(
    'a volume can be created',
    async () => (await cluster.cli(['volume', 'create', 'new', '--size', '1M'], { via: 'n2' })).status === 0,
  );
  expect((await cluster.status('n3')).nodes.map(({ name, up }) => ({ name, up }))).toEqual([
    { name: 'n1', up: false },
    { name: 'n2', up: true },
    { name: 'n3', up: true },
  ]);
  await Promise.all([alive.progress(100), dead.progress(100)]);
  expect((await cluster.info('dead', 'n2')).owner?.node, 'the writer is there').toBe('n2');

  await cluster.up();
  await dead.progress(100);
  await Promise.all([dead.pause(), alive.pause()]);
  for (const writer of [dead, alive]) {
    expect(writer.errors).toEqual([]);
    expect(writer.disconnects).toBe(0);
  }
  const lists = await Promise.all(cluster.names.map((node) => cluster.jsonVia(node, 'volume', 'ls')));
  expect(lists[0]).toEqual(lists[1]);
  expect(lists[0]).toEqual(lists[2]);
  for (const node of cluster.names) {
    await dead.verify(cluster.uri('dead', node));
    await alive.verify(cluster.uri('alive', node));
  }
  await Promise.all([dead.stop(), alive.stop()]);
});

stories('a node stopped by SIGTERM gives its volumes away, and a writer at another node sees no error', async () => {
  const cluster = await startCluster();
  await cluster.createVolume('disk', '32M', 'n1');
  await cluster.createVolume('idle', '1M', 'n1');
  const writer = await Writer.start({ uri: cluster.uri('disk', 'n2'), seed: 3, zeroes: true });
  await writer.progress(20);
  await cluster.migrate('disk', 'n1');
  await writer.progress(150);
  writer.resetTimes();
  await cluster.terminate('n1');
  await writer.progress(100);
  expect(writer.errors).toEqual([]);
  expect(writer.disconnects).toBe(0);
  expect((await cluster.info('disk', 'n2')).owner?.node, 'the volume moved').toMatch(/^n[23]$/);
  expect((await cluster.info('idle', 'n2')).owner, 'a volume without clients belongs to nobody').toBeNull();
  expect(await cluster.migrate('idle', 'n3')).toMatchObject({ to: 'n3' });

  await cluster.up();
  await cluster.migrate('disk', 'n1');
  await writer.progress(50);
  await writer.pause();
  for (const node of cluster.names) await writer.verify(cluster.uri('disk', node));
  await writer.stop();
});

stories('a node stopped by SIGTERM with a writer of its own leaves a volume that another node serves at once', async () => {
  const cluster = await startCluster();
  await cluster.createVolume('disk', '32M', 'n1');
  const writer = await Writer.start({ uri: cluster.uri('disk', 'n1'), seed: 4, zeroes: true });
  await writer.progress(150);
  writer.expectTheEnd();
  await cluster.terminate('n1');
  await writer.verifyAndReattach(cluster.uri('disk', 'n2'));
  expect((await cluster.info('disk', 'n2')).owner?.node).toBe('n2');
  writer.resume();
  await writer.progress(50);
  await writer.stop();
  expect(writer.errors).toEqual([]);
});

stories('a node that is paused for longer than its lease makes I/O slow, and nothing else', async () => {
  const cluster = await startCluster();
  await cluster.createVolume('disk', '32M', 'n1');
  await cluster.createVolume('other', '32M', 'n2');
  const writer = await Writer.start({ uri: cluster.uri('disk', 'n2'), seed: 5, zeroes: true });
  const other = await Writer.start({ uri: cluster.uri('other', 'n3'), seed: 6, requestsPerSecond: 100 });
  await Promise.all([writer.progress(20), other.progress(20)]);
  await Promise.all([cluster.migrate('disk', 'n1'), cluster.migrate('other', 'n2')]);
  for (let round = 0; round < 2; round++) {
    await Promise.all([writer.progress(100), other.progress(50)]);
    cluster.signal('n1', 'SIGSTOP');
    try {
      await sleep(PAUSE_MS);
    } finally {
      cluster.signal('n1', 'SIGCONT');
    }
    await Promise.all([writer.progress(100), other.progress(50)]);
  }
  // Now one of those who forward, and one that a volume is about to move to.
  cluster.signal('n3', 'SIGSTOP');
  const migration = cluster.cli(['volume', 'migrate', 'disk', '--to', 'n3'], { via: 'n2' });
  await sleep(PAUSE_MS);
  cluster.signal('n3', 'SIGCONT');
  await writer.progress(50);
  // The node that it was to go to, or to come from, may have expired meanwhile.
  expect([0, 4, 5]).toContain((await migration).status);
  await Promise.all([writer.progress(100), other.progress(50)]);
  for (const each of [writer, other]) {
    await each.pause();
    expect(each.errors).toEqual([]);
    expect(each.disconnects).toBe(0);
  }
  for (const node of cluster.names) {
    await writer.verify(cluster.uri('disk', node));
    await other.verify(cluster.uri('other', node));
  }
  await Promise.all([writer.stop(), other.stop()]);
});
