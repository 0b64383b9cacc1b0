/** Stories of nodes that share volumes: forwarding, handover, takeover, and what goes wrong on the way. */
import { afterEach, expect, test } from 'vitest';
import { BLOCK_BYTES, type Node } from '../../chaos/sim/ownership/cluster.ts';
import { flush, read, write } from '../../chaos/sim/ownership/io.ts';
import { ArchipelagoError, type VolumeId } from '../../src/base/index.ts';
import { IO_WRITE, type IoKind, VolumeIo } from '../../src/volume/device.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { ATTACH, PREPARE } from '../../src/volume/wire.ts';
import { attach, cluster, handOver, ownedByA, startCluster, target, volumeId } from './ownership-support.ts';

afterEach(() => {
  expect(cluster.internalErrors).toEqual([]);
});

test('a node that is not the owner forwards', async () => {
  await ownedByA();
  const [a, b] = [await attach('a'), await attach('b')];
  await cluster.until(write(b, 0, 1));
  await cluster.until(write(a, 512, 2));
  expect(await cluster.until(read(a, 0))).toBe(1);
  expect(await cluster.until(read(b, 512))).toBe(2);
  await cluster.until(flush(b));
  await expect(cluster.until(write(b, 8 * BLOCK_BYTES - 512, 1, 1024))).rejects.toMatchObject({ code: 'invalid-argument' });
});

test('where there is data is told at every node, wherever the volume goes meanwhile', async () => {
  await ownedByA();
  const [a, b] = [await attach('a'), await attach('b')];
  await cluster.until(write(b, 2 * BLOCK_BYTES + 1024, 1, 1024));
  const expected = [
    { lengthBytes: 2 * BLOCK_BYTES + 1024, allocated: false },
    { lengthBytes: 1024, allocated: true },
    { lengthBytes: 6 * BLOCK_BYTES - 2048, allocated: false },
  ];
  for (const device of [a, b]) {
    expect(await cluster.until(device.extents(0, 8 * BLOCK_BYTES))).toEqual(expected);
    expect(await cluster.until(device.extents(0, 8 * BLOCK_BYTES, 2))).toEqual(expected.slice(0, 2));
  }
  // Asked while it moves, and while the link is away.
  const [asked, moved] = [b.extents(0, 8 * BLOCK_BYTES), handOver('a', 'c')];
  await cluster.until(moved);
  expect(await cluster.until(asked)).toEqual(expected);
  cluster.cut('b', 'c');
  const waiting = b.extents(0, 8 * BLOCK_BYTES);
  await cluster.turns(20, 2000);
  cluster.restore('b', 'c');
  expect(await cluster.until(waiting)).toEqual(expected);
  const late = a.extents(0, 8 * BLOCK_BYTES);
  cluster.cut('a', 'c');
  await cluster.until(handOver('c', 'b'));
  expect(await cluster.until(late)).toEqual(expected);
});

test('writers on two nodes lose nothing while the volume goes to and fro', async () => {
  await ownedByA();
  const devices = [await attach('a'), await attach('b'), await attach('c')];
  let stop = false;
  let writes = 0;
  const writers = devices.map(async (device, place) => {
    const offset = place * 3 * BLOCK_BYTES - (place > 0 ? 1024 : 0);
    for (let value = 1; !stop; value = (value % 250) + 1) {
      await write(device, offset, value, 4096);
      writes++;
      const found = await read(device, offset, 4096);
      if (found !== value) throw new Error(`${found} where ${value} was written`);
      if (value % 10 === 0) await flush(device);
    }
  });
  const nodes = ['a', 'b', 'c', 'a', 'c', 'b', 'a'];
  for (let i = 1; i < nodes.length; i++) {
    await cluster.turns(30);
    await cluster.until(handOver(nodes[i - 1] as string, nodes[i] as string));
    expect(cluster.record('v').owner?.node).toBe(nodes[i]);
  }
  stop = true;
  await cluster.until(Promise.all(writers));
  expect(writes).toBeGreaterThan(100);
});

