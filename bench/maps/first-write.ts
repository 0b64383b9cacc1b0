/** The first write of 4 KiB to each of 256 blocks that a clone shares: how much reaches the store, and how long it takes. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { volumePath } from '../../src/gateway/http/client.ts';
import type { BenchResult } from '../main.ts';
import { figure, middlePair, note } from '../support/figures.ts';
import { BLOCK_BYTES, DATA, SUB_BLOCK_BYTES, timed, withNbd, writeAll } from '../support/nbd.ts';
import { type BenchCluster, median, run } from '../support/processes.ts';
import { withQcow2 } from '../support/qcow2.ts';
import { roomOf } from '../support/room.ts';

const BLOCKS = 256;
const TURNS = 5;
const SIZE = BLOCKS * BLOCK_BYTES;
/** Within the second sub-block of each block, which the origin has written whole. */
const OFFSETS = Array.from({ length: BLOCKS }, (_, index) => index * BLOCK_BYTES + SUB_BLOCK_BYTES);

export async function measureFirstWrites(directory: string, cluster: BenchCluster): Promise<BenchResult[]> {
  const admin = cluster.admin(0);
  await admin.call('POST', '/v1/volumes', { name: 'origin', size: SIZE });
  await withNbd(cluster.uri(0, 'origin'), (client) => writeAll(client, OFFSETS, SUB_BLOCK_BYTES));
  await admin.call('POST', volumePath('origin', 'snapshot'), { name: 'shared' });
  const base = join(directory, 'base.qcow2');
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', base, String(SIZE)]);
  await withQcow2(base, (client) => writeAll(client, OFFSETS, SUB_BLOCK_BYTES));

  /** Medians, a turn each. */
  const [shared, empty, peerShared, peerEmpty]: [number[], number[], number[], number[]] = [[], [], [], []];
  const [bytes, peerBytes]: [number[], number[]] = [[], []];
  for (let turn = 0; turn < TURNS; turn++) {
    const [clone, fresh] = [`clone ${turn}`, `fresh ${turn}`];
    await admin.call('POST', '/v1/snapshots/shared/clone', { name: clone });
    await admin.call('POST', '/v1/volumes', { name: fresh, size: SIZE });
    const before = roomOf(join(cluster.directory, 'store/blocks'));
    shared.push(median(await firstWrites(cluster.uri(0, clone))));
    bytes.push(roomOf(join(cluster.directory, 'store/blocks')) - before);
    empty.push(median(await firstWrites(cluster.uri(0, fresh))));

    const [overlay, image] = [join(directory, `overlay-${turn}.qcow2`), join(directory, `image-${turn}.qcow2`)];
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', overlay]);
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', image, String(SIZE)]);
    const beforePeer = statSync(overlay).blocks * 512;
    peerShared.push(median(await withQcow2(overlay, (client, uri) => firstWrites(uri, client))));
    peerBytes.push(statSync(overlay).blocks * 512 - beforePeer);
    peerEmpty.push(median(await withQcow2(image, (client, uri) => firstWrites(uri, client))));
  }
  note(
    'First writes of 4 KiB to 256 blocks of a clone; bytes are what the store’s block files take more afterwards; peer: qcow2 with a backing file',
  );
  const written = BLOCKS * 4096;
  const beside = (name: string, ours: readonly number[], peer: readonly number[], bar: Parameters<typeof figure>[4]) => {
    const pair = middlePair(ours.map((each, turn) => ({ ours: each, peer: peer[turn] as number })));
    return figure(name, pair.ours, pair.peer, 'ms', bar);
  };
  return [
    figure('first write to a clone, bytes stored for each written', median(bytes) / written, median(peerBytes) / written, '×', {
      of: 'ours',
      limit: 17,
    }),
    beside('first write to a clone, p50 beside qcow2', shared, peerShared, null),
    beside('first write to an empty volume, p50 beside qcow2', empty, peerEmpty, null),
    beside('first write to a clone, p50 beside an empty volume', shared, empty, { of: 'ratio', limit: 2 }),
    beside('the same of qcow2, with and without a backing file', peerShared, peerEmpty, null),
  ];
}

async function firstWrites(uri: string, open?: Parameters<Parameters<typeof withNbd>[1]>[0]): Promise<number[]> {
  const measure: Parameters<typeof withNbd<number[]>>[1] = async (client) => {
    const times = await timed(BLOCKS, (place) => client.write((OFFSETS[place] as number) + 8192, DATA.subarray(0, 4096)));
    await client.flush();
    return times;
  };
  return open ? measure(open) : withNbd(uri, measure);
}
