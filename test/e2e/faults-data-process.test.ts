/** A data process that dies under load: its control process replaces it, and nobody loses anything. */
import { expect } from 'vitest';
import { startCluster } from './support/cluster.ts';
import { stories } from './support/stories.ts';
import { eventually, sleep } from './support/wait.ts';
import { Writer } from './support/writer.ts';

const KILLS = 3;
/** The new process starts within a second or two; a busy machine takes longer. */
const LONG_MS = 20_000;

stories('a writer at another node sees the death of the owner as a pause, and other volumes see nothing', async () => {
  const cluster = await startCluster();
  await cluster.createVolume('struck', '32M', 'n1');
  await cluster.createVolume('spared', '32M', 'n2');
  const struck = await Writer.start({ uri: cluster.uri('struck', 'n3'), seed: 1, zeroes: true });
  const spared = await Writer.start({ uri: cluster.uri('spared', 'n2'), seed: 2, requestsPerSecond: 100 });
  // It follows its writer's first write.
  await struck.progress(20);
  await cluster.migrate('struck', 'n1');
  const { owner: spareOwner } = await cluster.info('spared');
  for (let kill = 0; kill < KILLS; kill++) {
    await Promise.all([struck.progress(150), spared.progress(50)]);
    const owner = (await cluster.owner('struck')) as string;
    if (owner === 'n3') {
      // It moved to its writer when its owner died. Back to where the writer is not.
      await cluster.migrate('struck', 'n1');
      continue;
    }
    const pid = await cluster.killData(owner);
    await Promise.all([struck.progress(50), spared.progress(50)]);
    await eventually('the data process is replaced', () => {
      const now = cluster.dataPid(owner);
      return now !== null && now !== pid;
    });
    // Its owner has not even lost its lease for a moment.
    expect((await cluster.info('spared')).owner).toEqual(spareOwner);
  }
  for (const writer of [struck, spared]) {
    await writer.pause();
    expect(writer.errors).toEqual([]);
    expect(writer.disconnects).toBe(0);
    expect(writer.longestRequestMs).toBeLessThan(LONG_MS);
  }
  // The volume goes on before the new process takes clients of its own.
  await eventually('every node serves', async () => (await cluster.status()).nodes.every(({ lease }) => lease));
  for (const node of cluster.names) {
    await struck.verify(cluster.uri('struck', node));
    await spared.verify(cluster.uri('spared', node));
  }
  await Promise.all([struck.stop(), spared.stop()]);
});

stories('a writer at the process that dies reconnects and finds all that was acknowledged', async () => {
  const cluster = await startCluster();
  await cluster.json('volume', 'create', 'disk', '--size', '32M', '--block-size', '256K');
  await cluster.migrate('disk', 'n1');
  const writer = await Writer.start({ uri: cluster.uri('disk', 'n1'), seed: 3, zeroes: true });
  for (let kill = 1; kill <= KILLS; kill++) {
    await writer.progress(150);
    await cluster.killData('n1');
    await eventually('the writer has noticed', () => writer.disconnects >= kill);
    await writer.progress(20);
  }
  await writer.pause();
  expect(writer.errors).toEqual([]);
  expect(writer.disconnects).toBe(KILLS);
  for (const node of cluster.names) await writer.verify(cluster.uri('disk', node));
  await writer.stop();
});

stories('a writer whose own data process only forwards reconnects, and no late write lands', async () => {
  const cluster = await startCluster();
  await cluster.createVolume('disk', '32M', 'n2');
  const [half, sequence] = [16 << 20, { next: 1 }];
  // A client that writes at the owner keeps the volume there, however often the other attaches anew.
  const keeper = await Writer.start({
    uri: cluster.uri('disk', 'n2'),
    seed: 5,
    sequence,
    region: { start: half, end: 2 * half },
    requestsPerSecond: 20,
  });
  await keeper.progress(5);
  const region = { start: 0, end: half };
  const writer = await Writer.start({ uri: cluster.uri('disk', 'n1'), seed: 4, sequence, region, queueDepth: 12, requestsPerSecond: 400 });
  for (let kill = 1; kill <= KILLS; kill++) {
    await writer.progress(150);
    await cluster.killData('n1');
    await eventually('the writer has noticed', () => writer.disconnects >= kill);
    await writer.progress(20);
  }
  // What was on its way to the owner when its sender died would land by now.
  await sleep(500);
  await Promise.all([writer.pause(), keeper.pause()]);
  for (const each of [writer, keeper]) expect(each.errors).toEqual([]);
  expect(keeper.disconnects).toBe(0);
  expect(await cluster.owner('disk')).toBe('n2');
  for (const node of cluster.names) for (const each of [writer, keeper]) await each.verify(cluster.uri('disk', node));
  await Promise.all([writer.stop(), keeper.stop()]);
});