test('a handover to a node that does not know the volume yet is refused, and the owner goes on', async () => {
  startCluster(['a', 'b']);
  cluster.node('b').behind = [];
  const { id } = cluster.create('v', 8);
  await cluster.until(cluster.node('a').volumes.own(id));
  const a = await attach('a');
  await expect(cluster.until(handOver('a', 'b'))).rejects.toMatchObject({ code: 'unavailable' });
  await cluster.until(write(a, 0, 7));
  expect(cluster.record('v').owner?.node).toBe('a');
});

test('the old owner forwards at once, also when the new one hears of the handover later', async () => {
  await ownedByA();
  const a = await attach('a');
  await cluster.until(write(a, 0, 1));
  const behind: (() => void)[] = [];
  cluster.node('b').behind = behind;
  void handOver('a', 'b');
  await cluster.turns(50);
  const io = write(a, 0, 2);
  await cluster.turns(20);
  expect(cluster.record('v').owner?.node).toBe('b');
  cluster.node('b').behind = null;
  for (const see of behind) see();
  // Time stands still: what is tried again after a pause would never come.
  await cluster.turns(50);
  await io;
  expect(cluster.link('a', 'b').sent.get(ATTACH)).toBe(1);
  expect(await cluster.until(read(a, 0))).toBe(2);
});

test('a handover waits for a link that comes up a little later', async () => {
  await ownedByA();
  const a = await attach('a');
  cluster.cut('a', 'b');
  const moved = handOver('a', 'b');
  await cluster.turns(30, 4000);
  await cluster.until(write(a, 0, 1));
  cluster.restore('a', 'b');
  await cluster.until(moved);
  expect(cluster.record('v').owner?.node).toBe('b');
  expect(await cluster.until(read(a, 0))).toBe(1);
});

test('a handover whose message was lost with the link was not made, and says so', async () => {
  await ownedByA();
  const a = await attach('a');
  cluster.link('a', 'b').slow = [];
  const moved = expect(handOver('a', 'b')).rejects.toMatchObject({ code: 'unavailable' });
  await cluster.turns(50);
  expect(cluster.link('a', 'b').sent.get(PREPARE)).toBe(1);
  cluster.cut('a', 'b');
  await cluster.until(moved);
  await cluster.until(write(a, 0, 1));
  expect(cluster.record('v').owner?.node).toBe('a');
});

test('the next owner is told of what becomes unsynced while it is told, and of nothing that an attempt before said', async () => {
  await ownedByA();
  const a = await attach('a');
  for (const block of [0, 1]) await cluster.until(write(a, block * BLOCK_BYTES, 1));
  const [there, back] = [cluster.link('a', 'b'), cluster.link('b', 'a')];
  there.slow = [];
  const first = handOver('a', 'b');
  await cluster.turns(50);
  back.slow = [];
  there.deliver();
  await cluster.turns(50, 5000);
  await expect(first).rejects.toMatchObject({ code: 'unavailable' });
  back.slow = null;
  const second = handOver('a', 'b');
  await cluster.turns(50);
  await cluster.until(write(a, 2 * BLOCK_BYTES, 1));
  for (let step = 0; step < 6; step++) {
    there.deliver();
    await cluster.turns(20, 100);
    if (step === 0) await cluster.until(write(a, 3 * BLOCK_BYTES, 1));
  }
  there.slow = null;
  await cluster.until(second);
  const inside = cluster.node('b').volumes as unknown as { volumeById(id: VolumeId): Volume };
  const { served } = inside.volumeById(volumeId());
  expect(new Set(served?.map.store.unsynced().map(({ index }) => index))).toEqual(new Set([2, 3]));
});

