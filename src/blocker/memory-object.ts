/** The bytes of one block object in memory: chunks that exist only where something was written. */

const CHUNK_BYTES = 65_536;

export class SparseBytes {
  private readonly chunks: (Uint8Array | undefined)[] = [];

  /** What the chunks take up. */
  get allocatedBytes(): number {
    let count = 0;
    for (const chunk of this.chunks) if (chunk !== undefined) count++;
    return count * CHUNK_BYTES;
  }

  read(offset: number, into: Uint8Array): void {
    let at = 0;
    while (at < into.byteLength) {
      const within = (offset + at) % CHUNK_BYTES;
      const length = Math.min(CHUNK_BYTES - within, into.byteLength - at);
      const chunk = this.chunks[(offset + at - within) / CHUNK_BYTES];
      if (chunk === undefined) into.fill(0, at, at + length);
      else into.set(chunk.subarray(within, within + length), at);
      at += length;
    }
  }

  /** Returns by how much `allocatedBytes` has grown. */
  write(offset: number, data: Uint8Array): number {
    let at = 0;
    let grown = 0;
    while (at < data.byteLength) {
      const within = (offset + at) % CHUNK_BYTES;
      const length = Math.min(CHUNK_BYTES - within, data.byteLength - at);
      const index = (offset + at - within) / CHUNK_BYTES;
      let chunk = this.chunks[index];
      if (chunk === undefined) {
        chunk = new Uint8Array(CHUNK_BYTES);
        // No holes in the array itself: it would turn into a slow one.
        while (this.chunks.length < index) this.chunks.push(undefined);
        this.chunks[index] = chunk;
        grown += CHUNK_BYTES;
      }
      chunk.set(length === data.byteLength ? data : data.subarray(at, at + length), within);
      at += length;
    }
    return grown;
  }

  /** Returns by how much `allocatedBytes` has shrunk. */
  zero(offset: number, length: number): number {
    let at = offset;
    let freed = 0;
    const end = Math.min(offset + length, this.chunks.length * CHUNK_BYTES);
    while (at < end) {
      const within = at % CHUNK_BYTES;
      const part = Math.min(CHUNK_BYTES - within, end - at);
      const index = (at - within) / CHUNK_BYTES;
      const chunk = this.chunks[index];
      if (chunk !== undefined && part === CHUNK_BYTES) {
        this.chunks[index] = undefined;
        freed += CHUNK_BYTES;
      } else chunk?.fill(0, within, within + part);
      at += part;
    }
    return freed;
  }
}
