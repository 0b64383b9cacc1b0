/** All volumes of a node that dies, each of them with a writer at another node. */
import { assert } from '../../src/base/index.ts';
import { volumePath } from '../../src/gateway/http/client.ts';
import { NbdClient } from '../../src/gateway/nbd/client.ts';
import type { BenchResult } from '../main.ts';
import { figure, note, percentile } from '../support/figures.ts';
import { DATA } from '../support/nbd.ts';
import { type BenchCluster, sleep } from '../support/processes.ts';

const SIZE = 64 << 20;
const PARALLEL = 4;
const REST_MS = 2000;
const LIMIT_MS = 10_000;

export async function measureMany(cluster: BenchCluster, count: number): Promise<BenchResult[]> {
  const [dying, staying] = [cluster.nodes[0]?.name as string, 1];
  const admin = cluster.admin(staying);
  const names = Array.from({ length: count }, (_, place) => `many-${place}`);
  const clients = new Map<string, NbdClient>();
  const left = [...names];
  const make = async (): Promise<void> => {
    for (let name = left.pop(); name !== undefined; name = left.pop()) {
      await admin.call('POST', '/v1/volumes', { name, size: SIZE });
      const client = await NbdClient.connect(cluster.uri(staying, name));
      clients.set(name, client);
      await client.write(0, DATA.subarray(0, 4096));
      // After the client's first write, which brings the volume to its node.
      await admin.call('POST', volumePath(name, 'migrate'), { to: dying });
      await client.write(0, DATA.subarray(0, 4096));
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, make));
  note(`${count} volumes are owned by ${dying}, each with a writer at ${cluster.nodes[staying]?.name}`);
  await sleep(REST_MS);
  const volumes = await admin.call<{ owner: { node: string } | null }[]>('GET', '/v1/volumes');
  assert(volumes.filter(({ owner }) => owner?.node === dying).length === count, 'the volumes are where the death will be');
  const began = performance.now();
  cluster.signal(dying, 'SIGKILL');
  const answers = await Promise.all(
    [...clients.values()].map(async (client) => {
      await client.write(4096, DATA.subarray(0, 4096));
      const writtenMs = performance.now() - began;
      await client.flush();
      return { writtenMs, flushedMs: performance.now() - began };
    }),
  );
  for (const client of clients.values()) await client.close();
  const waits = answers.map(({ writtenMs }) => writtenMs);
  const flushes = answers.map(({ flushedMs }) => flushedMs);
  return [
    figure(`first of ${count} volumes of a dead node writes again`, Math.min(...waits), null, 'ms', null),
    figure(`half of ${count} volumes of a dead node write again`, percentile(waits, 50), null, 'ms', null),
    figure(`all ${count} volumes of a dead node write again`, Math.max(...waits), null, 'ms', { of: 'ours', limit: LIMIT_MS }),
    figure(`all ${count} have flushed that`, Math.max(...flushes), null, 'ms', null),
  ];
}
