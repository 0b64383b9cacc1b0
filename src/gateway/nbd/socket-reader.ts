/** Reads exact numbers of bytes from a socket, one reader at a time. What is not asked for stays in the socket, so a slow reader slows the sender. */
import type { Socket } from 'node:net';
import { ArchipelagoError } from '../../base/index.ts';

export class SocketReader {
  private readonly chunks: AsyncIterator<Uint8Array>;
  private readonly where: string;
  private chunk: Uint8Array = new Uint8Array(0);

  /** `where` names the other end in errors. */
  constructor(socket: Socket, where: string) {
    this.chunks = socket[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
    this.where = where;
  }

  async read(length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafe(length);
    await this.readInto(bytes);
    return bytes;
  }

  async readInto(target: Uint8Array): Promise<void> {
    let filled = 0;
    while (filled < target.length) {
      if (this.chunk.length === 0) await this.nextChunk();
      const length = Math.min(this.chunk.length, target.length - filled);
      target.set(this.chunk.subarray(0, length), filled);
      this.chunk = this.chunk.subarray(length);
      filled += length;
    }
  }

  private async nextChunk(): Promise<void> {
    let next: IteratorResult<Uint8Array>;
    try {
      next = await this.chunks.next();
    } catch (error) {
      throw this.failure(error as Error);
    }
    if (next.done === true) throw new ArchipelagoError('unavailable', `${this.where} closed the connection`);
    this.chunk = next.value;
  }

  private failure(error: Error): ArchipelagoError {
    if (error instanceof ArchipelagoError) return error;
    return new ArchipelagoError('unavailable', `the connection to ${this.where} broke: ${error.message}`, { cause: error });
  }
}
