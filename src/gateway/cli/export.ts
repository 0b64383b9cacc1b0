/** `volume export`: reads a volume through a snapshot of its own, so that I/O may go on meanwhile. */
import { randomBytes } from 'node:crypto';
import { existsSync, rmSync } from 'node:fs';
import { ArchipelagoError, type Clock } from '../../base/index.ts';
import type { VolumeView } from '../admin.ts';
import { type AdminClient, volumePath } from '../http/client.ts';
import { MAX_NAME_BYTES } from '../http/names.ts';
import { NbdClient } from '../nbd/client.ts';
import { copyImage, type ImageSink } from '../nbd/copy.ts';
import { fileSink, nbdSink, nbdSource, streamSink } from '../nbd/images.ts';
import type { TransferContext } from './import.ts';
import { interruptible, progressBar } from './progress.ts';
import { isRbd, newRbdImage } from './rbd-image.ts';
import { formatSize } from './sizes.ts';

/** A node learns of the end of a connection a moment after the client; until then the snapshot is in use. */
const REMOVE_TIMEOUT_MS = 10_000;
const RETRY_MS = 50;

export interface ExportRequest {
  name: string;
  /** A file, `-`, an NBD URI or a new image of RBD. */
  destination: string;
}

export interface Exported {
  name: string;
  destination: string;
  size: number;
}

export async function exportVolume({ name, destination }: ExportRequest, context: TransferContext): Promise<Exported> {
  const { client, clock } = context;
  return interruptible('the export', async (signal) => {
    const volume = await client.call<VolumeView>('GET', volumePath(name));
    if (volume.kind !== 'volume') return copyOut(volume, volume, destination, context, signal);
    const snapshot = await client.call<VolumeView>('POST', volumePath(name, 'snapshot'), { name: snapshotName(name) });
    try {
      return await copyOut(volume, snapshot, destination, context, signal);
    } finally {
      await removeSnapshot(snapshot.name, client, clock);
    }
  });
}

async function copyOut(
  volume: VolumeView,
  from: VolumeView,
  destination: string,
  { client, clock, quiet }: TransferContext,
  signal: AbortSignal,
): Promise<Exported> {
  signal.throwIfAborted();
  const { uri } = await client.call<{ uri: string }>('GET', volumePath(from.name, 'uri'));
  const progress = progressBar(`Exporting ${volume.name}`, clock, quiet);
  const source = nbdSource(await NbdClient.connect(uri));
  try {
    const { discard, ...sink } = await openSink(destination, from.size, clock);
    try {
      await copyImage({ source, sink, signal, onProgress: ({ doneBytes, totalBytes }) => progress.update(doneBytes, totalBytes) });
    } catch (error) {
      await sink.close();
      // Half an image is worse than none.
      await discard?.().catch((left: Error) => {
        const { code, message } = ArchipelagoError.from(error, 'the export');
        throw new ArchipelagoError(code, `${message}; half of the image is left at ${destination}`, { cause: left, hint: 'remove it' });
      });
      throw error;
    }
    await sink.close();
    return { name: volume.name, destination, size: from.size };
  } finally {
    progress.stop();
    await source.close();
  }
}

/** `discard` takes away what would not be there without the export. */
async function openSink(destination: string, sizeBytes: number, clock: Clock): Promise<ImageSink & { discard?(): Promise<void> }> {
  if (destination === '-') return streamSink(process.stdout);
  if (isRbd(destination)) return newRbdImage(destination, sizeBytes, clock);
  if (!/^nbds?(\+\w+)?:/.test(destination)) {
    const isNew = !existsSync(destination);
    return { ...(await fileSink(destination)), discard: async () => (isNew ? rmSync(destination, { force: true }) : undefined) };
  }
  const target = await NbdClient.connect(destination);
  if (target.sizeBytes >= sizeBytes) return nbdSink(target);
  await target.close();
  // Before anything there is overwritten.
  const message = `${destination} has ${formatSize(target.sizeBytes)}, which is less than the ${formatSize(sizeBytes)} of the image`;
  throw new ArchipelagoError('invalid-argument', message, { hint: 'export to something at least as large' });
}

/** NAME@export-xxxxxxxx, with NAME cut at a character where the whole would be too long. */
function snapshotName(name: string): string {
  const suffix = `@export-${randomBytes(4).toString('hex')}`;
  let kept = name;
  while (Buffer.byteLength(kept) + suffix.length > MAX_NAME_BYTES) kept = [...kept].slice(0, -1).join('');
  return kept + suffix;
}

async function removeSnapshot(name: string, client: AdminClient, clock: Clock): Promise<void> {
  const deadline = clock.nowMs() + REMOVE_TIMEOUT_MS;
  for (;;) {
    try {
      await client.call('DELETE', volumePath(name));
      return;
    } catch (error) {
      const { code, message } = ArchipelagoError.from(error, 'removing the snapshot');
      if (code === 'not-found') return;
      if (code !== 'in-use' || clock.nowMs() >= deadline) {
        const hint = `remove it with \`archipelago volume rm '${name}'\``;
        throw new ArchipelagoError(code, `the snapshot ${name} of this export is left: ${message}`, { cause: error, hint });
      }
    }
    await new Promise<void>((resolve) => {
      clock.setTimer(RETRY_MS, resolve);
    });
  }
}
