/** NBD from within a benchmark's process: our client, against our daemons and qemu-nbd alike. */
import { randomBytes } from 'node:crypto';
import { NbdClient } from '../../src/gateway/nbd/client.ts';

export const BLOCK_BYTES = 4 << 20;
export const SUB_BLOCK_BYTES = 64 << 10;
export const DATA = randomBytes(SUB_BLOCK_BYTES);
const PARALLEL = 32;

export async function withNbd<Result>(uri: string, body: (client: NbdClient) => Promise<Result>): Promise<Result> {
  const client = await NbdClient.connect(uri);
  try {
    return await body(client);
  } finally {
    await client.close();
  }
}

/** Writes `length` bytes at each offset, many at a time, and flushes. */
export async function writeAll(client: NbdClient, offsets: readonly number[], length: number): Promise<void> {
  let at = 0;
  const worker = async () => {
    while (at < offsets.length) await client.write(offsets[at++] as number, DATA.subarray(0, length));
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
  await client.flush();
}

/** Milliseconds of each call, one after the other. */
export async function timed(count: number, call: (place: number) => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  for (let place = 0; place < count; place++) {
    const began = performance.now();
    await call(place);
    times.push(performance.now() - began);
  }
  return times;
}
