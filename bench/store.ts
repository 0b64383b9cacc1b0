/** The file driver beside bare `fs` calls that do the same, in alternating turns on the same file system; and the memory driver. */
import { closeSync, constants, fdatasyncSync, mkdirSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Clock, type Epoch, type Generation, Prng, type VolumeId } from '../src/base/index.ts';
import { type BlockStore, openFileStore, openMemoryStore, type StoreWaiter, type VolumeStore } from '../src/blocker/index.ts';
import type { BenchResult } from './main.ts';

export const summary = 'the file and memory stores beside bare fs calls: 4 KiB reads, writes and creates, sync, takeover';

const OBJECTS = 16;
const OBJECT_BYTES = 4 << 20;
const SIZE = 4096;
const TURNS = 10;

const clock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  setTimer: () => {
    throw new Error('no timers here');
  },
};

const generation = 1 as Generation;

/** Counts calls that were not done at once, so that a case that means to be synchronous can tell. */
class Waiter implements StoreWaiter {
  late = 0;
  private resolve: (() => void) | null = null;

  storeDone(error: Error | null): void {
    if (error !== null) throw error;
    this.resolve?.();
  }

  /** Waits where the call was not done at once. */
  async settled(atOnce: boolean): Promise<void> {
    if (atOnce) return;
    this.late++;
    await new Promise<void>((resolve) => {
      this.resolve = resolve;
    });
  }
}

type Work = (count: number) => Promise<void> | void;

/** Operations per second of both, from the middle one of the turns. */
async function compare(name: string, count: number, ours: Work, peer: Work): Promise<BenchResult> {
  const rates: [number[], number[]] = [[], []];
  for (let turn = 0; turn < TURNS; turn++) {
    for (const [side, work] of [ours, peer].entries()) {
      const began = performance.now();
      await work(count);
      rates[side as 0 | 1].push((count / (performance.now() - began)) * 1000);
    }
  }
  const [a, b] = rates.map((list) => list.sort((x, y) => x - y)[list.length >> 1] as number) as [number, number];
  process.stdout.write(`${name}: ours ${a.toFixed(0)}, bare ${b.toFixed(0)} ops/s\n`);
  return { case: name, ours: Math.round(a), peer: Math.round(b), ratio: Number((a / b).toFixed(3)), unit: 'ops/s' };
}

