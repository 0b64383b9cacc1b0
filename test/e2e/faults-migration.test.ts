/** Volumes that move between nodes while clients write to them. */
import { expect } from 'vitest';
import { requireTools } from '../support/tools.ts';
import { type Cluster, startCluster } from './support/cluster.ts';
import { type FioResult, fioVerify } from './support/fio.ts';
import { stories } from './support/stories.ts';
import { sleep } from './support/wait.ts';
import { Writer } from './support/writer.ts';

const MIGRATIONS = 10;
const FIO_SECONDS = 15;

/** Moves a volume ten times along `nodes`, spread over the time that fio writes; resolves to what fio says. */
async function migrateUnderFio(cluster: Cluster, attachedTo: string, nodes: readonly string[]): Promise<FioResult> {
  const fio = fioVerify({ uri: cluster.uri('disk', attachedTo), seconds: FIO_SECONDS, rate: 150 });
  const epochs: number[] = [];
  for (let count = 0; count < MIGRATIONS; count++) {
    await sleep((FIO_SECONDS * 1000) / (MIGRATIONS + 10));
    const to = nodes[count % nodes.length] as string;
    const moved = await cluster.migrate('disk', to);
    expect(moved.to).toBe(to);
    expect(await cluster.owner('disk')).toBe(to);
    epochs.push(Number(moved.epoch));
  }
  expect(epochs, 'each migration was one change of owner').toEqual(epochs.map((_, count) => (epochs[0] as number) + count));
  return fio;
}

requireTools(['fio'])('migration under fio', () => {
  stories('fio verifies clean, attached to the first owner', async () => {
    const cluster = await startCluster();
    await cluster.createVolume('disk', '64M', 'n1');
    const fio = await migrateUnderFio(cluster, 'n1', ['n2', 'n3', 'n1']);
    expect(fio.stderr).toBe('');
    expect(fio.status).toBe(0);
    expect(fio.writes).toBeGreaterThan(200);
  });

  stories('fio verifies clean, attached to a node that does not own the volume in the end', async () => {
    const cluster = await startCluster();
    await cluster.createVolume('disk', '64M', 'n1');
    const fio = await migrateUnderFio(cluster, 'n3', ['n2', 'n1']);
    expect(fio.stderr).toBe('');
    expect(fio.status).toBe(0);
    expect(fio.writes).toBeGreaterThan(200);
  });
});

stories('writers at all three nodes see every migration as a pause', async () => {
  const cluster = await startCluster();
  const third = 8 << 20;
  const sequence = { next: 1 };
  await cluster.json('volume', 'create', 'disk', '--size', String(3 * third), '--block-size', '256K');
  await cluster.migrate('disk', 'n1');
  const writers = await Promise.all(
    cluster.names.map((node, place) => {
      const region = { start: place * third, end: (place + 1) * third };
      return Writer.start({ uri: cluster.uri('disk', node), seed: place + 1, sequence, region, requestsPerSecond: 80, zeroes: true });
    }),
  );
  for (const to of ['n2', 'n3', 'n1', 'n3', 'n2', 'n1']) {
    for (const writer of writers) await writer.progress(30);
    await cluster.migrate('disk', to);
  }
  for (const writer of writers) await writer.progress(30);
  for (const writer of writers) await writer.pause();
  for (const writer of writers) {
    expect(writer.errors).toEqual([]);
    expect(writer.disconnects).toBe(0);
    for (const node of cluster.names) await writer.verify(cluster.uri('disk', node));
    await writer.stop();
  }
});
