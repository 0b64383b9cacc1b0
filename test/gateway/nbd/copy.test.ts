/** Copies between every kind of source and sink. */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { ArchipelagoError, Prng } from '../../../src/base/index.ts';
import { NbdClient } from '../../../src/gateway/nbd/client.ts';
import { copyImage, type ImageSink, type ImageSource } from '../../../src/gateway/nbd/copy.ts';
import { fileSink, fileSource, nbdSink, nbdSource, streamSink, streamSource } from '../../../src/gateway/nbd/images.ts';
import { RamVolume } from './ram-device.ts';
import { noise, scratchDirectory, serve, turns, until } from './support.ts';

const KIB = 1024;
const MIB = KIB * KIB;

/** A bit more than 9 MiB: data, zeros, single bytes, and an odd end. */
function testImage(): Buffer {
  const image = Buffer.alloc(9 * MIB + 777);
  noise(2 * MIB + 100, 1).copy(image, 0);
  image[5 * MIB] = 1;
  image[6 * MIB - 1] = 2;
  noise(70 * KIB, 2).copy(image, 7 * MIB + 1000);
  image[image.length - 1] = 3;
  return image;
}

const image = testImage();

/** Chunks of sizes that match nothing. */
function* chunksOf(bytes: Buffer): Generator<Buffer> {
  const prng = new Prng(5);
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + 1 + prng.below(150_000));
    yield bytes.subarray(at, end);
    at = end;
  }
}

function collectingStream(): { stream: Writable; bytes: () => Buffer } {
  const chunks: Buffer[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(Buffer.from(chunk));
      setImmediate(done);
    },
  });
  return { stream, bytes: () => Buffer.concat(chunks) };
}

type End<Kind> = Kind & { contents?: () => Buffer };

const sources: Record<string, () => Promise<ImageSource>> = {
  'a file': async () => {
    const path = join(scratchDirectory(), 'image');
    writeFileSync(path, image);
    return fileSource(path);
  },
  'a stream': async () => streamSource(Readable.from(chunksOf(image), { objectMode: false })),
  'an NBD export': async () => {
    const { uri } = await serve({ v: new RamVolume(image.length, { schedule: (work) => void setImmediate(work) }) });
    const client = await NbdClient.connect(uri('v'));
    for (let at = 0; at < image.length; at += 64 * KIB) {
      const piece = image.subarray(at, at + 64 * KIB);
      if (piece.some((byte) => byte !== 0)) await client.write(at, piece);
    }
    return nbdSource(client);
  },
};

const sinks: Record<string, () => Promise<End<ImageSink>>> = {
  'a file': async () => {
    const path = join(scratchDirectory(), 'copy');
    writeFileSync(path, Buffer.alloc(20 * MIB, 9));
    return { ...(await fileSink(path)), contents: () => readFileSync(path) };
  },
  'a stream': async () => {
    const { stream, bytes } = collectingStream();
    return { ...streamSink(stream), contents: bytes };
  },
  'an NBD export': async () => {
    const volume = new RamVolume(image.length, { schedule: (work) => void setImmediate(work) });
    volume.bytes.fill(0xee);
    const { uri } = await serve({ v: volume });
    return { ...nbdSink(await NbdClient.connect(uri('v'))), contents: () => Buffer.from(volume.bytes) };
  },
};

const pairs = Object.keys(sources).flatMap((source) => Object.keys(sinks).map((sink) => [source, sink] as const));

it.each(pairs)('from %s to %s', async (from, to) => {
  const source = await sources[from]!();
  const sink = await sinks[to]!();
  const seen: number[] = [];
  const result = await copyImage({ source, sink, onProgress: ({ doneBytes }) => seen.push(doneBytes) });
  await source.close();
  await sink.close();
  expect(image.equals(sink.contents!())).toBe(true);
  // Data counts in pieces of 64 KiB: 33 at the start, 1 and 1, 2 in the middle, and the rest of the last one.
  expect(result).toEqual({ sizeBytes: image.length, dataBytes: 37 * 64 * KIB + 777 });
  expect(seen.at(-1)).toBe(image.length);
  expect(seen.every((value, i) => i === 0 || value > seen[i - 1]!)).toBe(true);
});

it('a copy to a file has holes', async () => {
  const path = join(scratchDirectory(), 'copy');
  const sink = await fileSink(path);
  await copyImage({ source: await sources['a stream']!(), sink });
  await sink.close();
  expect(statSync(path).blocks * 512).toBeLessThan(3 * MIB);
});

