/** Opening a directory as a store: what is refused, and several processes at once. */
import { type ChildProcess, fork } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { done, epochOf, expectBytes, expectCode, generationOf, owner, pattern, readOf, volumeId } from '../contract/store-support.ts';
import type { Report } from './other-process.ts';
import { freshDirectory, openFiles, removeDirectory } from './support.ts';

let directory: string;
let children: ChildProcess[];

beforeEach(() => {
  directory = freshDirectory();
  children = [];
});

afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  removeDirectory(directory);
});

/** Another process on the same directory; see there for what it does. */
function other(...args: string[]): ChildProcess {
  const child = fork(`${import.meta.dirname}/other-process.ts`, [directory, ...args], { execArgv: [] });
  children.push(child);
  return child;
}

function report(child: ChildProcess): Promise<Report> {
  return new Promise((resolve, reject) => {
    child.once('message', (message) => resolve(message as Report));
    child.once('exit', (code) => reject(new Error(`the other process ended with ${code}`)));
  });
}

describe('a directory', () => {
  it('of another cluster is refused, with a hint', async () => {
    await (await openFiles(directory)).close();
    await expect(openFiles(directory, { clusterId: 'another' })).rejects.toMatchObject({
      code: 'conflict',
      hint: expect.stringContaining('cluster'),
    });
    await (await openFiles(directory)).close();
  });

  it('in a newer format is refused, with a hint', async () => {
    await (await openFiles(directory)).close();
    const superblock = `${directory}/superblock`;
    writeFileSync(superblock, readFileSync(superblock, 'utf8').replace('"version":1', '"version":2'));
    await expect(openFiles(directory)).rejects.toMatchObject({ code: 'unsupported-version', hint: expect.stringContaining('newer') });
  });

  it('with a damaged superblock is refused', async () => {
    await (await openFiles(directory)).close();
    for (const text of ['', '{"format":"archipelago-st', '[]', 'null', '{"format":"other","version":1,"clusterId":"cluster"}']) {
      writeFileSync(`${directory}/superblock`, text);
      await expectCode(openFiles(directory), 'corrupt');
    }
  });

  it('that holds something else is refused and left alone', async () => {
    mkdirSync(`${directory}/letters`);
    await expectCode(openFiles(directory), 'conflict');
    expect(readdirSync(directory)).toEqual(['letters']);
  });

  it('that is missing is made', async () => {
    await (await openFiles(`${directory}/a/b`)).close();
    expect(readdirSync(`${directory}/a/b`).sort()).toEqual(['blocks', 'pages', 'superblock', 'volumes']);
  });

  it('that several processes make a store at once becomes one', async () => {
    const processes = [other('cluster', 'open'), other('cluster', 'open'), other('another', 'open')];
    const reports = await Promise.all(processes.map(report));
    const [ours, theirs] = [reports.slice(0, 2), reports.slice(2)].map((list) => list.map(({ error }) => error));
    // Whoever came first, its cluster has it, and nobody else.
    const clusterId = (JSON.parse(readFileSync(`${directory}/superblock`, 'utf8')) as { clusterId: string }).clusterId;
    expect([ours, theirs]).toEqual(clusterId === 'cluster' ? [[null, null], ['conflict']] : [['conflict', 'conflict'], [null]]);
    expect(readdirSync(directory).sort()).toEqual(['blocks', 'pages', 'superblock', 'volumes']);
  });

  it('keeps the remains of a takeover that did not end from the next', async () => {
    const store = await openFiles(directory);
    await (await owner(store, 1, 1)).writeHeader(pattern(1, 10));
    const remains = `${directory}/volumes/0000000000000001/0000000000000002.tmp`;
    mkdirSync(remains);
    writeFileSync(`${remains}/header`, 'half a head');
    writeFileSync(`${remains}/journal.00000009`, 'what is this');
    for (const epoch of [2, 3]) {
      const { header, segments, store: volume } = await store.takeOver(volumeId(1), epochOf(epoch), false);
      expectBytes(header as Uint8Array, pattern(1, 10));
      expect(segments).toEqual([]);
      await volume.sync();
    }
    await store.close();
    expect(readdirSync(`${directory}/volumes/0000000000000001`)).toEqual(['0000000000000003']);
  });
});

describe('a process that was the owner', () => {
  it('and was killed leaves all that it has answered', async () => {
    const child = other('cluster', 'work');
    const { answered } = await report(child);
    child.kill('SIGKILL');
    const store = await openFiles(directory);
    const { header, segments, store: volume } = await store.takeOver(volumeId(1), epochOf(2), false);
    expectBytes(header as Uint8Array, pattern(1, 100));
    expectBytes(segments[0]?.bytes.subarray(0, answered * 10) as Uint8Array, new Uint8Array(Buffer.alloc(answered * 10, pattern(2, 10))));
    for (let index = 0; index < answered; index++) expectBytes(await readOf(volume.object(generationOf(1), index), 0, 512), pattern(index, 512));
    await volume.sync();
    await store.close();
  });

  it('and was only paused changes nothing that the next one reads, and learns that it is stale', async () => {
    const child = other('cluster', 'work', 'on');
    await report(child);
    child.kill('SIGSTOP');
    const store = await openFiles(directory);
    const { segments, store: volume } = await store.takeOver(volumeId(1), epochOf(2), false);
    const number = segments.length + 10;
    await done((waiter) => volume.appendJournal(number, 0, pattern(5, 10), waiter));
    await volume.writeHeader(pattern(6, 100));
    // The logs of before are gone, so the other will find out at its next segment or header.
    await volume.sync();
    while (existsSync(`${directory}/volumes/0000000000000001/0000000000000001`)) await new Promise((resolve) => setImmediate(resolve));
    child.kill('SIGCONT');
    expect((await report(child)).error).toBe('stale-epoch');
    const next = await store.takeOver(volumeId(1), epochOf(3), true);
    expectBytes(next.header as Uint8Array, pattern(6, 100));
    expect(next.segments.map((segment) => segment.number)).toEqual([...segments.map((segment) => segment.number), number]);
    for (const [at, segment] of segments.entries()) expectBytes(next.segments[at]?.bytes as Uint8Array, segment.bytes);
    await store.close();
  });
});
