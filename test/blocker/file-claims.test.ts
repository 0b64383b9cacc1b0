/** How the file driver keeps a paused owner from doing harm: private copies, and the proof that a process is dead. */
import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Durability, systemDurability } from '../../src/blocker/file/durability.ts';
import { isDead, type OwnerProcess, parseOwner, thisProcess } from '../../src/blocker/file/owner-process.ts';
import type { FileStoreParts } from '../../src/blocker/file/parts.ts';
import { takeLogOver } from '../../src/blocker/file/takeover.ts';
import type { BlockStore, FileStoreOptions } from '../../src/blocker/index.ts';
import { done, epochOf, expectBytes, expectCode, generationOf, joined, owner, pattern, readOf, volumeId, zeros } from '../contract/store-support.ts';
import { ModelDisk } from './model-disk.ts';
import { freshDirectory, openFiles, removeDirectory } from './support.ts';

const generation = generationOf(7);
let directory: string;
let stores: BlockStore[];

beforeEach(() => {
  directory = freshDirectory();
  stores = [];
});
afterEach(async () => {
  await Promise.all(stores.map((store) => store.close()));
  removeDirectory(directory);
});

async function daemon(options: Partial<FileStoreOptions> = {}, at = directory): Promise<BlockStore> {
  const store = await openFiles(at, options);
  stores.push(store);
  return store;
}

const objectFile = () => `${directory}/blocks/0000000000000007/00000001`;
const logOf = (epoch: number) => `${directory}/volumes/0000000000000001/${epoch.toString(16).padStart(16, '0')}`;

/** Holds back the syncs of what a claim has copied. */
class PausedClaims implements Durability {
  readonly paused: Promise<void>;
  private tellPaused: () => void = () => undefined;
  resume: () => void = () => undefined;
  private readonly resumed: Promise<void>;

  constructor() {
    this.paused = new Promise((resolve) => (this.tellPaused = resolve));
    this.resumed = new Promise((resolve) => (this.resume = resolve));
  }

  async data(fd: number, path: string): Promise<void> {
    if (path.includes('/claims/')) {
      this.tellPaused();
      await this.resumed;
    }
    return systemDurability.data(fd, path);
  }

  directory = systemDurability.directory;
  fileSystem = systemDurability.fileSystem;
}

