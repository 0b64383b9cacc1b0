/** A file system that runs full, and gets room again. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { done, epochOf, expectBytes, expectCode, generationOf, owner, pattern, readOf, volumeId } from '../contract/store-support.ts';
import { requireTools } from '../support/tools.ts';
import { freshDirectory, openFiles, removeDirectory } from './support.ts';

const MIB = 1024 * 1024;
const generation = generationOf(1);

// Only root may mount; for others the suite says so.
const suite = requireTools(process.getuid?.() === 0 ? ['mount', 'umount'] : ['the right to mount']);

suite('a full file system', () => {
  it('is no-space for what needs room, and nothing else; all goes on once there is room', async () => {
    const directory = freshDirectory();
    expect(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'archipelago-test', directory]).status).toBe(0);
    try {
      const [path, ballast] = [`${directory}/store`, `${directory}/ballast`];
      mkdirSync(path);
      const store = await openFiles(path);
      const volume = await owner(store);
      const object = volume.object(generation, 1);
      await done((waiter) => object.create(0, pattern(1, 4096), waiter));
      await volume.writeHeader(pattern(1, 100));
      await done((waiter) => volume.appendJournal(1, 0, pattern(1, 4000), waiter));
      await volume.sync();
      writeFileSync(ballast, Buffer.alloc(3 * MIB + 700 * 1024));
      // Until nothing is left: large writes go through the pool, small ones are synchronous.
      await expectCode(
        done((waiter) => object.write(MIB, pattern(2, MIB), waiter)),
        'no-space',
      );
      await expectCode(
        fill((at) => done((waiter) => object.write(2 * MIB + at * 4096, pattern(2, 4096), waiter))),
        'no-space',
      );
      await expectCode(
        done((waiter) => volume.object(generation, 2).create(0, pattern(1, 4096), waiter)),
        'no-space',
      );
      await expectCode(volume.writePage(generation, 1, pattern(1, 4096)), 'no-space');
      await expectCode(volume.writeHeader(pattern(2, 4096)), 'no-space');
      // This one begins in the page that is there, and is cut short.
      await expectCode(
        done((waiter) => volume.appendJournal(1, 4000, pattern(9, 8000), waiter)),
        'no-space',
      );
      await expectCode(
        done((waiter) => volume.appendJournal(1, 4000, pattern(9, 100_000), waiter)),
        'no-space',
      );
      await done((waiter) => object.write(0, pattern(3, 4096), waiter));
      expectBytes(await readOf(object, 0, 4096), pattern(3, 4096));
      expect((await store.status()).availableBytes).toBeLessThan(8192);

      rmSync(ballast);
      expect((await store.status()).availableBytes).toBeGreaterThan(3 * MIB);
      await done((waiter) => volume.appendJournal(1, 4000, pattern(4, 10), waiter));
      await done((waiter) => object.write(MIB, pattern(5, MIB), waiter));
      await done((waiter) => volume.object(generation, 2).remove(waiter));
      await done((waiter) => volume.object(generation, 2).create(0, pattern(6, 4096), waiter));
      await volume.writePage(generation, 1, pattern(1, 4096));
      await volume.sync();
      const { header, segments, store: next } = await store.takeOver(volumeId(1), epochOf(2), true);
      expectBytes(header as Uint8Array, pattern(1, 100));
      // Nothing of the records that were cut short, or the log would end in rubbish that looks like records.
      expectBytes(segments[0]?.bytes as Uint8Array, new Uint8Array(Buffer.concat([pattern(1, 4000), pattern(4, 10)])));
      expectBytes(await readOf(next.object(generation, 1), MIB, MIB), pattern(5, MIB));
      await next.writeHeader(pattern(7, 100));
      await store.close();
    } finally {
      expect(spawnSync('umount', ['-l', directory]).status).toBe(0);
      removeDirectory(directory);
    }
  });
});

/** Does it until it fails. */
async function fill(step: (at: number) => Promise<void>): Promise<void> {
  for (let at = 0; at < 10_000; at++) await step(at);
}