test('an owner whose sync has failed gives the volume up, and its next owner takes it over', async () => {
  await ownedByA();
  const [a, b] = [await attach('a'), await attach('b')];
  await cluster.until(write(a, 0, 1));
  await cluster.until(flush(a));
  await cluster.until(write(b, 512, 2));
  const inside = (name: string) => (cluster.node(name).volumes as unknown as { volumeById(id: VolumeId): Volume }).volumeById(volumeId());
  const failing = inside('a').served?.map;
  if (failing === undefined) throw new Error('a serves the volume');
  const generation = failing.naming;
  failing.store.sync = () => Promise.reject(new ArchipelagoError('io-error', 'the disk is gone'));
  const before = cluster.record('v');
  // Nobody can tell what is durable, so whoever asked is told, and nothing more is written here.
  await expect(cluster.until(flush(b))).rejects.toMatchObject({ code: 'io-error' });
  expect(failing.failed).toMatchObject({ code: 'io-error' });
  await cluster.until(write(b, 1024, 3));
  await cluster.until(write(a, 1536, 4));
  await cluster.until(flush(b));
  const { owner, epoch } = cluster.record('v');
  expect(epoch).toBe(before.epoch + 1);
  const next = inside(owner?.node ?? '').served?.map;
  expect(next).not.toBe(failing);
  expect(next?.naming).toBeGreaterThan(generation);
  for (const device of [a, b]) {
    for (const [offset, value] of [
      [0, 1],
      [512, 2],
      [1024, 3],
      [1536, 4],
    ] as const)
      expect(await cluster.until(read(device, offset))).toBe(value);
  }
  expect((await cluster.until(cluster.node(owner?.node ?? '').volumes.check(volumeId()))).problems).toEqual([]);
});

test('what is forwarded to an owner whose sync has failed waits for the next owner', async () => {
  await ownedByA();
  const b = await attach('b');
  await cluster.until(write(b, 0, 1));
  const a = cluster.node('a');
  const failing = (a.volumes as unknown as { volumeById(id: VolumeId): Volume }).volumeById(volumeId()).served?.map;
  if (failing === undefined) throw new Error('a serves the volume');
  failing.store.sync = () => Promise.reject(new ArchipelagoError('io-error', 'the disk is gone'));
  // The registry takes its time with what the owner says then.
  const held: (() => void)[] = [];
  a.heldProposals = held;
  await expect(cluster.until(flush(b))).rejects.toMatchObject({ code: 'io-error' });
  const later = Promise.all([write(b, BLOCK_BYTES, 2), flush(b), read(b, 0), b.extents(0, BLOCK_BYTES)]);
  later.catch(() => undefined); // looked at below
  await cluster.turns(100, 1000);
  expect(held).toHaveLength(1);
  for (const commit of held.splice(0)) commit();
  a.heldProposals = null;
  expect((await cluster.until(later))[2]).toBe(1);
  expect(await cluster.until(read(b, BLOCK_BYTES))).toBe(2);
});

test('I/O waits while the outcome of a handover is unknown, and goes on with it', async () => {
  await ownedByA();
  const [a, b] = [await attach('a'), await attach('b')];
  await cluster.until(write(a, 0, 1));
  const held: (() => void)[] = [];
  cluster.node('a').heldProposals = held;
  const moved = handOver('a', 'b');
  await cluster.turns(50, 5000);
  let answered = false;
  const io = write(a, 0, 2).then(() => {
    answered = true;
  });
  // Nor does the attach of a third node make the owner go round in circles.
  const c = cluster.node('c').volumes.attach('v');
  await cluster.turns(50, 5000);
  expect(answered).toBe(false);
  for (const commit of held.splice(0)) commit();
  cluster.node('a').heldProposals = null;
  await cluster.until(moved);
  await cluster.until(io);
  expect(await cluster.until(read(b, 0))).toBe(2);
  expect(await cluster.until(read(await cluster.until(c), 0))).toBe(2);
});

