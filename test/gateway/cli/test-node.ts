/** A node for the CLI to talk to: the real HTTP and NBD servers before volumes in memory, sparse so that they may be large. */
import { join } from 'node:path';
import { ArchipelagoError, silentLog, type VolumeId } from '../../../src/base/index.ts';
import { NbdServer } from '../../../src/gateway/nbd/server.ts';
import { unixNbdUri } from '../../../src/gateway/nbd/uri.ts';
import { type Device, type Extent, IO_READ, IO_WRITE, IO_ZERO, type VolumeIo } from '../../../src/volume/device.ts';
import { type Served, serve } from '../http/serve.ts';

const GRAIN_BYTES = 64 * 1024;

/** Grains that were written, by their index. */
type Content = Map<number, Buffer>;

export interface TestNode extends Served {
  nbdPath: string;
  /** What a volume holds, from its beginning. */
  read(name: string, length: number): Buffer;
  write(name: string, offset: number, data: Uint8Array): void;
  /** Grains that take room. */
  grains(name: string): number;
  /** How long the node takes to notice that a client has left. */
  detachMs: number;
  /** Called with each write, before it is carried out; throws what the client gets. */
  onWrite: (name: string, offset: number) => void;
}

export async function testNode(): Promise<TestNode> {
  const served = await serve();
  const { admin } = served;
  const contents = new Map<string, Content>();
  const nbdPath = join(served.directory, 'nbd.sock');
  const contentOf = (id: string): Content => contents.get(id) ?? contents.set(id, new Map()).get(id)!;
  const volumeOf = (name: string) => {
    const volume = admin.volumes.get(name);
    if (volume === undefined) throw new ArchipelagoError('not-found', `no volume '${name}'`);
    return volume;
  };
  admin.uriOf = (name) => unixNbdUri(nbdPath, name);
  const snapshotVolume = admin.snapshotVolume.bind(admin);
  admin.snapshotVolume = async (name, request) => {
    const view = await snapshotVolume(name, request);
    contents.set(view.id, new Map([...contentOf(volumeOf(name).id)].map(([index, grain]) => [index, Buffer.from(grain)])));
    return view;
  };

  const node: Omit<TestNode, keyof Served> = {
    nbdPath,
    read: (name, length) => readFrom(contentOf(volumeOf(name).id), 0, length),
    write: (name, offset, data) => writeTo(contentOf(volumeOf(name).id), offset, data),
    grains: (name) => contentOf(volumeOf(name).id).size,
    detachMs: 0,
    onWrite: () => undefined,
  };
  const directory = {
    names: () => [...admin.volumes.keys()],
    async attach(name: string): Promise<Device> {
      const volume = volumeOf(name);
      const content = contentOf(volume.id);
      volume.clients++;
      return {
        volumeId: Number(volume.id) as VolumeId,
        sizeBytes: volume.size,
        blockSizeBytes: volume.blockSize,
        readOnly: volume.kind === 'snapshot',
        submit(io: VolumeIo) {
          try {
            if (io.kind === IO_WRITE) result.onWrite(name, io.offset);
            carryOut(content, io);
            io.done(null);
          } catch (error) {
            io.done(ArchipelagoError.from(error, 'test'));
          }
        },
        extents: async (offset: number, length: number) => extentsOf(content, offset, length),
        async close() {
          if (result.detachMs > 0) await new Promise((resolve) => setTimeout(resolve, result.detachMs));
          volume.clients--;
        },
      };
    },
  };
  const server = await NbdServer.listen({ path: nbdPath }, { directory, log: silentLog });
  const stop = served.stop;
  const result: TestNode = Object.assign(served, node, {
    async stop() {
      await server.close({ signal: AbortSignal.abort() });
      await stop();
    },
  });
  return result;
}

function carryOut(content: Content, { kind, offset, length, data }: VolumeIo): void {
  if (kind === IO_READ) data.set(readFrom(content, offset, length));
  else if (kind === IO_WRITE) writeTo(content, offset, data);
  else if (kind === IO_ZERO) {
    for (const [index, grain] of content) {
      const start = Math.max(offset, index * GRAIN_BYTES);
      const end = Math.min(offset + length, (index + 1) * GRAIN_BYTES);
      if (end - start === GRAIN_BYTES) content.delete(index);
      else if (end > start) grain.fill(0, start - index * GRAIN_BYTES, end - index * GRAIN_BYTES);
    }
  }
}

function readFrom(content: Content, offset: number, length: number): Buffer {
  const data = Buffer.alloc(length);
  for (let at = 0; at < length; ) {
    const index = Math.floor((offset + at) / GRAIN_BYTES);
    const inside = (offset + at) % GRAIN_BYTES;
    const step = Math.min(GRAIN_BYTES - inside, length - at);
    content.get(index)?.copy(data, at, inside, inside + step);
    at += step;
  }
  return data;
}

function writeTo(content: Content, offset: number, data: Uint8Array): void {
  for (let at = 0; at < data.length; ) {
    const index = Math.floor((offset + at) / GRAIN_BYTES);
    const inside = (offset + at) % GRAIN_BYTES;
    const step = Math.min(GRAIN_BYTES - inside, data.length - at);
    const grain = content.get(index) ?? Buffer.alloc(GRAIN_BYTES);
    grain.set(data.subarray(at, at + step), inside);
    content.set(index, grain);
    at += step;
  }
}

function extentsOf(content: Content, offset: number, length: number): Extent[] {
  const index = Math.floor(offset / GRAIN_BYTES);
  const allocated = content.has(index);
  let end = index + 1;
  while (end * GRAIN_BYTES < offset + length && content.has(end) === allocated) end++;
  return [{ lengthBytes: Math.min(end * GRAIN_BYTES - offset, length), allocated }];
}
