/**
 * Random requests of all kinds and sizes, many in flight, against a twin in plain memory: over a device that answers at once, one that
 * answers late and in any order, with what the client sends cut into odd pieces, and for a socket that only has events.
 */
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Prng, silentLog } from '../../../src/base/index.ts';
import { listen } from '../../../src/gateway/nbd/adopt.ts';
import { BufferPool } from '../../../src/gateway/nbd/buffers.ts';
import { NbdClient } from '../../../src/gateway/nbd/client.ts';
import { Connection } from '../../../src/gateway/nbd/connection.ts';
import { RamDirectory, RamVolume } from './ram-device.ts';
import { choppingRelay, noise, scratchDirectory, serve } from './support.ts';

const SLOTS = 24;
/** Not a multiple of anything. */
const SLOT_BYTES = 300_007;
const SIZE = SLOTS * SLOT_BYTES;
/** Bytes that payloads are cut from. */
const NOISE = noise(2 * SLOT_BYTES, 99);

/** Carries out I/O in batches and in any order. */
function shuffledSchedule(prng: Prng): (run: () => void) => void {
  const waiting: (() => void)[] = [];
  let isDue = false;
  const runSome = (): void => {
    for (let i = prng.below(6); i >= 0 && waiting.length > 0; i--) {
      const [run] = waiting.splice(prng.below(waiting.length), 1);
      run?.();
    }
    isDue = waiting.length > 0;
    if (isDue) setImmediate(runSome);
  };
  return (run) => {
    // Now and then at once, so that both ways mix.
    if (prng.chance(0.2)) {
      run();
      return;
    }
    waiting.push(run);
    if (!isDue) setImmediate(runSome);
    isDue = true;
  };
}

/** One client: each slot has one request in flight at most, so the twin knows what every read must see. */
async function churn(client: NbdClient, volume: RamVolume, prng: Prng, operations: number): Promise<void> {
  const twin = Buffer.alloc(SIZE);
  let left = operations;
  const workSlot = async (slot: number): Promise<void> => {
    while (left-- > 0) {
      const at = prng.below(SLOT_BYTES - 1);
      const most = prng.chance(0.7) ? 6000 : SLOT_BYTES;
      const length = 1 + prng.below(Math.min(most, SLOT_BYTES - at));
      const offset = slot * SLOT_BYTES + at;
      const draw = prng.below(100);
      if (draw < 45) {
        const from = prng.below(NOISE.length - length);
        const data = NOISE.subarray(from, from + length);
        data.copy(twin, offset);
        await client.write(offset, data, { fua: prng.chance(0.1) });
      } else if (draw < 85) {
        const data = await client.read(offset, length);
        if (!twin.subarray(offset, offset + length).equals(data)) throw new Error(`slot ${slot}: read of ${length} at ${offset} differs`);
      } else if (draw < 92) {
        twin.fill(0, offset, offset + length);
        await (prng.chance(0.5) ? client.zero(offset, length) : client.trim(offset, length));
      } else if (draw < 96) {
        for (const extent of await client.extents(offset, length)) expect(extent.lengthBytes).toBeGreaterThan(0);
      } else {
        await client.flush();
      }
    }
  };
  await Promise.all(Array.from({ length: SLOTS }, (_, slot) => workSlot(slot)));
  expect(twin.equals(volume.bytes)).toBe(true);
}

describe.each([1, 2, 3])('random requests, seed %i,', (seed) => {
  it('to a device that answers at once', async () => {
    const volume = new RamVolume(SIZE);
    const { uri } = await serve({ v: volume });
    await churn(await NbdClient.connect(uri('v')), volume, new Prng(seed), 3000);
  });

  it('to a device that answers late and in any order', async () => {
    const prng = new Prng(seed);
    const volume = new RamVolume(SIZE, { schedule: shuffledSchedule(prng.fork()) });
    const { uri } = await serve({ v: volume });
    await churn(await NbdClient.connect(uri('v')), volume, prng, 3000);
  });

  it('in odd pieces, with tight limits', async () => {
    const prng = new Prng(seed);
    const volume = new RamVolume(SIZE, { schedule: shuffledSchedule(prng.fork()) });
    const { path } = await serve({ v: volume }, { limits: { maxRequests: 5, maxBytes: 500_000 } });
    const relay = await choppingRelay(path, prng.fork());
    await churn(await NbdClient.connect({ socket: relay, exportName: 'v' }), volume, prng, 600);
  });

  it('on a socket that only has events', async () => {
    const prng = new Prng(seed);
    const volume = new RamVolume(SIZE, { schedule: shuffledSchedule(prng.fork()) });
    const socket = await serveByEvents(volume, prng.chance(0.5) ? 4 : 256);
    await churn(await NbdClient.connect({ socket, exportName: 'v' }), volume, prng, 1500);
  });
});

it('several connections to one volume, each in its own part', async () => {
  const prng = new Prng(7);
  const volumes = Object.fromEntries(['a', 'b', 'c'].map((name) => [name, new RamVolume(SIZE, { schedule: shuffledSchedule(prng.fork()) })]));
  const { uri } = await serve(volumes);
  const work = Object.entries(volumes).map(async ([name, volume]) => churn(await NbdClient.connect(uri(name)), volume, prng.fork(), 1000));
  await Promise.all(work);
});

/** Serves a volume without the accepted handle being adopted, as a TLS socket will be. */
async function serveByEvents(volume: RamVolume, maxRequests: number): Promise<string> {
  const path = join(scratchDirectory(), 's');
  const pool = new BufferPool(1024 * 1024);
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const connection = new Connection({
      directory: new RamDirectory({ v: volume }),
      log: silentLog,
      pool,
      limits: { maxRequests, maxBytes: 64 * 1024 * 1024 },
      defer: process.nextTick,
      clock: null,
      handshakeTimeoutMs: 0,
      closed: () => undefined,
    });
    connection.open(listen(socket, connection));
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  onTestFinished(() => {
    server.close();
  });
  return path;
}