test('what was told for a handover that was refused does not count at the failover after it', async () => {
  await ownedByA();
  const [a, b] = [await attach('a'), await attach('b')];
  await cluster.until(write(a, 0, 1));
  const stale = { name: 'b', livenessEpoch: (target('b').livenessEpoch + 1) as Node['livenessEpoch'] };
  await expect(cluster.until(cluster.node('a').volumes.handOver(volumeId(), stale))).rejects.toMatchObject({ code: 'stale-epoch' });
  for (let block = 0; block < 8; block++) await cluster.until(write(a, block * BLOCK_BYTES, 2));
  await cluster.until(cluster.node('a').volumes.check(volumeId()));
  await cluster.until(write(a, 0, 3));
  await cluster.until(flush(a));
  cluster.kill('a');
  cluster.voidOwnerships('a');
  await cluster.until(write(b, BLOCK_BYTES, 4));
  const check = await cluster.until(cluster.node('b').volumes.check(volumeId()));
  expect(check.problems).toEqual([]);
  const names = [...cluster.disk.objects.keys()];
  expect(names.filter((name) => name.endsWith('/1')).length).toBeGreaterThan(0);
  expect(await cluster.until(read(b, 0))).toBe(3);
  expect(await cluster.until(read(b, BLOCK_BYTES))).toBe(4);
});

test('a first attempt never lands over the write that came after its retry', async () => {
  await ownedByA();
  const b = await attach('b');
  await cluster.until(write(b, 0, 1));
  const { store } = cluster.node('a');
  store.atOnce = 0;
  const first = write(b, 0, 2);
  // It reaches the owner's store and stays there.
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  expect(store.busy).toBe(true);
  cluster.cut('a', 'b');
  cluster.restore('a', 'b');
  const second = first.then(() => write(b, 0, 3));
  await cluster.until(second);
  await cluster.turns(100);
  expect(await cluster.until(read(b, 0))).toBe(3);
});

class KilledClientsWrite extends VolumeIo {
  override kind: IoKind = IO_WRITE;
  override length = 512;
  override data = new Uint8Array(512).fill(2);
  ended: ArchipelagoError | null | undefined;

  override done(error: ArchipelagoError | null): void {
    this.ended = error;
  }

  override isAbandoned(): boolean {
    return true;
  }
}

test('what a client has left behind is not begun once its guest may go on elsewhere', async () => {
  await ownedByA();
  const [a, b] = [await attach('a'), await attach('b')];
  await cluster.until(write(b, 0, 1));
  cluster.cut('a', 'b');
  const left = new KilledClientsWrite();
  b.submit(left);
  await cluster.turns(50, 1000);
  expect(left.ended).toBe(undefined);
  await cluster.until(write(a, 0, 3));
  cluster.restore('a', 'b');
  await cluster.turns(200, 5000);
  expect(left.ended).toMatchObject({ code: 'unavailable' });
  expect(await cluster.until(read(a, 0))).toBe(3);
  // It keeps nobody waiting, and its number none of those that follow.
  await cluster.until(write(b, 0, 4));
  expect(await cluster.until(read(a, 0))).toBe(4);
});

test('what a client has left behind is not sent either when it waits for room in an open session', async () => {
  await ownedByA();
  const b = await attach('b');
  Object.assign(cluster.link('b', 'a'), { maxRequests: 1 });
  const first = write(b, 0, 1);
  const left = new KilledClientsWrite();
  b.submit(left);
  await cluster.until(first);
  // Behind it, so its turn has come.
  expect(await cluster.until(read(b, 0))).toBe(1);
  expect(left.ended).toMatchObject({ code: 'unavailable' });
});

test('the death of the owner loses nothing acknowledged', async () => {
  await ownedByA();
  const b = await attach('b');
  for (let block = 0; block < 8; block++) await cluster.until(write(b, block * BLOCK_BYTES, 10 + block, 2048));
  const underWay = write(b, 0, 99, 2048);
  await cluster.turns(1);
  cluster.kill('a');
  await cluster.turns(20, 1000);
  cluster.voidOwnerships('a');
  await cluster.until(underWay);
  expect(cluster.record('v').owner?.node).toBe('b');
  expect(await cluster.until(read(b, 0, 2048))).toBe(99);
  for (let block = 1; block < 8; block++) expect(await cluster.until(read(b, block * BLOCK_BYTES, 2048))).toBe(10 + block);
});

