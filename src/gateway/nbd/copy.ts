/**
 * Copies a disk image from a source to a sink, sparse both ways: what the source knows to be a hole is not read, what reads as zeros is not
 * written. Bounded in memory, several requests at a time.
 */
import { ArchipelagoError, assert } from '../../base/index.ts';
import type { Extent } from '../../volume/index.ts';

/** Bytes that are read at a time. */
const PIECE_BYTES = 1024 * 1024;
/** Zeros become holes in pieces of this size: the sub-block of a volume. */
const GRAIN_BYTES = 64 * 1024;
/** Reads and writes in flight; times PIECE_BYTES it is the memory used. */
const MAX_IN_FLIGHT = 16;
/** How much of a source is asked about at a time. */
const MAP_WINDOW_BYTES = 1024 * 1024 * 1024;

const ZEROS = Buffer.alloc(GRAIN_BYTES);

export interface ImageSource {
  /** Null when only its end will tell. */
  readonly sizeBytes: number | null;
  /** Longest read that it takes; unlimited if absent. */
  readonly maxRequestBytes?: number;
  /** Extents from an offset on, covering at least one byte and at most `lengthBytes`. */
  extents?(offsetBytes: number, lengthBytes: number): Promise<Extent[]>;
  /** Fewer bytes than asked for mean the end. Called with ascending offsets, before earlier calls have ended. */
  read(offsetBytes: number, lengthBytes: number): Promise<Uint8Array>;
  /** Lets reads that may never end fail: a stream that nobody writes to. */
  abort?(): void;
  close(): Promise<void>;
}

export interface ImageSink {
  /** True for a stream: one call at a time, without gaps. Else calls come in any order, several at a time. */
  readonly sequential: boolean;
  write(offsetBytes: number, data: Uint8Array): Promise<void>;
  zero(offsetBytes: number, lengthBytes: number): Promise<void>;
  /** After the last write: fixes the size where the sink has none of its own, and makes all durable. */
  finish(sizeBytes: number): Promise<void>;
  close(): Promise<void>;
}

export interface CopyProgress {
  readonly doneBytes: number;
  /** Null for a source that does not know. */
  readonly totalBytes: number | null;
}

export interface CopyOptions {
  readonly source: ImageSource;
  readonly sink: ImageSink;
  /** Copies this much instead of all; beyond the end of the source there are zeros. */
  readonly sizeBytes?: number;
  readonly onProgress?: (progress: CopyProgress) => void;
  readonly signal?: AbortSignal;
}

export interface CopyResult {
  readonly sizeBytes: number;
  /** How much of it was data, the rest being zeros. */
  readonly dataBytes: number;
}

/** Copies and finishes the sink. Closes neither. Fails with the first error, after what was in flight has ended. */
export async function copyImage(options: CopyOptions): Promise<CopyResult> {
  const copier = new Copier(options);
  return copier.run();
}

class Copier {
  private readonly options: CopyOptions;
  private readonly totalBytes: number | null;
  private readonly pieceBytes: number;
  private readonly inFlight = new Set<Promise<void>>();
  private failure: ArchipelagoError | null = null;
  private doneBytes = 0;
  private dataBytes = 0;
  /** Set when a read came back short. */
  private endBytes: number | null = null;
  /** The last step of a sequential sink. */
  private turn: Promise<void> = Promise.resolve();

  constructor(options: CopyOptions) {
    this.options = options;
    this.totalBytes = options.sizeBytes ?? options.source.sizeBytes;
    const limit = Math.min(PIECE_BYTES, options.source.maxRequestBytes ?? PIECE_BYTES);
    // Whole grains, where the source takes that much at once.
    this.pieceBytes = limit >= GRAIN_BYTES ? limit - (limit % GRAIN_BYTES) : limit;
  }

  async run(): Promise<CopyResult> {
    const { source, sink, signal } = this.options;
    const abort = (): void => {
      this.failure ??= new ArchipelagoError('unavailable', 'stopped');
      source.abort?.();
    };
    signal?.addEventListener('abort', abort, { once: true });
    try {
      if (signal?.aborted === true) abort();
      this.checkOn();
      await this.copyAll(source.sizeBytes);
    } catch (error) {
      this.failure ??= ArchipelagoError.from(error, 'copying');
    }
    await Promise.all(this.inFlight);
    signal?.removeEventListener('abort', abort);
    this.checkOn();
    const sizeBytes = this.totalBytes ?? this.endBytes ?? this.doneBytes;
    if (this.doneBytes < sizeBytes) await this.zero(this.doneBytes, sizeBytes - this.doneBytes);
    await sink.finish(sizeBytes);
    return { sizeBytes, dataBytes: this.dataBytes };
  }

