/** Collection with real daemons: what it gives back, that it goes on when its node dies, and that writers notice nothing. */
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { requireTools } from '../support/tools.ts';
import { checksum, qemuIo } from './support/clients.ts';
import { type Cluster, shareCluster, startCluster } from './support/cluster.ts';
import { fioVerify } from './support/fio.ts';
import { eventually } from './support/wait.ts';

interface Status {
  readonly running: { readonly node: string; readonly freedObjects: number } | null;
  readonly freedBytes: number;
  readonly freedObjects: number;
}

const suite = requireTools(['fio', 'qemu-io']);

/** Objects and pages in the store, and what they take up. */
function stored(cluster: Cluster): { files: number; bytes: number } {
  let [files, bytes] = [0, 0];
  for (const folder of ['blocks', 'pages']) {
    const path = join(cluster.directory, 'store', folder);
    for (const entry of readdirSync(path, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      // It may be removed while we look.
      const status = statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false });
      files += status ? 1 : 0;
      bytes += (status?.blocks ?? 0) * 512;
    }
  }
  return { files, bytes };
}

suite('collection', () => {
  const cluster = shareCluster();
  const run = () => cluster().json<{ freedBytes: number; freedObjects: number }>('gc', 'run');
  const status = () => cluster().json<Status>('gc', 'status');

  it('gives back exactly what removed volumes, snapshots and clones had, and keeps the rest', async () => {
    await cluster().createVolume('kept', '32M', 'n1');
    await qemuIo(cluster().uri('kept', 'n1'), 'write -P 7 0 32M', 'flush');
    await cluster().json('volume', 'snapshot', 'kept', 'kept@1');
    await run();
    const [before, freedBefore] = [stored(cluster()), await status()];

    await cluster().createVolume('gone', '64M', 'n2');
    await qemuIo(cluster().uri('gone', 'n2'), 'write -P 1 0 64M', 'flush');
    await cluster().json('volume', 'snapshot', 'gone', 'gone@1');
    await cluster().json('volume', 'clone', 'gone@1', 'clone');
    await qemuIo(cluster().uri('clone', 'n3'), 'write -P 2 4M 9M', 'discard 20M 4M', 'flush');
    await cluster().json('volume', 'clone', 'kept@1', 'sibling');
    await qemuIo(cluster().uri('sibling', 'n2'), 'write -P 3 1M 1M', 'flush');
    // Bases live as long as a clone needs them.
    for (const name of ['gone', 'gone@1']) await cluster().json('volume', 'rm', name);
    await run();
    await qemuIo(cluster().uri('clone', 'n1'), 'read -P 1 0 4M', 'read -P 2 4M 9M', 'read -P 0 20M 4M', 'read -P 1 24M 40M');
    for (const name of ['clone', 'sibling']) await cluster().json('volume', 'rm', name);
    await run();
    expect(stored(cluster())).toEqual(before);
    // A cycle that follows a removal by itself may have been quicker than those that were asked for.
    const freed = await status();
    expect(freed.freedBytes - freedBefore.freedBytes).toBeGreaterThanOrEqual(64 * 1024 ** 2);
    expect(freed.freedObjects - freedBefore.freedObjects).toBeGreaterThan(10);
    for (const name of ['kept', 'kept@1']) await qemuIo(cluster().uri(name, 'n3'), 'read -P 7 0 32M');
    for (const name of ['kept', 'kept@1']) expect(await cluster().json('volume', 'check', name)).toMatchObject({ ok: true });
  });

  it('follows a removal by itself', async () => {
    await run();
    const before = stored(cluster());
    await cluster().createVolume('brief', '16M', 'n1');
    await qemuIo(cluster().uri('brief', 'n1'), 'write -P 1 0 16M', 'flush');
    await cluster().json('volume', 'rm', 'brief');
    await eventually('its space is back', () => stored(cluster()).files === before.files, 30_000);
    expect(stored(cluster())).toEqual(before);
  });

  it('goes on beside writers, whose snapshots come and go', async () => {
    await cluster().createVolume('busy', '64M', 'n1');
    const fio = fioVerify({ uri: cluster().uri('busy', 'n1'), seconds: 20, size: '48m' });
    await eventually('fio writes', async () => (await cluster().info('busy')).allocatedBytes > 8 * 1024 ** 2);
    await cluster().json('volume', 'snapshot', 'busy', 'busy@first');
    const sum = await checksum(cluster().uri('busy@first', 'n2'));
    for (let round = 0; round < 4; round++) {
      await cluster().json('volume', 'snapshot', 'busy', `busy@${round}`);
      const collected = run();
      await cluster().json('volume', 'rm', `busy@${round}`);
      await collected;
    }
    expect(await fio).toMatchObject({ status: 0, stderr: '' });
    expect(await checksum(cluster().uri('busy@first', 'n3'))).toBe(sum);
    for (const name of ['busy', 'busy@first']) expect(await cluster().json('volume', 'check', name)).toMatchObject({ ok: true, problems: [] });
    for (const name of ['busy', 'busy@first']) await cluster().json('volume', 'rm', name);
  });
});

suite('a node that dies while it collects', () => {
  it('is followed by another one, which frees the rest', async () => {
    const cluster = await startCluster();
    const before = stored(cluster);
    await cluster.json('volume', 'create', 'disk', '--size', '16M', '--block-size', '64K');
    await qemuIo(cluster.uri('disk', 'n1'), 'write -P 1 0 16M', 'flush');
    await cluster.down();
    for (const name of ['n1', 'n2', 'n3']) {
      const file = join(cluster.directory, name, 'node.toml');
      writeFileSync(file, `${readFileSync(file, 'utf8')}\n[gc]\nmaxOperationsPerSecond = 25\n`);
    }
    await cluster.up();
    await cluster.json('volume', 'rm', 'disk');
    const running = async () => (await cluster.json<Status>('gc', 'status')).running;
    await eventually('a node collects', async () => ((await running())?.freedObjects ?? 0) > 20, 60_000);
    const dead = (await running())?.node as string;
    await cluster.kill(dead);
    expect(stored(cluster).files).toBeGreaterThan(before.files);
    await eventually('another node has freed the rest', () => stored(cluster).files === before.files, 60_000);
    expect(stored(cluster)).toEqual(before);
    await cluster.start(dead);
  });
});
