/**
 * `volume import`. The connection of the import itself is what keeps the new volume until it is complete: when this process dies, however
 * it dies, the node removes the volume.
 */
import { fstatSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { resolve } from 'node:path';
import { ArchipelagoError, type Clock } from '../../base/index.ts';
import type { VolumeView } from '../admin.ts';
import { type AdminClient, volumePath } from '../http/client.ts';
import { SECTOR_BYTES } from '../http/names.ts';
import { NbdClient } from '../nbd/client.ts';
import { type CopyOptions, copyImage, type ImageSource } from '../nbd/copy.ts';
import { fileSource, nbdSink, nbdSource, streamSource } from '../nbd/images.ts';
import { interruptible, progressBar } from './progress.ts';
import { serveImage } from './qemu-nbd.ts';
import { isRbd, rbdSource } from './rbd-image.ts';
import { formatSize } from './sizes.ts';

/**
 * A pipe tells its size at its end only. Volumes are thin, so it is read into one of this size, which then shrinks to what came: no copy on
 * the way and no growing while data arrives.
 */
const PIPE_BYTES = 16 * 1024 ** 4;
const QCOW2_MAGIC = 'QFI\xfb';

export interface ImportRequest {
  source: string;
  name: string;
  format: 'raw' | 'qcow2' | null;
  blockSize?: number;
  /** Larger than the source; the rest is zeros. */
  size?: number;
}

export interface TransferContext {
  client: AdminClient;
  clock: Clock;
  /** No progress bar. */
  quiet: boolean;
}

export async function importVolume(request: ImportRequest, context: TransferContext): Promise<VolumeView> {
  return interruptible('the import', async (signal) => {
    const source = await openSource(request, context.clock);
    try {
      return await importFrom(source, request, context, signal);
    } finally {
      await source.close();
    }
  });
}

async function importFrom(
  source: ImageSource,
  request: ImportRequest,
  { client, clock, quiet }: TransferContext,
  signal: AbortSignal,
): Promise<VolumeView> {
  const { name, blockSize } = request;
  const size = sizeOf(source, request);
  const session = await client.openImport({ name, size: size ?? PIPE_BYTES, ...(blockSize === undefined ? {} : { blockSize }) });
  try {
    const copied = await copyInto(
      session.volume.uri,
      source,
      size,
      { title: `Importing ${name}`, clock, quiet },
      AbortSignal.any([signal, session.lost]),
    );
    signal.throwIfAborted();
    if (size === null) {
      if (copied === 0) throw emptySource(request.source);
      await client.call('POST', volumePath(name, 'resize'), { size: padded(copied), shrink: true });
    }
    return await client.call<VolumeView>('POST', `/v1/imports/${encodeURIComponent(name)}/finish`);
  } catch (error) {
    if (session.lost.aborted) throw session.lost.reason;
    throw error;
  } finally {
    session.close();
  }
}

/** Copies and flushes; resolves to the size of what came. */
async function copyInto(
  uri: string,
  source: ImageSource,
  size: number | null,
  { title, clock, quiet }: { title: string; clock: Clock; quiet: boolean },
  signal: AbortSignal,
): Promise<number> {
  const target = await NbdClient.connect(uri);
  const progress = progressBar(title, clock, quiet);
  try {
    const options: CopyOptions = {
      source,
      sink: nbdSink(target),
      signal,
      onProgress: ({ doneBytes, totalBytes }) => progress.update(doneBytes, totalBytes),
    };
    return (await copyImage(size === null ? options : { ...options, sizeBytes: size })).sizeBytes;
  } finally {
    progress.stop();
    await target.close();
  }
}

/** The size of the volume; null when it has to be found out. */
function sizeOf(source: ImageSource, request: ImportRequest): number | null {
  if (source.sizeBytes === 0) throw emptySource(request.source);
  if (source.sizeBytes === null) return request.size ?? null;
  const needed = padded(source.sizeBytes);
  if (request.size === undefined) return needed;
  if (request.size >= needed) return request.size;
  throw new ArchipelagoError('invalid-argument', `--size ${formatSize(request.size)} is less than the source has: ${source.sizeBytes} bytes`);
}

const padded = (bytes: number) => Math.ceil(bytes / SECTOR_BYTES) * SECTOR_BYTES;

function emptySource(source: string): ArchipelagoError {
  return new ArchipelagoError('invalid-argument', `${source === '-' ? 'standard input' : source} is empty`);
}

async function openSource({ source, format }: ImportRequest, clock: Clock): Promise<ImageSource> {
  const isNbd = /^nbds?(\+\w+)?:/.test(source);
  if (format === 'qcow2') {
    if (isNbd || isRbd(source) || source === '-')
      throw new ArchipelagoError('invalid-argument', '--format qcow2 is for files', { hint: 'write the image to a file first' });
    await checkReadable(source);
    const { client, close } = await serveImage({ image: resolve(source), format, readOnly: true }, clock);
    return { ...nbdSource(client), close };
  }
  if (isRbd(source)) return rbdSource(source, clock);
  if (isNbd) return nbdSource(await NbdClient.connect(source));
  if (source !== '-') {
    if (format === null) await refuseUnsaidQcow2(source);
    return fileSource(source);
  }
  // `import - NAME < image` is a file after all, with a size.
  return fstatSync(0).isFile() ? fileSource('/dev/stdin') : streamSource(process.stdin);
}

/** So that a missing file is told as one, not in qemu-nbd's words. */
async function checkReadable(path: string): Promise<void> {
  await (await fileSource(path)).close();
}

/** Its bytes would make a volume that no guest can read. But a guest may write them, so they never choose the format by themselves. */
async function refuseUnsaidQcow2(path: string): Promise<void> {
  const probe = await fileSource(path);
  const isImage = probe.sizeBytes !== null && probe.sizeBytes >= QCOW2_MAGIC.length;
  await probe.close();
  if (!isImage) return;
  const file = await open(path);
  try {
    const { buffer } = await file.read(Buffer.alloc(QCOW2_MAGIC.length), 0, QCOW2_MAGIC.length, 0);
    if (buffer.toString('latin1') !== QCOW2_MAGIC) return;
  } finally {
    await file.close();
  }
  throw new ArchipelagoError('invalid-argument', `${path} looks like qcow2`, {
    hint: 'add --format qcow2, or --format raw to take its bytes as they are',
  });
}
