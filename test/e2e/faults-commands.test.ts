/** Commands while the leader dies, and what a clean stop keeps. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { startCluster, type VolumeInfo } from './support/cluster.ts';
import { contentAt, firstDifference } from './support/content.ts';
import { stories } from './support/stories.ts';
import { eventually } from './support/wait.ts';
import { Writer } from './support/writer.ts';

const DONE = 0;
const UNAVAILABLE = 5;

/** What the volumes have to be the same in, wherever and whenever they are listed. */
function lasting({ name, id, kind, size, blockSize, origin, createdAt, labels }: VolumeInfo) {
  return { name, id, kind, size, blockSize, origin, createdAt, labels };
}

stories('the leader dies during commands: each is done, or fails as unavailable, and what was done stays', async () => {
  const cluster = await startCluster();
  for (let round = 0; round < 2; round++) {
    const leader = (await cluster.status()).leader as string;
    const via = cluster.names.find((name) => name !== leader) as string;
    await cluster.createVolume(`disk-${round}`, '16M', via);
    const writer = await Writer.start({ uri: cluster.uri(`disk-${round}`, via), seed: round, maxBytes: 64 << 10, requestsPerSecond: 100 });
    await writer.progress(50);
    await cluster.json('volume', 'snapshot', `disk-${round}`, `base-${round}`);

    const names = Array.from({ length: 9 }, (_, place) => `made-${round}-${place}`);
    const commands = names.map((name, place) => {
      if (place % 3 === 0) return ['volume', 'create', name, '--size', '1M'];
      return place % 3 === 1 ? ['volume', 'clone', `base-${round}`, name] : ['volume', 'snapshot', `disk-${round}`, name];
    });
    // Those of the first half are under way when the leader dies, the others come while there is none.
    // Some of them wait for the leader's own answer, which never comes.
    const first = commands.slice(0, 5).map((command, place) => cluster.cli(command, { via: place < 3 ? via : leader }));
    await Promise.any(first);
    await cluster.kill(leader);
    const results = await Promise.all([...first, ...commands.slice(5).map((command) => cluster.cli(command, { via }))]);
    for (const [place, { status, stderr }] of results.entries())
      expect([DONE, UNAVAILABLE], `${commands[place]?.join(' ')}: ${stderr}`).toContain(status);

    await eventually('there is a leader again', async () => (await cluster.cli(['volume', 'ls'], { via })).status === DONE);
    await writer.progress(50);
    await cluster.up();
    for (const node of cluster.names) {
      const found = new Set((await cluster.jsonVia<VolumeInfo[]>(node, 'volume', 'ls')).map(({ name }) => name));
      for (const [place, { status }] of results.entries())
        if (status === DONE) expect(found, `${node} after ${commands[place]?.join(' ')}`).toContain(names[place]);
    }
    // What failed may have been done or not; it can be asked for again, and is then there once.
    for (const [place, { status }] of results.entries()) {
      if (status === DONE) continue;
      const again = await cluster.cli(commands[place] as string[]);
      expect(again.status === DONE || again.error?.code === 'exists', again.stderr).toBe(true);
    }
    const all = (await cluster.json<VolumeInfo[]>('volume', 'ls')).map(({ name }) => name);
    for (const name of names) expect(all.filter((each) => each === name)).toEqual([name]);
    await writer.pause();
    expect(writer.errors).toEqual([]);
    expect(writer.disconnects).toBe(0);
    await writer.verify();
    await writer.stop();
  }
});

stories('the data process dies during commands: each is done, or fails as unavailable, and what was done stays', async () => {
  const cluster = await startCluster();
  await cluster.createVolume('disk', '16M', 'n1');
  const writer = await Writer.start({ uri: cluster.uri('disk', 'n2'), seed: 31, maxBytes: 64 << 10, requestsPerSecond: 100 });
  for (let round = 0; round < 3; round++) {
    await writer.progress(30);
    // The writer's node has taken the volume over; the commands are for an owner that dies.
    await cluster.migrate('disk', 'n1');
    const names = Array.from({ length: 4 }, (_, place) => `snapshot-${round}-${place}`);
    const commands = names.map((name, place) => cluster.cli(['volume', 'snapshot', 'disk', name], { via: place % 2 === 0 ? 'n1' : 'n3' }));
    await Promise.any(commands);
    await cluster.killData('n1');
    const results = await Promise.all(commands);
    for (const { status, stderr } of results) expect([DONE, UNAVAILABLE], stderr).toContain(status);
    const found = (await cluster.json<VolumeInfo[]>('volume', 'ls')).map(({ name }) => name);
    for (const [place, { status }] of results.entries()) if (status === DONE) expect(found).toContain(names[place]);
  }
  await writer.pause();
  expect(writer.errors).toEqual([]);
  expect(writer.disconnects).toBe(0);
  await writer.verify();
  expect(await cluster.json('volume', 'check', 'disk')).toMatchObject({ ok: true });
  await writer.stop();
});

stories('down and up keep data, snapshots, clones, labels and names', async () => {
  const cluster = await startCluster();
  await cluster.createVolume('disk', '32M', 'n2');
  const writer = await Writer.start({ uri: cluster.uri('disk', 'n1'), seed: 21, zeroes: true });
  await writer.progress(150);
  await writer.pause();
  await cluster.json('volume', 'snapshot', 'disk', 'monday');
  const atSnapshot = writer.content.slice();
  writer.resume();
  await writer.progress(100);
  await writer.stop();
  await cluster.json('volume', 'clone', 'monday', 'copy', '--size', '48M');
  await cluster.json('volume', 'label', 'copy', 'team=storage', 'tier=2');
  await cluster.json('volume', 'rename', 'copy', 'copy of monday');
  await cluster.json('volume', 'resize', 'disk', '--size', '40M');
  const before = (await cluster.json<VolumeInfo[]>('volume', 'ls')).map(lasting);

  for (let round = 0; round < 2; round++) {
    const logs = cluster.names.map((name) => join(cluster.directory, name, 'node.log'));
    await cluster.down();
    // No step of the stop took so long that it was given up, nor was a volume left for recovery.
    for (const log of logs) expect(readFileSync(log, 'utf8')).not.toMatch(/given away|cut off|ended as it is/);
    await cluster.up();
    for (const node of cluster.names) {
      const listed = await cluster.jsonVia<VolumeInfo[]>(node, 'volume', 'ls');
      expect(listed.map(lasting)).toEqual(before);
      expect(
        listed.filter(({ owner }) => owner !== null),
        'nothing is owned after a clean stop',
      ).toEqual([]);
    }
    for (const node of cluster.names) {
      const snapshot = await contentAt(cluster.uri('monday', node));
      expect(firstDifference(snapshot, atSnapshot)).toBeNull();
      const disk = await contentAt(cluster.uri('disk', node));
      expect(firstDifference(disk.subarray(0, writer.content.length), writer.content)).toBeNull();
      expect(
        disk.subarray(writer.content.length).every((sequence) => sequence === 0),
        'what resize added reads as zeros',
      ).toBe(true);
      const copy = await contentAt(cluster.uri('copy of monday', node));
      expect(firstDifference(copy.subarray(0, atSnapshot.length), atSnapshot)).toBeNull();
    }
  }
});
