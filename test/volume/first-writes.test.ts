/** A volume follows the first write of a client, and nothing else. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BLOCK_BYTES, Cluster } from '../../chaos/sim/ownership/cluster.ts';
import { flush, read, write } from '../../chaos/sim/ownership/io.ts';
import { nextTurn } from '../../chaos/sim/turns.ts';
import type { Epoch } from '../../src/base/index.ts';
import type { Device } from '../../src/volume/device.ts';
import { MIN_STAY_MS, WritingClients } from '../../src/volume/first-writes.ts';

let cluster: Cluster;

beforeEach(async () => {
  cluster = new Cluster(['a', 'b', 'c']);
  const { id } = cluster.create('v', 8);
  await cluster.until(cluster.node('a').volumes.own(id));
});

afterEach(() => {
  expect(cluster.internalErrors).toEqual([]);
});

const volumeId = () => cluster.record('v').id;
const owner = () => cluster.record('v').owner?.node;
const attach = (node: string) => cluster.until(cluster.node(node).volumes.attach('v'));
/** Time for whatever is going to move. */
const pass = (ms = 3 * MIN_STAY_MS) => cluster.turns(200, ms);
const migrate = (from: string, to: string) => cluster.until(cluster.node(from).volumes.handOver(volumeId(), cluster.node(to)));
const hold = (type: 'open' | 'lock', node: string) => {
  const { livenessEpoch } = cluster.node(node);
  if (type === 'lock') cluster.apply({ type, id: volumeId(), node, livenessEpoch });
  else cluster.apply({ type, id: volumeId(), node, livenessEpoch, shared: false });
};
const store = (device: Device, value: number) => cluster.until(write(device, 0, value));

test('the first write of a client moves the volume to its node, after a second with the owner before', async () => {
  const b = await attach('b');
  await store(b, 1);
  expect(owner()).toBe('a');
  await pass(MIN_STAY_MS / 2);
  expect(owner()).toBe('a');
  await pass(MIN_STAY_MS);
  expect(owner()).toBe('b');
  expect(await cluster.until(read(b, 0))).toBe(1);
  // At once, if it has been there for long.
  await pass();
  await b.close();
  const c = await attach('c');
  await store(c, 2);
  await pass(MIN_STAY_MS / 10);
  expect(owner()).toBe('c');
});

test('reads and flushes move nothing', async () => {
  const b = await attach('b');
  await pass();
  await cluster.until(read(b, 0));
  await cluster.until(flush(b));
  await pass();
  expect(owner()).toBe('a');
});

test('a client that writes at the owner keeps the volume there; later writes of others do not move it when that one has gone', async () => {
  const [a, b] = [await attach('a'), await attach('b')];
  await pass();
  await store(a, 1);
  await store(b, 2);
  await pass();
  expect(owner()).toBe('a');
  await a.close();
  await store(b, 3);
  await pass();
  expect(owner()).toBe('a');
  // One that only reads does not keep it.
  const reader = await attach('a');
  await cluster.until(read(reader, 0));
  await b.close();
  await store(await attach('b'), 4);
  await pass();
  expect(owner()).toBe('b');
});

test('where it was migrated to, it stays until a client attaches anew', async () => {
  const [early, late] = [await attach('b'), await attach('b')];
  await store(early, 1);
  await pass();
  expect(owner()).toBe('b');
  await migrate('b', 'a');
  await pass();
  await store(early, 2);
  await store(late, 3);
  await pass();
  expect(owner()).toBe('a');
  await store(await attach('b'), 4);
  await pass();
  expect(owner()).toBe('b');
});

test('a migration to where it is calls off what a first write was going to bring about', async () => {
  const b = await attach('b');
  await store(b, 1);
  expect(await migrate('a', 'a')).toMatchObject({ pauseMs: 0 });
  await pass();
  expect(owner()).toBe('a');
});

test('a migration that comes first wins over a first write', async () => {
  const b = await attach('b');
  await pass();
  const held: (() => void)[] = [];
  cluster.node('a').heldProposals = held;
  const moved = cluster.node('a').volumes.handOver(volumeId(), cluster.node('c'));
  const written = write(b, 0, 1);
  await cluster.turns(50);
  cluster.node('a').heldProposals = null;
  for (const commit of held) commit();
  await cluster.until(moved);
  await cluster.until(written);
  await pass();
  expect(owner()).toBe('c');
});

test('a handover that has to wait its turn does not take back what was given up meanwhile', async () => {
  const b = await attach('b');
  await store(b, 1);
  const { volumes } = cluster.node('a');
  const held: (() => void)[] = [];
  cluster.node('a').heldProposals = held;
  const snapshot = volumes.snapshot(volumeId(), 's', 'v');
  await cluster.turns(50);
  const released = volumes.release(volumeId());
  await pass(2 * MIN_STAY_MS);
  cluster.node('b').behind = [];
  cluster.node('a').heldProposals = null;
  for (const commit of held) commit();
  await cluster.until(Promise.all([snapshot, released]));
  await pass();
  expect(cluster.record('v').owner).toBe(null);
  for (const see of cluster.node('b').behind?.splice(0) ?? []) see();
  cluster.node('b').behind = null;
  await store(b, 2);
  expect(owner()).toBe('b');
});

