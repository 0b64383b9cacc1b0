/** Where images come from and go to: files, standard input and output, NBD. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import { ArchipelagoError } from '../../base/index.ts';
import type { NbdClient } from './client.ts';
import type { ImageSink, ImageSource } from './copy.ts';

const ZEROS = Buffer.alloc(1024 * 1024);

/** A file or block device. Node cannot ask a file for its holes; reading them costs no disk access, and the copy finds the zeros. */
export async function fileSource(path: string): Promise<ImageSource> {
  const file = await openFile(path, constants.O_RDONLY, 'image file');
  const stat = await file.stat();
  if (stat.isDirectory()) {
    await file.close();
    throw new ArchipelagoError('invalid-argument', `${path} is a directory`);
  }
  // A pipe or terminal has no size and no offsets.
  if (!stat.isFile() && !stat.isBlockDevice()) return { ...streamSource(file.createReadStream()), close: () => file.close() };
  const sizeBytes = stat.isFile() ? stat.size : await endOf(file);
  return {
    sizeBytes,
    read: (offset, length) => readFully(file, offset, Math.min(length, sizeBytes - offset), path),
    close: () => file.close(),
  };
}

/** Writes a new file, or over an old one; a file gets holes, a block device zeros. */
export async function fileSink(path: string): Promise<ImageSink> {
  const file = await openFile(path, constants.O_WRONLY | constants.O_CREAT, 'destination');
  const stat = await file.stat();
  if (!stat.isFile() && !stat.isBlockDevice()) return { ...streamSink(file.createWriteStream()), close: () => file.close() };
  const isFile = stat.isFile();
  // What is not written of an empty file is a hole already.
  if (isFile) await file.truncate(0);
  return {
    sequential: false,
    write: (offset, data) => writeFully(file, offset, data, path),
    async zero(offset, length) {
      for (let at = 0; !isFile && at < length; at += ZEROS.length) {
        await writeFully(file, offset + at, ZEROS.subarray(0, Math.min(ZEROS.length, length - at)), path);
      }
    },
    async finish(sizeBytes) {
      try {
        if (isFile) await file.truncate(sizeBytes);
        await file.sync();
      } catch (error) {
        throw ArchipelagoError.from(error, `finishing ${path}`);
      }
    },
    close: () => file.close(),
  };
}

/** Standard input, or any other stream. */
export function streamSource(stream: Readable): ImageSource {
  const chunks = stream[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  let rest: Uint8Array = new Uint8Array(0);
  let reading: Promise<unknown> = Promise.resolve();
  const readNext = async (length: number): Promise<Uint8Array> => {
    const data = Buffer.allocUnsafe(length);
    let filled = 0;
    while (filled < length) {
      if (rest.length === 0) {
        const next = await chunks.next();
        if (next.done === true) break;
        rest = next.value;
      }
      const taken = Math.min(rest.length, length - filled);
      data.set(rest.subarray(0, taken), filled);
      rest = rest.subarray(taken);
      filled += taken;
    }
    return data.subarray(0, filled);
  };
  return {
    sizeBytes: null,
    read(_offset, length) {
      // Reads queue up: a stream has one position.
      const next = reading.then(() => readNext(length));
      reading = next.catch((error: Error) => error);
      return next;
    },
    abort() {
      stream.destroy();
    },
    async close() {
      stream.destroy();
    },
  };
}

/** Standard output, or any other stream. Holes become zeros. */
export function streamSink(stream: Writable): ImageSink {
  let failure: Error | null = null;
  // Stays on: an error between two writes has no other listener.
  stream.on('error', (error) => {
    failure ??= error;
  });
  const write = (data: Uint8Array): Promise<void> =>
    new Promise((resolve, reject) => {
      const failed = (error: Error) => reject(ArchipelagoError.from(error, 'writing the image to a stream'));
      if (failure !== null) failed(failure);
      else stream.write(data, (error) => (error == null ? resolve() : failed(error)));
    });
  return {
    sequential: true,
    write: (_offset, data) => write(data),
    async zero(_offset, length) {
      for (let at = 0; at < length; at += ZEROS.length) await write(ZEROS.subarray(0, Math.min(ZEROS.length, length - at)));
    },
    async finish() {
      // Each write has waited for its end.
    },
    async close() {
      // Standard output is not ours to close.
    },
  };
}

/** An NBD export. Closing it says goodbye to the server. */
export function nbdSource(client: NbdClient): ImageSource {
  return {
    sizeBytes: client.sizeBytes,
    maxRequestBytes: client.info.maxPayloadBytes,
    extents: (offset, length) => client.extents(offset, length),
    read: (offset, length) => client.read(offset, length),
    close: () => client.close(),
  };
}

/** An NBD export that is at least as large as the image. */
export function nbdSink(client: NbdClient): ImageSink {
  return {
    sequential: false,
    write: (offset, data) => client.write(offset, data),
    zero: (offset, length) => client.zero(offset, length),
    async finish(sizeBytes) {
      if (sizeBytes > client.sizeBytes) throw new ArchipelagoError('invalid-argument', `the image is larger than the export '${client.exportName}'`);
      await client.flush();
    },
    close: () => client.close(),
  };
}

async function openFile(path: string, flags: number, what: string): Promise<FileHandle> {
  try {
    return await open(path, flags, 0o666);
  } catch (error) {
    const errno = (error as NodeJS.ErrnoException).code;
    throw errno === 'ENOENT' ? notFound(path, what, error) : ArchipelagoError.from(error, `opening the ${what} ${path}`);
  }
}

function notFound(path: string, what: string, cause: unknown): ArchipelagoError {
  return new ArchipelagoError('not-found', `no ${what} ${path}`, { cause });
}

/** The size of a block device, which `stat` does not tell: the largest offset that a byte can be read before. */
async function endOf(file: FileHandle): Promise<number> {
  const byte = Buffer.alloc(1);
  const isInside = async (offset: number) => (await file.read(byte, 0, 1, offset)).bytesRead === 1;
  let high = 512;
  while (await isInside(high - 1)) high *= 2;
  let low = high / 2;
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (await isInside(middle - 1)) low = middle;
    else high = middle;
  }
  return (await isInside(low - 1)) ? low : 0;
}

async function readFully(file: FileHandle, offset: number, length: number, path: string): Promise<Uint8Array> {
  const data = Buffer.allocUnsafe(length);
  let filled = 0;
  try {
    while (filled < length) {
      const { bytesRead } = await file.read(data, filled, length - filled, offset + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
  } catch (error) {
    throw ArchipelagoError.from(error, `reading ${path}`);
  }
  if (filled < length) throw new ArchipelagoError('io-error', `${path} became shorter while it was read`);
  return data;
}

async function writeFully(file: FileHandle, offset: number, data: Uint8Array, path: string): Promise<void> {
  let written = 0;
  try {
    while (written < data.length) written += (await file.write(data, written, data.length - written, offset + written)).bytesWritten;
  } catch (error) {
    throw ArchipelagoError.from(error, `writing ${path}`);
  }
}
