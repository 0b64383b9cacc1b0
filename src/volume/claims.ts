/**
 * Which blocks were claimed under the present ownership, and a walk that claims the others in the background: what an owner before may still
 * be writing, block after block, until nothing of the kind is left. Only then a snapshot may be taken. The walk stops with the admission of I/O and goes on with it, at the next owner as well: a handover passes on what is unclean.
 *
 * It is one more client of the volume: a read of no bytes makes the block known, and that claims it first. So the order with the guest's I/O,
 * the drain and the loss of the ownership are the volume's own.
 */
import { ArchipelagoError, type Clock, type Log, type Timer } from '../base/index.ts';
import { END, LAYERED, MISSING, type OpenMap, type PagedTree } from '../mapper/index.ts';
import { IO_READ, VolumeIo } from './device.ts';

/** Claims at a time, and while somebody waits for all of them. */
const PARALLEL = 2;
const HURRIED_PARALLEL = 16;
/** Rests at least so long between claims, and at least as long as they took: a guest has half of the disk for itself. */
const REST_MS = 10;
/** Before a claim that failed, on a full disk say, is tried again. */
const RETRY_MS = 5000;
/** Claimed blocks that are remembered, beside those that the walk has passed. */
const MAX_AHEAD = 65_536;
/** Entries looked at in one turn. */
const LOOKS = 512;

export interface WalkedVolume {
  readonly map: OpenMap;
  readonly pages: PagedTree;
  readonly blockSizeBytes: number;
  readonly admits: boolean;
  submit(io: VolumeIo): void;
}

export interface ClaimOptions {
  readonly clock: Clock;
  readonly log: Log;
}

class ClaimIo extends VolumeIo {
  private readonly ended: (error: ArchipelagoError | null) => void;

  constructor(offset: number, ended: (error: ArchipelagoError | null) => void) {
    super();
    this.kind = IO_READ;
    this.offset = offset;
    this.ended = ended;
  }

  override done(error: ArchipelagoError | null): void {
    this.ended(error);
  }

  override moved(): boolean {
    this.ended(movedAway());
    return true;
  }
}

function movedAway(): ArchipelagoError {
  return new ArchipelagoError('stale-epoch', 'the volume has got another owner', { hint: 'try again' });
}

interface Waiter {
  resolve(): void;
  reject(error: ArchipelagoError): void;
}

export class Claims {
  private readonly volume: WalkedVolume;
  private readonly options: ClaimOptions;
  /** Claimed by use, ahead of the walk. One that is forgotten is claimed once more, which harms nobody. */
  private readonly ahead = new Set<number>();
  /** All below are claimed. */
  private position = 0;
  private running = false;
  private ended = false;
  private waiters: Waiter[] = [];
  private rest: { readonly wake: () => void } | null = null;

  constructor(volume: WalkedVolume, options: ClaimOptions) {
    this.volume = volume;
    this.options = options;
  }

  has(index: number): boolean {
    return index < this.position || this.ahead.has(index);
  }

  add(index: number): void {
    if (this.ahead.size >= MAX_AHEAD) this.ahead.clear();
    this.ahead.add(index);
  }

  /** I/O is admitted. */
  go(): void {
    if (this.running || this.ended) return;
    this.running = true;
    void this.run();
  }

  /** The ownership has ended. */
  end(): void {
    this.ended = true;
    this.rest?.wake();
    this.tell(movedAway());
  }

  /** Hurries, and resolves when nothing is unclean any more. Rejects when a claim fails, or the ownership ends first. */
  finish(): Promise<void> {
    if (!this.volume.map.hasUnclean) return Promise.resolve();
    if (this.ended) return Promise.reject(movedAway());
    return new Promise((resolve, reject) => {
      this.waiters.push({ resolve, reject });
      this.rest?.wake();
    });
  }

  private async run(): Promise<void> {
    const { volume, options } = this;
    while (volume.admits && !this.ended && volume.map.hasUnclean) {
      const beganMs = options.clock.nowMs();
      let restMs = 0;
      try {
        const claims = await this.step();
        if (claims > 0) restMs = Math.max(REST_MS, options.clock.nowMs() - beganMs);
      } catch (error) {
        const failure = ArchipelagoError.from(error, 'claiming');
        if (failure.code === 'stale-epoch' && (this.ended || !volume.admits)) break;
        options.log.warn({ code: failure.code, error: failure.message, block: this.position }, 'a claim failed; it is tried again');
        this.tell(failure);
        restMs = RETRY_MS;
      }
      await this.pause(restMs);
    }
    this.running = false;
    if (!volume.map.hasUnclean) this.tell(null);
    // Admitted again while the last step was ending.
    else if (volume.admits && !this.ended) this.go();
  }

  /** Claims the next few, or records that there are none left. Returns how many. */
  private async step(): Promise<number> {
    const { volume } = this;
    const most = this.waiters.length > 0 ? HURRIED_PARALLEL : PARALLEL;
    const batch: number[] = [];
    let next = this.position;
    for (let looks = 0; looks < LOOKS && batch.length < most; looks++) {
      const index = await volume.pages.nextAllocated(next);
      if (index === END) {
        await this.claimAll(batch);
        if (volume.admits && !this.ended) await volume.map.recordClaimed();
        return batch.length;
      }
      if (this.isNeeded(index)) batch.push(index);
      next = index + 1;
    }
    await this.claimAll(batch);
    this.position = next;
    return batch.length;
  }

  private isNeeded(index: number): boolean {
    const { map, pages } = this.volume;
    if (this.has(index)) return false;
    const generation = pages.generationOf(index);
    // Evicted since: the claim loads it again, and claims nothing where nothing is to be claimed.
    if (generation === MISSING) return true;
    return map.isUnclean(generation === LAYERED ? pages.layered(index).generation : (generation as Parameters<OpenMap['isUnclean']>[0]));
  }

  private async claimAll(batch: readonly number[]): Promise<void> {
    const results = await Promise.all(batch.map((index) => this.claim(index)));
    for (const error of results) if (error !== null) throw error;
  }

  private claim(index: number): Promise<ArchipelagoError | null> {
    const { volume, options } = this;
    if (!volume.admits || this.ended) return Promise.resolve(movedAway());
    return new Promise((resolve) => {
      const ended = (error: ArchipelagoError | null): void => {
        if (error?.code === 'corrupt') {
          // It is lost whether it is claimed or not, and whoever reads it is told; it must not keep everything else from a snapshot.
          options.log.error({ block: index, error: error.message }, 'a block that should be claimed is damaged');
          resolve(null);
        } else resolve(error);
      };
      volume.submit(new ClaimIo(index * volume.blockSizeBytes, ended));
    });
  }

  private tell(error: ArchipelagoError | null): void {
    const waiters = this.waiters;
    this.waiters = [];
    for (const waiter of waiters) {
      if (error === null) waiter.resolve();
      else waiter.reject(error);
    }
  }

  /** At least a turn, so that a walk over what is in memory does not keep everything else waiting. */
  private pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        timer.cancel();
        this.rest = null;
        resolve();
      };
      const timer: Timer = this.options.clock.setTimer(this.waiters.length > 0 ? 0 : delayMs, wake);
      this.rest = { wake };
    });
  }
}