describe('a claim', () => {
  it('leaves the former file to those who have it open', async () => {
    const [old, now] = [await owner(await daemon(), 1, 1), await owner(await daemon(), 1, 2, false)];
    const handle = old.object(generation, 1);
    await done((waiter) => handle.create(0, pattern(1, 4096), waiter));
    const before = statSync(objectFile()).ino;
    await done((waiter) => now.object(generation, 1).claim(waiter));
    expect(statSync(objectFile()).ino).not.toBe(before);
    await done((waiter) => handle.write(0, pattern(2, 4096), waiter));
    expectBytes(readFileSync(objectFile()), pattern(1, 4096));
    expectBytes(await readOf(now.object(generation, 1), 0, 4096), pattern(1, 4096));
    expect(readdirSync(`${logOf(2)}/claims`)).toEqual([]);
    expect(existsSync(`${logOf(1)}/claims`)).toBe(false);
  });

  it('keeps holes', async () => {
    const [old, now] = [await owner(await daemon(), 1, 1), await owner(await daemon(), 1, 2, false)];
    await done((waiter) => old.object(generation, 1).create(3 << 20, pattern(1, 4096), waiter));
    await done((waiter) => now.object(generation, 1).claim(waiter));
    const { blocks, size } = statSync(objectFile());
    expect(blocks * 512).toBeLessThan(size / 4);
    expectBytes(await readOf(now.object(generation, 1), (3 << 20) - 512, 1024), joined(zeros(512), pattern(1, 512)));
  });

  it('copies only when what this owner has under way has ended', async () => {
    const now = await owner(await daemon());
    const handle = now.object(generation, 1);
    const size = 8 << 20;
    await done((waiter) => handle.create(0, pattern(9, 3 * size), waiter));
    for (let round = 1; round <= 3; round++) {
      const data = pattern(round, size);
      // From the end to the start, while a copy goes from the start to the end.
      const writing = [2, 1, 0].map((place) => done((waiter) => handle.write(place * size, data, waiter)));
      await Promise.all([...writing, done((waiter) => handle.claim(waiter))]);
      expectBytes(await readOf(handle, 0, 3 * size), joined(data, data, data));
    }
  });

  it('that was paused before its rename is in vain after a takeover, and leaves nothing', async () => {
    const durability = new PausedClaims();
    const [a, b, c] = [await daemon(), await daemon({ durability }), await daemon()];
    const first = await owner(a, 1, 1);
    await done((waiter) => first.object(generation, 1).create(0, pattern(1, 4096), waiter));
    const second = await owner(b, 1, 2, false);
    const claiming = expectCode(
      done((waiter) => second.object(generation, 1).claim(waiter)),
      'stale-epoch',
    );
    await durability.paused;
    expect(readdirSync(`${logOf(2)}/claims`)).toHaveLength(1);
    const third = await owner(c, 1, 3, false);
    await done((waiter) => third.object(generation, 1).claim(waiter));
    await done((waiter) => third.object(generation, 1).write(0, pattern(3, 512), waiter));
    durability.resume();
    await claiming;
    expectBytes(readFileSync(objectFile()), joined(pattern(3, 512), pattern(1, 4096).slice(512)));
    await expectCode(readOf(second.object(generation, 1), 0, 512), 'stale-epoch');
    expect(existsSync(`${logOf(2)}/claims`)).toBe(false);
  });

  it('that is still under way is in vain even after a takeover that was told of none', async () => {
    const durability = new PausedClaims();
    const [a, b, c] = [await daemon(), await daemon({ durability }), await daemon()];
    const first = await owner(a, 1, 1);
    await done((waiter) => first.object(generation, 1).create(0, pattern(1, 4096), waiter));
    const second = await owner(b, 1, 2, false);
    const claiming = expectCode(
      done((waiter) => second.object(generation, 1).claim(waiter)),
      'stale-epoch',
    );
    await durability.paused;
    const third = await owner(c, 1, 3, true);
    expect(existsSync(`${logOf(2)}/claims`)).toBe(false);
    await done((waiter) => third.object(generation, 1).write(0, pattern(3, 512), waiter));
    durability.resume();
    await claiming;
    expectBytes(readFileSync(objectFile()), joined(pattern(3, 512), pattern(1, 4096).slice(512)));
  });

  it('has a place until its drained owner has a successor whose log is durable', async () => {
    const [first, second] = [await owner(await daemon(), 1, 1), await owner(await daemon(), 1, 2, true)];
    expect(existsSync(`${logOf(1)}/claims`)).toBe(true);
    await second.sync();
    expect(existsSync(logOf(1))).toBe(false);
    await first.close();
  });

  it('that cannot be made durable leaves the object as it was, and can be repeated', async () => {
    let failures = 1;
    const durability: Durability = {
      ...systemDurability,
      data: (fd, path) =>
        path.includes('/claims/') && failures-- > 0
          ? Promise.reject(Object.assign(new Error('planted'), { code: 'EIO' }))
          : systemDurability.data(fd, path),
    };
    const [old, now] = [await owner(await daemon(), 1, 1), await owner(await daemon({ durability }), 1, 2, false)];
    await done((waiter) => old.object(generation, 1).create(0, pattern(1, 4096), waiter));
    const handle = now.object(generation, 1);
    await expectCode(
      done((waiter) => handle.claim(waiter)),
      'io-error',
    );
    expect(readdirSync(`${logOf(2)}/claims`)).toEqual([]);
    expectBytes(await readOf(handle, 0, 4096), pattern(1, 4096));
    await done((waiter) => handle.claim(waiter));
    expectBytes(await readOf(handle, 0, 4096), pattern(1, 4096));
  });

  it('tells the next owner of the entry that is not durable', async () => {
    const [old, now] = [await owner(await daemon(), 1, 1), await owner(await daemon(), 1, 2, false)];
    await done((waiter) => old.object(generation, 1).create(0, pattern(1, 4096), waiter));
    await done((waiter) => now.object(generation, 1).claim(waiter));
    expect(now.unsynced()).toEqual([{ generation, index: 1 }]);
    await now.sync();
    expect(now.unsynced()).toEqual([]);
  });

  it('keeps what was synced through a power failure, and after a sync nothing of the former file comes back', async () => {
    const tmpfs = freshDirectory('/dev/shm');
    const restored = freshDirectory();
    try {
      const disk = new ModelDisk(tmpfs);
      const [a, b] = [await daemon({ durability: disk }, tmpfs), await daemon({ durability: disk }, tmpfs)];
      const [old, now] = [await owner(a, 1, 1), await owner(b, 1, 2, false)];
      const handle = old.object(generation, 1);
      await done((waiter) => handle.create(0, pattern(1, 4096), waiter));
      await old.sync();
      await done((waiter) => now.object(generation, 1).claim(waiter));
      await done((waiter) => handle.write(0, pattern(9, 4096), waiter));
      disk.restore(`${restored}/1`);
      expectBytes(readFileSync(`${restored}/1/blocks/0000000000000007/00000001`), pattern(1, 4096));
      await done((waiter) => now.object(generation, 1).write(0, pattern(2, 512), waiter));
      await old.sync();
      await now.sync();
      disk.restore(`${restored}/2`);
      expectBytes(readFileSync(`${restored}/2/blocks/0000000000000007/00000001`), joined(pattern(2, 512), pattern(1, 4096).slice(512)));
    } finally {
      await Promise.all(stores.splice(0).map((store) => store.close()));
      removeDirectory(tmpfs);
      removeDirectory(restored);
    }
  });
});

