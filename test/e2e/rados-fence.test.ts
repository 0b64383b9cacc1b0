/** What an owner that was stopped has under way in Ceph, in its own memory, in sockets and in a stopped OSD, does no harm after a takeover. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, expect } from 'vitest';
import { done, epochOf, expectBytes, owner, pattern, readOf, volumeId } from '../contract/store-support.ts';
import { requireTools } from '../support/tools.ts';
import { CEPH_TOOLS, endSharedCeph, sharedCeph, whileStopped } from './support/ceph.ts';
import { startCluster } from './support/cluster.ts';
import { atTestEnd } from './support/processes.ts';
import { newPlace, openAt, type Place } from './support/rados.ts';
import { FIRST, GENERATION, OBJECT_BYTES, OBJECTS, RECORD_BYTES, SECOND, type Told } from './support/rados-owner.ts';
import { stories } from './support/stories.ts';
import { eventually, sleep } from './support/wait.ts';
import { Writer } from './support/writer.ts';

const suite = requireTools(CEPH_TOOLS);

/** Long enough for what a process has submitted to reach as far as it gets. */
const SETTLE_MS = 500;

async function told(child: ChildProcess): Promise<Told> {
  const [message] = (await once(child, 'message')) as [Told];
  return message;
}

function startOwner(place: Place): ChildProcess {
  const child = fork(new URL('./support/rados-owner.ts', import.meta.url), [JSON.stringify(place)], { execArgv: [] });
  atTestEnd(() => child.kill('SIGKILL'));
  return child;
}

suite('a stopped owner', () => {
  afterAll(endSharedCeph);

  stories('has writes in a stopped OSD, in sockets and in its own memory: none of them changes what its successor has seen', async () => {
    const ceph = await sharedCeph();
    const place = newPlace(ceph);
    const stale = startOwner(place);
    expect(await told(stale)).toBe('made');
    const store = await openAt({ ...place, mustExist: true });
    atTestEnd(() => store.close());

    const takingOver = await whileStopped(ceph.osdPids, async () => {
      stale.send('go');
      expect(await told(stale)).toBe('submitted');
      await sleep(SETTLE_MS);
      stale.kill('SIGSTOP');
      const taking = store.takeOver(volumeId(1), epochOf(2), false);
      await sleep(SETTLE_MS);
      return { taking };
    });
    const { store: now, header, segments, from, quiet } = await takingOver.taking;
    expect([from, quiet]).toEqual([1, false]);

    // The successor looks at some objects, writes to others, and keeps its own log.
    const object = (index: number) => now.object(GENERATION, index);
    const seen = new Map<number, Uint8Array>();
    for (let index = OBJECTS - 1; index >= 0; index--) {
      const isGone = await done((waiter) => object(index).claim(waiter)).then(
        () => false,
        (error: { code: string }) => error.code === 'not-found',
      );
      expect(isGone && index !== 2, `object ${index} is there`).toBe(false);
      if (isGone) continue;
      if (index % 3 === 0) await done((waiter) => object(index).write(0, pattern(3, OBJECT_BYTES), waiter));
      const bytes = await readOf(object(index), 0, OBJECT_BYTES);
      if (index % 3 === 0) expectBytes(bytes, pattern(3, OBJECT_BYTES));
      else if (index > 2) expect([FIRST, SECOND].some((each) => Buffer.compare(each, bytes) === 0)).toBe(true);
      seen.set(index, bytes);
    }
    await now.writeHeader(pattern(3, RECORD_BYTES));
    await done((waiter) => now.appendJournal(9, 0, pattern(3, RECORD_BYTES), waiter));

    stale.kill('SIGCONT');
    const { ends } = (await told(stale)) as Exclude<Told, string>;
    expect(ends.filter((code) => code === 'stale-epoch').length, `what became of its changes: ${ends.join()}`).toBeGreaterThan(4);
    expect(ends.every((code) => code === null || code === 'stale-epoch')).toBe(true);

    for (const [index, bytes] of seen) expectBytes(await readOf(object(index), 0, OBJECT_BYTES), bytes);
    const next = await owner(store, 1, 3);
    const after = await store.takeOver(volumeId(1), epochOf(4), true);
    expect(next.epoch).toBe(3);
    expectBytes(after.header as Uint8Array, pattern(3, RECORD_BYTES));
    expect(after.segments).toEqual([...segments, { number: 9, bytes: pattern(3, RECORD_BYTES) }]);
    expect(header).not.toBeNull();
  });

  stories('is replaced while an OSD stands still, and when both go on no write of its guests is undone', async () => {
    const ceph = await sharedCeph();
    const cluster = await startCluster();
    await cluster.createVolume('disk', '64M');
    const writer = await Writer.start({ uri: cluster.uri('disk', 'n2'), seed: 1, queueDepth: 16, requestsPerSecond: 2000, zeroes: true });
    await writer.progress(20);
    await cluster.migrate('disk', 'n1');
    await writer.progress(200);
    await whileStopped(ceph.osdPids, async () => {
      await sleep(SETTLE_MS);
      cluster.signal('n1', 'SIGSTOP');
      // Not `volume info`, which asks the store.
      const owned = async () => (await cluster.status('n2')).nodes.find(({ name }) => name === 'n2')?.volumes;
      await eventually('another node is the owner', async () => (await owned()) === 1);
    });
    await writer.progress(200);
    cluster.signal('n1', 'SIGCONT');
    await eventually('all nodes have a lease', async () => (await cluster.status('n2')).nodes.every(({ lease }) => lease));
    await writer.progress(100);
    await writer.pause();
    expect(writer.errors).toEqual([]);
    for (const node of cluster.names) await writer.verify(cluster.uri('disk', node));
    await writer.stop();
  });
});
