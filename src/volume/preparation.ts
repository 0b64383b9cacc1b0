/**
 * The other side of a handover (`handover.ts`): what the owner tells this node before it stops. It counts for one attempt only; everything but
 * the last word may be thrown away at any time, because that word is refused then.
 */
import type { Epoch, VolumeId } from '../base/index.ts';
import { type ObjectName, ObjectNames } from '../blocker/index.ts';
import { decodeHeader, PagedTree, type VolumeRecord } from '../mapper/index.ts';
import type { VolumeContext } from './context.ts';

/** The owner waits for pages at most so long: what is not loaded by then is loaded when it is used. */
const PRELOAD_MS = 1000;

/** Which attempt a message belongs to, and how many names were told in it before. */
export interface AttemptMessage {
  readonly volume: VolumeId;
  readonly epoch: Epoch;
  readonly attempt: number;
  readonly told: number;
}

export class Preparation {
  readonly epoch: Epoch;
  readonly names = new ObjectNames();
  private readonly attempt: number;
  private told = 0;
  private tree: PagedTree | null = null;
  private over = false;

  constructor({ epoch, attempt }: AttemptMessage) {
    this.epoch = epoch;
    this.attempt = attempt;
  }

  /** An owner's attempts are numbered in their order; another owner has another epoch. */
  isOlderThan({ epoch, attempt }: AttemptMessage): boolean {
    return this.epoch < epoch || (this.epoch === epoch && this.attempt < attempt);
  }

  /** False when something is missing in between, or when it is of another attempt. */
  add({ epoch, attempt, told }: AttemptMessage, names: readonly ObjectName[]): boolean {
    if (this.over || this.epoch !== epoch || this.attempt !== attempt || this.told !== told) return false;
    for (const name of names) this.names.add(name);
    this.told += names.length;
    return true;
  }

  /** Resolves when most pages of the map are loaded, or that takes too long. */
  async preload({ blockStore, pageCache, clock }: VolumeContext, { id, sizeBytes, blockSizeBytes }: VolumeRecord): Promise<void> {
    const header = await blockStore.readHeader(id);
    if (header === null || this.over) return;
    this.tree = new PagedTree(blockStore, decodeHeader(header, id).header.root, pageCache);
    const loaded = this.tree.preload(Math.ceil(sizeBytes / blockSizeBytes));
    await new Promise<void>((resolve, reject) => {
      const timer = clock.setTimer(PRELOAD_MS, resolve);
      loaded.then(resolve, reject).finally(() => timer.cancel());
    });
  }

  /** Takes no more names. */
  end(): void {
    this.over = true;
  }

  /** What was loaded; the caller's from then on. */
  takeTree(): PagedTree | null {
    const { tree } = this;
    this.tree = null;
    return tree;
  }

  drop(): void {
    this.end();
    this.takeTree()?.close();
  }
}

/** Of one volume: the attempt that is being prepared. */
export class Preparations {
  private readonly context: VolumeContext;
  private current: Preparation | null = null;

  constructor(context: VolumeContext) {
    this.context = context;
  }

  /** The first message of an attempt has no names, and is answered when much of the map is loaded. False for what no handover can come of. */
  async prepare(message: AttemptMessage, names: readonly ObjectName[], record: VolumeRecord): Promise<boolean> {
    if (message.told > 0 || names.length > 0) return this.current?.add(message, names) ?? false;
    if (message.epoch <= record.epoch || (this.current !== null && !this.current.isOlderThan(message))) return false;
    this.current?.drop();
    const preparation = new Preparation(message);
    this.current = preparation;
    await preparation.preload(this.context, record).catch((error: unknown) => {
      // It is only faster with them.
      this.context.log.info({ volume: record.id, error: String(error) }, 'the map was not loaded ahead of a handover');
    });
    return this.current === preparation;
  }

  /** Adds the last names; null when they are not of the attempt that was prepared. */
  finish(message: AttemptMessage, names: readonly ObjectName[]): Preparation | null {
    const { current } = this;
    if (!current?.add(message, names)) return null;
    current.end();
    this.current = null;
    return current;
  }

  /** Of what was prepared for these epochs nothing comes any more. */
  forget(upTo: Epoch): void {
    if (this.current === null || this.current.epoch > upTo) return;
    this.current.drop();
    this.current = null;
  }
}