export async function run(args: readonly string[]): Promise<BenchResult[]> {
  const directory = mkdtempSync(join(args[0] ?? tmpdir(), 'archipelago-bench-'));
  const file = await openFileStore({ directory: join(directory, 'store'), clusterId: 'bench', clock });
  const memory = openMemoryStore();
  try {
    const bare = join(directory, 'bare');
    mkdirSync(bare);
    return [...(await transfers('file', file, bare)), ...(await transfers('memory', memory, bare)), ...(await logs(file, bare))];
  } finally {
    await file.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

async function transfers(kind: string, store: BlockStore, bare: string): Promise<BenchResult[]> {
  const { store: volume } = await store.takeOver(1 as VolumeId, 1 as Epoch, true);
  const waiter = new Waiter();
  const whole = new Uint8Array(OBJECT_BYTES).fill(1);
  const objects = Array.from({ length: OBJECTS }, (_, index) => volume.object(generation, index));
  for (const object of objects) await waiter.settled(object.create(0, whole, waiter));
  const fds = objects.map((_, index) => openSync(join(bare, `${kind}-${index}`), 'w+'));
  for (const fd of fds) writeSync(fd, whole);
  const buffer = new Uint8Array(SIZE).fill(2);
  const prng = new Prng(1);
  const places = Array.from({ length: 4096 }, () => ({ object: prng.below(OBJECTS), offset: prng.below(OBJECT_BYTES / SIZE) * SIZE }));
  const place = (i: number) => places[i & 4095] as { object: number; offset: number };
  const results = [
    await compare(
      `${kind} read 4K, cached`,
      20_000,
      async (count) => {
        for (let i = 0; i < count; i++) {
          const { object, offset } = place(i);
          if (!objects[object]!.read(offset, buffer, waiter)) await waiter.settled(false);
        }
      },
      (count) => {
        for (let i = 0; i < count; i++) readSync(fds[place(i).object]!, buffer, 0, SIZE, place(i).offset);
      },
    ),
    await compare(
      `${kind} write 4K`,
      10_000,
      async (count) => {
        for (let i = 0; i < count; i++) {
          const { object, offset } = place(i);
          if (!objects[object]!.write(offset, buffer, waiter)) await waiter.settled(false);
        }
      },
      (count) => {
        for (let i = 0; i < count; i++) writeSync(fds[place(i).object]!, buffer, 0, SIZE, place(i).offset);
      },
    ),
    await creates(kind, volume, bare, waiter, buffer),
  ];
  process.stdout.write(`${kind}: ${waiter.late} calls were not done at once\n`);
  for (const fd of fds) closeSync(fd);
  for (const object of objects) object.release();
  await volume.close();
  return results;
}

function creates(kind: string, volume: VolumeStore, bare: string, waiter: Waiter, buffer: Uint8Array): Promise<BenchResult> {
  let [index, peerIndex] = [OBJECTS, 0];
  return compare(
    `${kind} create with 4K`,
    200,
    async (count) => {
      for (let i = 0; i < count; i++) {
        const object = volume.object(generation, index++);
        if (!object.create(65_536, buffer, waiter)) await waiter.settled(false);
        object.release();
      }
    },
    (count) => {
      for (let i = 0; i < count; i++) {
        const fd = openSync(join(bare, `${kind}-new-${peerIndex++}`), constants.O_RDWR | constants.O_CREAT | constants.O_EXCL);
        writeSync(fd, buffer, 0, SIZE, 65_536);
        closeSync(fd);
      }
    },
  );
}

async function logs(store: BlockStore, bare: string): Promise<BenchResult[]> {
  const id = 2 as VolumeId;
  let epoch = 1;
  let { store: volume } = await store.takeOver(id, epoch as Epoch, true);
  const waiter = new Waiter();
  const record = new Uint8Array(128).fill(3);
  const fd = openSync(join(bare, 'journal'), 'w+');
  let [position, peerPosition] = [0, 0];
  const results = [
    await compare(
      'file journal append of 128 B',
      10_000,
      async (count) => {
        for (let i = 0; i < count; i++, position += 128) if (!volume.appendJournal(1, position, record, waiter)) await waiter.settled(false);
      },
      (count) => {
        for (let i = 0; i < count; i++, peerPosition += 128) writeSync(fd, record, 0, 128, peerPosition);
      },
    ),
    await compare(
      'file journal append and sync',
      20,
      async (count) => {
        for (let i = 0; i < count; i++, position += 128) {
          await waiter.settled(volume.appendJournal(1, position, record, waiter));
          await volume.syncJournal();
        }
      },
      (count) => {
        for (let i = 0; i < count; i++, peerPosition += 128) {
          writeSync(fd, record, 0, 128, peerPosition);
          fdatasyncSync(fd);
        }
      },
    ),
  ];
  closeSync(fd);
  await volume.writeHeader(new Uint8Array(4096).fill(4));
  await volume.appendJournal(2, 0, record, waiter);
  await volume.dropSegments(2);
  for (const clean of [true, false]) {
    const times: number[] = [];
    for (let i = 0; i < 15; i++) {
      // What goes on behind a takeover is not to disturb the next one.
      await volume.sync();
      await volume.close();
      const began = performance.now();
      ({ store: volume } = await store.takeOver(id, ++epoch as Epoch, clean));
      times.push(performance.now() - began);
    }
    const middle = times.sort((a, b) => a - b)[7] as number;
    results.push({ case: `file takeover, ${clean ? 'clean' : 'unclean'}`, ours: Number(middle.toFixed(2)), peer: null, ratio: null, unit: 'ms' });
  }
  return results;
}
