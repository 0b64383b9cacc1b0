/** A store without room: writes fail, nothing is damaged, and work goes on when there is room again. */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { requireTools } from '../support/tools.ts';
import { startCluster } from './support/cluster.ts';
import { run } from './support/processes.ts';
import { stories } from './support/stories.ts';
import { eventually } from './support/wait.ts';
import { Writer } from './support/writer.ts';

const STORE_BYTES = 48 << 20;
const FILLER_BYTES = 16 << 20;

// Only root may mount; for others the suite says so.
const suite = requireTools(process.getuid?.() === 0 ? ['mount', 'umount'] : ['the right to mount']);

suite('a full disk', () => {
  stories('writes fail, reads go on, and there is work again when there is room', async () => {
    let store = '';
    const cluster = await startCluster({
      async prepare(directory, atEnd) {
        store = join(directory, 'store');
        mkdirSync(store);
        await run('mount', ['-t', 'tmpfs', '-o', `size=${STORE_BYTES}`, 'tmpfs', store]);
        // Lazily: the kernel may still be busy with what the daemons had open.
        atEnd(() => spawnSync('umount', ['--lazy', store]));
      },
    });
    const filler = join(store, 'filler');
    fill(filler, FILLER_BYTES);
    await cluster.json('volume', 'create', 'disk', '--size', '256M', '--block-size', '256K');
    await cluster.migrate('disk', 'n1');
    // Small requests, so that there is room for some when there is none for others.
    const writer = await Writer.start({ uri: cluster.uri('disk', 'n2'), seed: 11, maxBytes: 128 << 10, requestsPerSecond: 400 });
    // Away from its writer, whose first write it follows.
    await writer.progress(20);
    await cluster.migrate('disk', 'n1');

    await eventually('the store is full', () => writer.errors.length >= 20, 120_000);
    await writer.pause();
    expect(new Set(writer.errors.map(({ code }) => code))).toEqual(new Set(['no-space']));
    expect(statfsSync(store).bavail * statfsSync(store).bsize).toBeLessThan(1 << 20);
    expect(writer.disconnects).toBe(0);
    await writer.verify(cluster.uri('disk', 'n1'));
    expect((await cluster.info('disk')).owner?.node).toBe('n1');

    rmSync(filler);
    const failed = writer.errors.length;
    writer.resume();
    await writer.progress(100);
    expect(writer.errors.length, 'there is room again').toBe(failed);

    // Full once more, to the last byte, and killed while it is. An owner needs a little room before it can begin.
    fill(filler, STORE_BYTES);
    await eventually('the store is full again', () => writer.errors.length >= failed + 20, 120_000);
    writer.expectTheEnd();
    await cluster.killAll();
    await cluster.up();
    rmSync(filler);
    await writer.verifyAndReattach(cluster.uri('disk', 'n3'));
    const failedTwice = writer.errors.length;
    writer.resume();
    await writer.progress(100);
    await writer.pause();
    expect(writer.errors.length, 'there is room again').toBe(failedTwice);
    await writer.verify(cluster.uri('disk', 'n1'));
    expect(await cluster.json('volume', 'check', 'disk')).toMatchObject({ ok: true });
    expect(new Set(writer.errors.map(({ code }) => code))).toEqual(new Set(['no-space']));
    await writer.stop();
  });
});

/** Takes room away, up to `bytes` or whatever there is. */
function fill(path: string, bytes: number): void {
  const piece = Buffer.alloc(64 << 10, 1);
  const file = openSync(path, 'a');
  try {
    for (let written = 0; written < bytes; ) written += writeSync(file, piece);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  } finally {
    closeSync(file);
  }
}