describe('the process of an owner', () => {
  const us = thisProcess('boot');
  const they = (change: Partial<OwnerProcess>): OwnerProcess => ({ ...us, store: 'another', ...change });

  it.each([
    ['is this one', {}, false],
    ['ran before the host was started', { bootId: 'before' }, true],
    ['is of another pid namespace', { pidNamespace: 'pid:[1]', pid: 2 ** 22 + 1 }, false],
    ['has a pid that nobody has', { pid: 2 ** 22 + 1 }, true],
    ['has a pid that another process has got since', { startTime: '1' }, true],
    ['belongs to somebody else', { pid: 1, startTime: readFileSync('/proc/1/stat', 'latin1').split(') ')[1]?.split(' ')[19] ?? '' }, false],
  ])('%s', (_name, change, dead) => {
    expect(isDead(they(change), us)).toBe(dead);
  });

  it('is known from what is written of it, and from nothing else', () => {
    expect(parseOwner(JSON.stringify(us))).toEqual(us);
    for (const text of [null, '', '{', 'null', '[]', '{}', JSON.stringify({ ...us, pid: 'x' }), JSON.stringify({ ...us, pid: -1 })]) {
      expect(parseOwner(text)).toBeNull();
    }
  });

  it('is not dead as a zombie', async () => {
    const shell = spawn('sh', ['-c', 'sleep 0 & echo $!; exec sleep 60'], { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      const [line] = (await once(shell.stdout, 'data')) as [Buffer];
      const pid = Number(line.toString());
      const stat = () => readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
      while (stat()[0] !== 'Z') await new Promise((resolve) => setImmediate(resolve));
      expect(isDead(they({ pid, startTime: stat()[19] as string }), us)).toBe(false);
    } finally {
      shell.kill();
    }
  });

  it('counts as alive while it is paused', async () => {
    const child = fork(new URL('./other-process.ts', import.meta.url), [directory, 'cluster', 'work'], { stdio: 'inherit' });
    const exited = once(child, 'exit');
    await once(child, 'message');
    child.kill('SIGSTOP');
    const store = await daemon();
    expect((await store.takeOver(volumeId(1), epochOf(2), false)).quiet).toBe(false);
    child.kill('SIGKILL');
    await exited;
  });

  it('is dead if it was killed', async () => {
    const child = fork(new URL('./other-process.ts', import.meta.url), [directory, 'cluster', 'work'], { stdio: 'inherit' });
    const exited = once(child, 'exit');
    await once(child, 'message');
    child.kill('SIGKILL');
    await exited;
    expect((await (await daemon()).takeOver(volumeId(1), epochOf(2), false)).quiet).toBe(true);
  });
});

describe('a takeover', () => {
  it('tells of an owner whose log came into its place meanwhile', async () => {
    await owner(await daemon(), 1, 1);
    const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    const parts = { directory, bootId, durability: systemDurability, process: thisProcess(bootId) } as FileStoreParts;
    let looks = 0;
    const interrupted = {
      ...parts,
      // Asked for the log that is found, then for the one that is made.
      get bootId() {
        if (++looks === 2) takeLogOver(parts, volumeId(1), epochOf(2), true);
        return bootId;
      },
    };
    const { predecessor } = takeLogOver(interrupted, volumeId(1), epochOf(3), false);
    expect(predecessor).toEqual({ epoch: 2, process: null, isDead: false });
    expect(takeLogOver(parts, volumeId(1), epochOf(4), false).predecessor).toMatchObject({ epoch: 3, isDead: false });
  });
});