  private async copyAll(sourceBytes: number | null): Promise<void> {
    const { source } = this.options;
    const end = Math.min(this.totalBytes ?? Number.MAX_SAFE_INTEGER, sourceBytes ?? Number.MAX_SAFE_INTEGER);
    let at = 0;
    while (at < end && this.endBytes === null) {
      const window = Math.min(MAP_WINDOW_BYTES, end - at);
      const extents = source.extents === undefined ? [{ lengthBytes: window, allocated: true }] : await source.extents(at, window);
      assert(extents.length > 0, 'a source describes at least one extent');
      for (const { lengthBytes, allocated } of extents) {
        if (!allocated) await this.begin(this.skipHole(at, lengthBytes));
        else await this.copyRun(at, lengthBytes);
        at += lengthBytes;
      }
    }
  }

  private async copyRun(start: number, length: number): Promise<void> {
    const end = start + length;
    let at = start;
    while (at < end && this.endBytes === null) {
      // Pieces end on multiples of their size, so that grains lie where the volume's sub-blocks do.
      const next = Math.min(end, at - (at % this.pieceBytes) + this.pieceBytes);
      await this.begin(this.copyPiece(at, next - at));
      at = next;
    }
  }

  /** Lets a step run beside others, waiting while there are too many. */
  private async begin(step: Promise<void>): Promise<void> {
    const guarded: Promise<void> = step.then(() => {
      this.inFlight.delete(guarded);
    });
    this.inFlight.add(guarded);
    while (this.inFlight.size >= MAX_IN_FLIGHT) await Promise.race(this.inFlight);
    this.checkOn();
  }

  private checkOn(): void {
    if (this.failure !== null) throw this.failure;
  }

  private copyPiece(offset: number, length: number): Promise<void> {
    return this.inTurn(async (comes) => {
      const data = await this.options.source.read(offset, length);
      if (data.length < length) this.endBytes = Math.min(this.endBytes ?? Number.MAX_SAFE_INTEGER, offset + data.length);
      await comes;
      await this.store(offset, data);
    });
  }

  private skipHole(offset: number, length: number): Promise<void> {
    return this.inTurn(async (comes) => {
      await comes;
      await this.zero(offset, length);
    });
  }

  /**
   * Runs a step, which waits for its turn where the sink is sequential. A failure is noted before the next step has its turn, so that
   * nothing is written behind a gap.
   */
  private async inTurn(step: (comes: Promise<void>) => Promise<void>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const comes = this.options.sink.sequential ? this.turn : Promise.resolve();
    this.turn = promise;
    try {
      await step(comes);
    } catch (error) {
      this.failure ??= ArchipelagoError.from(error, 'copying');
    } finally {
      resolve();
    }
  }

  /** Writes what is not zero, and makes holes of the rest. */
  private async store(offset: number, data: Uint8Array): Promise<void> {
    const { sink } = this.options;
    const steps: Promise<void>[] = [];
    if (this.failure !== null) return;
    for (const { start, end, isZero } of runsOf(offset, data)) {
      const step = isZero ? this.zero(offset + start, end - start) : this.write(offset + start, data.subarray(start, end));
      if (sink.sequential) await step;
      else steps.push(step);
    }
    await Promise.all(steps);
  }

  private async write(offset: number, data: Uint8Array): Promise<void> {
    await this.options.sink.write(offset, data);
    this.dataBytes += data.length;
    this.progress(data.length);
  }

  private async zero(offset: number, length: number): Promise<void> {
    if (this.failure !== null) return;
    await this.options.sink.zero(offset, length);
    this.progress(length);
  }

  private progress(length: number): void {
    this.doneBytes += length;
    this.options.onProgress?.({ doneBytes: this.doneBytes, totalBytes: this.totalBytes });
  }
}

/** The runs of zero and other grains of a piece, at grain boundaries of the image. */
function runsOf(offset: number, data: Uint8Array): { start: number; end: number; isZero: boolean }[] {
  const runs: { start: number; end: number; isZero: boolean }[] = [];
  let start = 0;
  while (start < data.length) {
    const end = Math.min(data.length, start + GRAIN_BYTES - ((offset + start) % GRAIN_BYTES));
    const isZero = ZEROS.compare(data, start, end, 0, end - start) === 0;
    const last = runs.at(-1);
    if (last?.isZero === isZero) last.end = end;
    else runs.push({ start, end, isZero });
    start = end;
  }
  return runs;
}