test('an owner that loses lease and volume during a snapshot lets go of what it holds', async () => {
  await ownedByA();
  const [a] = [await attach('a'), await attach('b')];
  await cluster.until(write(a, 0, 1));
  const node = cluster.node('a');
  Object.assign(node.lease, { deadlineMs: 0 });
  const io = write(a, 0, 2);
  const snapshot = node.volumes.snapshot(volumeId(), 's').catch((error: { code: string }) => error.code);
  await cluster.turns(50);
  cluster.voidOwnerships('a');
  await cluster.until(cluster.node('b').volumes.own(volumeId()));
  await cluster.until(io);
  expect(await cluster.until(snapshot)).toBe('stale-epoch');
  expect(await cluster.until(read(a, 0))).toBe(2);
});

test('a snapshot is made of the volume that has the name, not of one that had it', async () => {
  await ownedByA();
  const { volumes } = cluster.node('a');
  const id = volumeId();
  cluster.apply({ type: 'rename', id, name: 'w' });
  await expect(cluster.until(volumes.snapshot(id, 's', 'v'))).rejects.toMatchObject({ code: 'stale-epoch' });
  // Collection would wait for it for ever.
  expect(cluster.record('w').reservation).toBeNull();
  expect((await cluster.until(volumes.snapshot(id, 's', 'w'))).name).toBe('s');
});

test('maintenance that loses the volume before its turn is refused', async () => {
  await ownedByA();
  const held: (() => void)[] = [];
  cluster.node('a').heldProposals = held;
  const snapshot = cluster
    .node('a')
    .volumes.snapshot(volumeId(), 's')
    .catch((error: { code: string }) => error.code);
  await cluster.turns(10);
  cluster.node('a').heldProposals = null;
  for (const commit of held.splice(0)) commit();
  cluster.voidOwnerships('a');
  cluster.node('a').store.atOnce = 1;
  expect(await cluster.until(snapshot)).toBe('stale-epoch');
});

test('what an old session gives back after the volume has come here is served here', async () => {
  await ownedByA();
  const b = await attach('b');
  await cluster.until(write(b, 0, 1));
  // The answer is on its way for long; meanwhile a is dead, and b does not notice.
  cluster.link('a', 'b').slow = [];
  const io = write(b, 0, 2);
  await cluster.turns(20);
  cluster.voidOwnerships('a');
  await cluster.until(cluster.node('b').volumes.own(volumeId()));
  const later = write(b, 512, 3);
  await cluster.until(later);
  cluster.cut('a', 'b');
  await cluster.until(io, 2000);
  expect(await cluster.until(read(b, 0))).toBe(2);
});

test('a node whose attach is refused asks again at a pace', async () => {
  await ownedByA();
  cluster.node('b').behind = [];
  cluster.apply({ type: 'release', id: volumeId(), epoch: cluster.record('v').epoch });
  await cluster.until(cluster.node('c').volumes.own(volumeId()));
  const link = cluster.link('b', 'a');
  const attached = cluster.node('b').volumes.attach('v');
  await cluster.turns(400, 2000);
  expect(link.sent.get(ATTACH) ?? 0).toBeGreaterThan(2);
  expect(link.sent.get(ATTACH) ?? 0).toBeLessThan(20);
  const seen = cluster.node('b').behind ?? [];
  cluster.node('b').behind = null;
  for (const see of seen) see();
  const device = await cluster.until(attached);
  await cluster.until(write(device, 0, 5));
});

