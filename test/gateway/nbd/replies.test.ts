/** Replies on their way out: what leaves together, in which order, and that each buffer goes back. */

import type { Socket } from 'node:net';
import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { BufferPool, type PooledBuffer } from '../../../src/gateway/nbd/buffers.ts';
import { ReplyQueue } from '../../../src/gateway/nbd/replies.ts';
import { noise, turns } from './support.ts';

/** Keeps what it is given, each write apart; takes it only while `open`. */
class SlowSocket extends Writable {
  readonly writes: Buffer[] = [];
  private isOpen = true;
  private goOn: (() => void) | null = null;

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.take([chunk], done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    this.take(
      chunks.map(({ chunk }) => chunk),
      done,
    );
  }

  /** The kernel has no room: what is written stays the queue's until `open`. */
  block(): void {
    this.isOpen = false;
  }

  open(): void {
    this.isOpen = true;
    this.goOn?.();
  }

  private take(chunks: readonly Buffer[], done: () => void): void {
    const leave = () => {
      // Copied only now, as the kernel does: whoever uses the memory for something else before then is caught.
      for (const chunk of chunks) this.writes.push(Buffer.from(chunk));
      done();
    };
    if (this.isOpen) leave();
    else this.goOn = leave;
  }
}

interface Region {
  readonly buffer: PooledBuffer;
  readonly start: number;
  readonly bytes: Buffer;
}

function queueTo(socket: SlowSocket): { queue: ReplyQueue; pool: BufferPool } {
  const pool = new BufferPool(1 << 20);
  return { queue: new ReplyQueue(pool, socket as unknown as Socket, () => undefined), pool };
}

/** Regions of one length, reserved one after the other and filled. */
function regions(queue: ReplyQueue, count: number, length: number): Region[] {
  return Array.from({ length: count }, (_, seed) => {
    queue.reserve(length);
    const { reservedBuffer: buffer, reservedStart: start } = queue;
    const bytes = noise(length, seed);
    buffer.bytes.set(bytes, start);
    return { buffer, start, bytes };
  });
}

function commit(queue: ReplyQueue, { buffer, start, bytes }: Region): Buffer {
  queue.commit(buffer, start, bytes.length);
  return bytes;
}

async function returned(queue: ReplyQueue, pool: BufferPool): Promise<void> {
  await turns(2);
  expect(queue.unsentBytes).toBe(0);
  queue.close();
  expect(pool.taken).toBe(0);
}

describe('replies', () => {
  it('that are done in another order than they were reserved in leave in one write, in the order in which they were done', async () => {
    const socket = new SlowSocket();
    const { queue, pool } = queueTo(socket);
    const made = regions(queue, 8, 4124);
    const done = [5, 0, 7, 2, 1, 6, 3, 4].map((place) => commit(queue, made[place] as Region));
    queue.flush();
    expect(socket.writes).toHaveLength(1);
    expect(socket.writes[0]?.equals(Buffer.concat(done))).toBe(true);
    await returned(queue, pool);
  });

  it('that are large together are not copied', async () => {
    const socket = new SlowSocket();
    const { queue, pool } = queueTo(socket);
    const made = regions(queue, 3, 40_000);
    const done = [2, 0, 1].map((place) => commit(queue, made[place] as Region));
    queue.flush();
    await turns(2);
    // The first two lie behind one another, and were done so.
    expect(socket.writes.map(({ length }) => length)).toEqual([40_000, 80_000]);
    expect(Buffer.concat(socket.writes).equals(Buffer.concat(done))).toBe(true);
    await returned(queue, pool);
  });

  it('that were copied together stay as they are until the kernel has taken them', async () => {
    const socket = new SlowSocket();
    const { queue, pool } = queueTo(socket);
    socket.block();
    const sent: Buffer[] = [];
    for (let round = 0; round < 30; round++) {
      const made = regions(queue, 3, 20_000);
      for (const place of [1, 2, 0]) sent.push(commit(queue, made[place] as Region));
      queue.flush();
    }
    expect(socket.writes).toHaveLength(0);
    socket.open();
    await turns(2);
    expect(Buffer.concat(socket.writes).equals(Buffer.concat(sent))).toBe(true);
    await returned(queue, pool);
  });
});
