/** `volume diff` against the bytes: everything that differs is in an extent, and extents stay near what was written. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { requireTools } from '../support/tools.ts';
import { qemuIo, temporaryDirectory } from './support/clients.ts';
import { shareCluster } from './support/cluster.ts';
import { run } from './support/processes.ts';

interface Extent {
  readonly offset: number;
  readonly length: number;
  readonly zero: boolean;
}

const MIB = 1024 ** 2;
const SIZE = 48 * MIB;
const PIECE = 4096;

const suite = requireTools(['nbdcopy', 'qemu-io']);

suite('volume diff', () => {
  const cluster = shareCluster();
  const uri = (name: string, node = 'n1') => cluster().uri(name, node);
  const diff = (from: string, to: string) => cluster().json<Extent[]>('volume', 'diff', from, to);
  const snapshot = (volume: string, name: string) => cluster().json('volume', 'snapshot', volume, name);
  const content = async (name: string): Promise<Buffer> => {
    const file = join(temporaryDirectory(), 'image');
    await run('nbdcopy', [uri(name, 'n2'), file]);
    return readFileSync(file);
  };

  /** Applying the extents to `from` gives `to`; outside of them, and of `near`, nothing is listed. */
  const expectExact = async (from: string, to: string, near: readonly (readonly [start: number, end: number])[]) => {
    const extents = await diff(from, to);
    const [older, newer] = await Promise.all([content(from), content(to)]);
    const patched = Buffer.alloc(newer.byteLength);
    older.copy(patched, 0, 0, newer.byteLength);
    let last = -1;
    for (const { offset, length, zero } of extents) {
      expect(offset).toBeGreaterThan(last);
      last = offset;
      expect(offset + length).toBeLessThanOrEqual(newer.byteLength);
      if (zero) patched.fill(0, offset, offset + length);
      else newer.copy(patched, offset, offset, offset + length);
      expect(near.some(([start, end]) => start <= offset && offset + length <= end)).toBe(true);
    }
    for (let at = 0; at < newer.byteLength; at += PIECE) {
      if (Buffer.compare(patched.subarray(at, at + PIECE), newer.subarray(at, at + PIECE)) !== 0)
        throw new Error(`it differs at ${at}, and no extent says so`);
    }
    return extents;
  };

  it('tells what changed between snapshots, and up to now', async () => {
    await cluster().createVolume('disk', String(SIZE), 'n1');
    await qemuIo(uri('disk'), 'write -P 1 0 30M', 'flush');
    await snapshot('disk', 'one');
    expect(await diff('one', 'one')).toEqual([]);
    expect(await diff('one', 'disk')).toEqual([]);
    await qemuIo(uri('disk'), 'write -P 2 1M 4k', 'write -P 3 9M 1M', 'write -z 20M 4M', 'write -P 4 40M 64k', 'flush');
    await snapshot('disk', 'two');
    const first = [
      [0, 4 * MIB],
      [8 * MIB, 12 * MIB],
      [20 * MIB, 24 * MIB],
      [40 * MIB, 44 * MIB],
    ] as const;
    expect(await expectExact('one', 'two', first)).toContainEqual({ offset: 20 * MIB, length: 4 * MIB, zero: true });
    // And back.
    expect(await expectExact('two', 'one', first)).toContainEqual({ offset: 40 * MIB, length: 4 * MIB, zero: true });
    await qemuIo(uri('disk', 'n3'), 'write -P 5 36M 1M', 'flush');
    expect(await diff('two', 'disk')).toEqual([{ offset: 36 * MIB, length: 4 * MIB, zero: false }]);
    await expectExact('one', 'disk', [...first, [36 * MIB, 44 * MIB]]);
  });

  it('compares what has nothing to do with one another, and sizes that differ', async () => {
    await cluster().createVolume('other', String(60 * MIB), 'n2');
    await qemuIo(uri('other', 'n2'), 'write -P 9 26M 10M', 'write -P 9 58M 1M', 'flush');
    await snapshot('other', 'other@1');
    const everywhere = [[0, 60 * MIB]] as const;
    const grown = await expectExact('one', 'other@1', everywhere);
    expect(grown.at(-1)).toMatchObject({ offset: 56 * MIB, zero: false });
    const cut = await expectExact('other@1', 'one', everywhere);
    expect(cut.every(({ offset, length }) => offset + length <= SIZE)).toBe(true);
  });

  it('says what cannot be compared', async () => {
    await cluster().json('volume', 'create', 'fine', '--size', '1M', '--block-size', '64K');
    const refused = async (from: string, to: string) => {
      const { status, stderr } = await cluster().cli(['volume', 'diff', from, to]);
      return [status, (JSON.parse(stderr) as { error: { code: string } }).error.code];
    };
    expect(await refused('one', 'fine')).toEqual([2, 'invalid-argument']);
    expect(await refused('disk', 'one')).toEqual([2, 'invalid-argument']);
    expect(await refused('nothing', 'one')).toEqual([3, 'not-found']);
    expect(await refused('one', 'nothing')).toEqual([3, 'not-found']);
  });
});