test('shrunk space reads as zeros when it is grown again', async () => {
  await ownedByA();
  const [a, b] = [await attach('a'), await attach('b')];
  for (let block = 0; block < 8; block++) await cluster.until(write(b, block * BLOCK_BYTES, 9, BLOCK_BYTES));
  await cluster.until(cluster.node('a').volumes.snapshot(volumeId(), 's'));
  await cluster.until(write(b, 2 * BLOCK_BYTES, 8, 4096));
  const { volumes } = cluster.node('a');
  await expect(cluster.until(volumes.resize(volumeId(), 2 * BLOCK_BYTES + 3072, false))).rejects.toMatchObject({ code: 'conflict' });
  const pastEnd = write(b, 7 * BLOCK_BYTES, 1).catch((error: { code: string }) => error.code);
  await cluster.until(pastEnd);
  await cluster.until(volumes.resize(volumeId(), 2 * BLOCK_BYTES + 3072, true));
  await expect(cluster.until(write(b, 3 * BLOCK_BYTES, 1))).rejects.toMatchObject({ code: 'invalid-argument' });
  await cluster.until(volumes.resize(volumeId(), 8 * BLOCK_BYTES, false));
  for (const device of [a, b]) {
    expect(await cluster.until(read(device, BLOCK_BYTES, BLOCK_BYTES))).toBe(9);
    expect(await cluster.until(read(device, 2 * BLOCK_BYTES, 3072))).toBe(8);
    expect(await cluster.until(read(device, 2 * BLOCK_BYTES + 3072, BLOCK_BYTES - 3072))).toBe(0);
    expect(await cluster.until(read(device, 5 * BLOCK_BYTES, BLOCK_BYTES))).toBe(0);
  }
  const snapshot = await cluster.until(cluster.node('c').volumes.attach('s'));
  expect(await cluster.until(read(snapshot, 5 * BLOCK_BYTES, BLOCK_BYTES))).toBe(9);
});

test('shrunk space that could not be dropped is dropped when there is room, before anything is served', async () => {
  await ownedByA();
  const a = await attach('a');
  for (let block = 0; block < 8; block++) await cluster.until(write(a, block * BLOCK_BYTES, 9, 4096));
  const { volumes, store } = cluster.node('a');
  store.faults.noSpace = 1;
  await expect(cluster.until(volumes.resize(volumeId(), BLOCK_BYTES, true))).rejects.toMatchObject({ code: 'no-space' });
  expect(cluster.record('v').zeroFromBytes).toBe(BLOCK_BYTES);
  expect(await cluster.until(read(a, 0, 4096))).toBe(9);
  cluster.kill('a');
  cluster.voidOwnerships('a');
  cluster.node('b').store.faults.noSpace = 0.9;
  const attached = cluster.node('b').volumes.attach('v');
  await cluster.turns(200, 3000);
  cluster.node('b').store.faults.noSpace = 0;
  const b = await cluster.until(attached);
  expect(cluster.record('v').zeroFromBytes).toBe(null);
  await cluster.until(cluster.node('b').volumes.resize(volumeId(), 8 * BLOCK_BYTES, false));
  expect(await cluster.until(read(b, 0, 4096))).toBe(9);
  expect(await cluster.until(read(b, 4 * BLOCK_BYTES, BLOCK_BYTES))).toBe(0);
});

test('a volume is removed only when nobody is attached, and then fails what comes at once', async () => {
  await ownedByA();
  const b = await attach('b');
  const { volumes } = cluster.node('a');
  await expect(cluster.until(volumes.removeVolume(volumeId()))).rejects.toMatchObject({ code: 'in-use' });
  await cluster.until(write(b, 0, 1));
  await b.close();
  await cluster.turns(20);
  const a = await attach('a');
  const id = volumeId();
  await expect(cluster.until(volumes.removeVolume(id))).rejects.toMatchObject({ code: 'in-use' });
  await a.close();
  await cluster.until(volumes.removeVolume(id));
  expect(cluster.disk.logs.size).toBe(0);
  await expect(cluster.until(write(a, 0, 1))).rejects.toMatchObject({ code: 'not-found' });
});