test('clients that come to write at two nodes in turn move it once a second at most', async () => {
  const { epoch } = cluster.record('v');
  const startedMs = cluster.host.clock.nowMs();
  for (let round = 0; round < 60; round++) {
    const device = await attach(round % 2 === 0 ? 'b' : 'c');
    await store(device, 1 + round);
    await pass(100);
    await device.close();
  }
  const seconds = (cluster.host.clock.nowMs() - startedMs) / 1000;
  const moves = cluster.record('v').epoch - epoch;
  expect(moves).toBeGreaterThan(2);
  expect(moves).toBeLessThanOrEqual(seconds * (1000 / MIN_STAY_MS));
});

test('two clients that write in turn move it once', async () => {
  const { epoch } = cluster.record('v');
  const devices = [await attach('b'), await attach('c')];
  for (let round = 0; round < 40; round++) {
    await store(devices[round % 2] as Device, 1 + round);
    await pass(200);
  }
  expect(cluster.record('v').epoch).toBe(epoch + 1);
  expect(owner()).toBe('b');
});

test('who has gone before the second was over, or has no right to write, gets nothing', async () => {
  const gone = await attach('b');
  await store(gone, 1);
  await gone.close();
  await pass();
  expect(owner()).toBe('a');
  // A write that is refused is no first write.
  const b = await attach('b');
  hold('open', 'a');
  await expect(store(b, 2)).rejects.toMatchObject({ code: 'read-only' });
  await pass();
  cluster.apply({ type: 'close', id: volumeId(), node: 'a' });
  await pass();
  expect(owner()).toBe('a');
  await store(b, 3);
  await pass(MIN_STAY_MS / 10);
  expect(owner()).toBe('b');
  await b.close();
  // Opened at another node while it waits for the end of the stay.
  const c = await attach('c');
  await store(c, 4);
  hold('open', 'b');
  await pass();
  expect(owner()).toBe('b');
  // The holder of a lock gets it as others do.
  cluster.apply({ type: 'close', id: volumeId(), node: 'b' });
  const again = await attach('c');
  hold('lock', 'c');
  await store(again, 5);
  await pass();
  expect(owner()).toBe('c');
});

test('an owner that dies before it has heard of a first write leaves it to the next one', async () => {
  await pass();
  const b = await attach('b');
  cluster.link('b', 'a').slow = [];
  const written = write(b, BLOCK_BYTES, 1);
  await cluster.turns(10);
  // C takes it over, because it is quicker.
  cluster.node('b').behind = [];
  cluster.kill('a');
  cluster.voidOwnerships('a');
  await cluster.until(cluster.node('c').volumes.own(volumeId()));
  for (const see of cluster.node('b').behind ?? []) see();
  cluster.node('b').behind = null;
  await cluster.until(written);
  expect(owner()).toBe('c');
  await pass();
  expect(owner()).toBe('b');
});

test('a handover that is refused leaves it where it is, and I/O goes on', async () => {
  await pass();
  const b = await attach('b');
  const { owner: before } = cluster.record('v');
  const { livenessEpoch } = cluster.node('b');
  // B lives, and has not heard that it counts as dead: nothing can be given to it.
  cluster.apply({ type: 'expireNode', node: 'b', livenessEpoch, term: 1 });
  await store(b, 1);
  await pass();
  await store(b, 2);
  expect(cluster.record('v').owner).toEqual(before);
  expect(await cluster.until(read(b, 0))).toBe(2);
});

test('the node that has a volume open goes over to sharing it without a pause, and back', async () => {
  const a = await attach('a');
  hold('open', 'a');
  await store(a, 1);
  let stop = false;
  let writes = 0;
  const writing = (async () => {
    for (; !stop; writes++) await write(a, 4096, 1 + (writes % 250));
  })();
  const { livenessEpoch } = cluster.node('a');
  const { epoch } = cluster.record('v');
  for (let round = 0; round < 10; round++) {
    const before = writes;
    // One turn, in which nothing but this happens.
    cluster.apply({ type: 'open', id: volumeId(), node: 'a', livenessEpoch, shared: round % 2 === 0 });
    await cluster.turns(4);
    expect(writes).toBeGreaterThan(before);
  }
  stop = true;
  await cluster.until(writing);
  expect(cluster.record('v')).toMatchObject({ epoch, hold: { mode: 'exclusive' } });
});

test('an owner that could not be asked is asked again, until the clients that write have gone', async () => {
  const asked: number[] = [];
  const deaf = {
    askForOwnership(attachedEpoch: Epoch): Promise<boolean> {
      asked.push(attachedEpoch);
      return Promise.resolve(asked.length === 3);
    },
  };
  const clients = new WritingClients();
  const tell = async () => {
    clients.tell(deaf);
    await nextTurn();
  };
  clients.began(7 as Epoch, true);
  await tell();
  clients.ended();
  await tell();
  expect(asked).toEqual([7]);
  clients.began(8 as Epoch, true);
  for (let time = 0; time < 3; time++) await tell();
  expect(asked).toEqual([7, 8, 8]);
});