it('a size beyond the end of the source means zeros, one within it a part', async () => {
  for (const sizeBytes of [0, 1000, 3 * MIB + 5, image.length + 100_000]) {
    for (const from of Object.keys(sources)) {
      const { stream, bytes } = collectingStream();
      const source = await sources[from]!();
      expect(await copyImage({ source, sink: streamSink(stream), sizeBytes })).toMatchObject({ sizeBytes });
      await source.close();
      const expected = Buffer.alloc(sizeBytes);
      image.copy(expected);
      expect(expected.equals(bytes())).toBe(true);
    }
  }
});

it('of nothing is an empty copy', async () => {
  const { stream, bytes } = collectingStream();
  expect(await copyImage({ source: streamSource(Readable.from([])), sink: streamSink(stream) })).toEqual({ sizeBytes: 0, dataBytes: 0 });
  expect(bytes()).toHaveLength(0);
});

describe('bounds and failures', () => {
  /** A source of noise, and a sink that notes what happens. */
  function observed(options: { failAt?: number; sequential?: boolean } = {}) {
    const state = { reading: 0, mostReading: 0, held: 0, mostHeld: 0, written: 0, finished: false };
    const source: ImageSource = {
      sizeBytes: 100 * MIB,
      read: async (_offset, length) => {
        state.held++;
        state.mostHeld = Math.max(state.mostHeld, state.held);
        await turns(1);
        return Buffer.alloc(length, 1);
      },
      close: async () => undefined,
    };
    const sink: ImageSink = {
      sequential: options.sequential ?? false,
      write: async (offset) => {
        await turns(2);
        state.held--;
        if (offset === options.failAt) throw new ArchipelagoError('no-space', 'full');
        state.written++;
      },
      zero: async () => undefined,
      finish: async () => {
        state.finished = true;
      },
      close: async () => undefined,
    };
    return { state, source, sink };
  }

  it.each([true, false])('holds few pieces at a time, several at once (sequential: %s)', async (sequential) => {
    const { state, source, sink } = observed({ sequential });
    await copyImage({ source, sink });
    expect(state.mostHeld).toBeGreaterThan(3);
    expect(state.mostHeld).toBeLessThanOrEqual(16);
    expect(state).toMatchObject({ written: 100, held: 0, finished: true });
  });

  it.each([true, false])('the first failure ends it, and the sink is not finished (sequential: %s)', async (sequential) => {
    const { state, source, sink } = observed({ failAt: 10 * MIB, sequential });
    await expect(copyImage({ source, sink })).rejects.toMatchObject({ code: 'no-space' });
    expect(state.finished).toBe(false);
    expect(state.written).toBeLessThan(sequential ? 11 : 40);
  });

  it('a failing source ends it too', async () => {
    const { state, source, sink } = observed();
    const broken: ImageSource = { ...source, extents: async () => Promise.reject(new ArchipelagoError('corrupt', 'a map')) };
    await expect(copyImage({ source: broken, sink })).rejects.toMatchObject({ code: 'corrupt' });
    expect(state.finished).toBe(false);
  });

  it('a signal stops it, even while it waits for a stream that nobody writes to', async () => {
    const { state, source, sink } = observed();
    const abort = new AbortController();
    const copying = copyImage({ source, sink, signal: abort.signal }).catch((error: unknown) => error);
    await until(() => state.written > 5);
    abort.abort();
    expect(await copying).toMatchObject({ message: 'stopped' });
    expect(state.finished).toBe(false);
    await expect(copyImage({ source, sink, signal: abort.signal })).rejects.toThrow('stopped');

    const silent = new AbortController();
    const waiting = copyImage({ source: streamSource(new PassThrough()), sink, signal: silent.signal }).catch((error: unknown) => error);
    await turns(3);
    silent.abort();
    expect(await waiting).toMatchObject({ message: 'stopped' });
  });

  it('a stream that breaks fails the copy', async () => {
    const { source } = observed();
    const stream = new Writable({
      write(_chunk, _encoding, done) {
        done(Object.assign(new Error('broken pipe'), { code: 'EPIPE' }));
      },
    });
    await expect(copyImage({ source, sink: streamSink(stream) })).rejects.toMatchObject({ code: 'io-error' });
  });

  it('files that are not there, or no files, are clear', async () => {
    const folder = scratchDirectory();
    await expect(fileSource(join(folder, 'none'))).rejects.toMatchObject({ code: 'not-found' });
    await expect(fileSource(folder)).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(fileSink(join(folder, 'no', 'file'))).rejects.toMatchObject({ code: 'not-found' });
    await expect(fileSink(folder)).rejects.toMatchObject({ code: 'io-error' });
  });

  it('an image that is larger than the export fails', async () => {
    const { uri } = await serve({ v: new RamVolume(MIB) });
    const sink = nbdSink(await NbdClient.connect(uri('v')));
    await expect(copyImage({ source: observed().source, sink })).rejects.toMatchObject({ code: 'no-space' });
  });
});
