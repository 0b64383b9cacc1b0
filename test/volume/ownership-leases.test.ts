/** Stories of nodes that share volumes: leases that end, exclusive use, and locks that are broken. */
import { afterEach, expect, test } from 'vitest';
import { IO_TIMEOUT_MS } from '../../chaos/sim/ownership/cluster.ts';
import { flush, read, write } from '../../chaos/sim/ownership/io.ts';
import { attach, cluster, controlStandsStill, ownedByA, volumeId } from './ownership-support.ts';

afterEach(() => {
  expect(cluster.internalErrors).toEqual([]);
});

test('I/O that nobody can serve in time fails', async () => {
  await ownedByA();
  const b = await attach('b');
  cluster.kill('a');
  const io = write(b, 0, 1).then(
    () => 'done',
    () => 'failed',
  );
  await cluster.turns(20, IO_TIMEOUT_MS / 2);
  let answer = '';
  void io.then((what) => {
    answer = what;
  });
  await cluster.turns(5);
  expect(answer).toBe('');
  await cluster.turns(20, IO_TIMEOUT_MS);
  expect(await io).toBe('failed');
});

test('a frozen lease answers nothing until it is extended', async () => {
  await ownedByA();
  const a = await attach('a');
  await cluster.until(write(a, 0, 1));
  const { lease } = cluster.node('a');
  Object.assign(lease, { deadlineMs: 0 });
  let answered = false;
  const io = read(a, 0).then((value) => {
    answered = true;
    return value;
  });
  await cluster.turns(50);
  expect(answered).toBe(false);
  lease.extend(Number.POSITIVE_INFINITY);
  expect(await cluster.until(io)).toBe(1);
});

test('an expired owner answers nothing of what its store has done, and its clients go on at the next owner', async () => {
  await ownedByA();
  const [a, b] = [await attach('a'), await attach('b')];
  await cluster.until(write(a, 0, 1));
  const node = cluster.node('a');
  Object.assign(node.lease, { deadlineMs: 0 });
  let answers = 0;
  const [written, seen] = [write(a, 0, 2), read(a, 512)];
  for (const io of [written, seen]) void io.then(() => answers++);
  await cluster.turns(50);
  expect(answers).toBe(0);
  cluster.expire('a');
  await cluster.until(cluster.node('b').volumes.own(volumeId()));
  await cluster.until(written);
  expect(await cluster.until(seen)).toBe(0);
  expect(cluster.record('v').owner?.node).toBe('b');
  expect(await cluster.until(read(b, 0))).toBe(2);
  await cluster.until(write(b, 0, 3));
  expect(await cluster.until(read(a, 0))).toBe(3);
});

test('only clients of the node that has a volume open exclusively change it, wherever its owner is', async () => {
  await ownedByA();
  const [a, b, c] = [await attach('a'), await attach('b'), await attach('c')];
  const open = (name: string, shared = false) =>
    cluster.apply({ type: 'open', id: volumeId(), node: name, livenessEpoch: cluster.node(name).livenessEpoch, shared });
  open('b');
  await cluster.until(write(b, 0, 1));
  await expect(cluster.until(write(a, 0, 2))).rejects.toMatchObject({ code: 'read-only', message: expect.stringContaining('node b') });
  await expect(cluster.until(write(c, 0, 3))).rejects.toMatchObject({ code: 'read-only' });
  expect(await cluster.until(read(c, 0))).toBe(1);
  await cluster.until(flush(c));
  // A node that does not know of it yet is refused by the owner.
  open('b', true);
  cluster.node('c').behind = [];
  open('b');
  await expect(cluster.until(write(c, 0, 3))).rejects.toMatchObject({ code: 'read-only' });
  cluster.apply({ type: 'close', id: volumeId(), node: 'b' });
  await cluster.until(write(a, 0, 2));
  expect(await cluster.until(read(b, 0))).toBe(2);
});

test('the holder of a broken lock gives the volume up, and changes it no longer', async () => {
  await ownedByA();
  const [a, b] = [await attach('a'), await attach('b')];
  await cluster.until(write(a, 0, 1));
  cluster.apply({ type: 'lock', id: volumeId(), node: 'a', livenessEpoch: cluster.node('a').livenessEpoch });
  await expect(cluster.until(write(b, 0, 2))).rejects.toMatchObject({ code: 'read-only' });
  cluster.apply({ type: 'revoke', id: volumeId(), holder: 'a' });
  await cluster.until(write(b, 0, 2));
  await cluster.turns(100, 1000);
  expect(cluster.record('v')).toMatchObject({ revoked: false, clean: false, epoch: 2 });
  await expect(cluster.until(write(a, 0, 3))).rejects.toMatchObject({ code: 'read-only', message: expect.stringContaining('lock was broken') });
  expect(await cluster.until(read(a, 0))).toBe(2);
});

test('I/O that an expired owner holds is not waited for', async () => {
  await ownedByA();
  const b = await attach('b');
  await cluster.until(write(b, 0, 1));
  const a = controlStandsStill('a');
  const [first, second] = [write(b, 0, 2), write(b, 4096, 3)];
  await cluster.turns(50);
  cluster.expire('a');
  await cluster.until(Promise.all([first, second]), 2000);
  expect(cluster.record('v').owner?.node).toBe('b');
  await cluster.until(write(b, 0, 4));
  for (const see of a.behind.splice(0)) see();
  cluster.node('a').behind = null;
  await cluster.turns(50);
  expect(await cluster.until(read(b, 0))).toBe(4);
  expect(await cluster.until(read(b, 4096))).toBe(3);
});

test('an owner whose end was never told is not waited for', async () => {
  await ownedByA();
  const b = await attach('b');
  await cluster.until(write(b, 0, 1));
  controlStandsStill('a');
  const io = write(b, 0, 2);
  await cluster.turns(50);
  // b was behind by so much that it gets the whole registry at once, in which c is the owner already.
  const { volumes } = cluster.node('b');
  cluster.node('b').behind = [];
  cluster.expire('a');
  await cluster.until(cluster.node('c').volumes.own(volumeId()));
  cluster.node('b').behind = null;
  volumes.replaceAll([...cluster.registry.volumes()]);
  await cluster.until(io, 2000);
  expect(await cluster.until(read(b, 0))).toBe(2);
});
