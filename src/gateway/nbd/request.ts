/** One request of an NBD client while a device works on it. */
import type { ArchipelagoError } from '../../base/index.ts';
import { VolumeIo } from '../../volume/index.ts';
import type { PooledBuffer } from './buffers.ts';

/** Who is told that a request is done. */
interface RequestOwner {
  readonly clientGone: boolean;
  completed(request: NbdRequest, error: ArchipelagoError | null): void;
}

export class NbdRequest extends VolumeIo {
  command = 0;
  /** The client's cookie, as two signed halves: those need no allocation. */
  cookieHigh = 0;
  cookieLow = 0;
  /** What a write's data lies in, with a reference, or null. */
  input: PooledBuffer | null = null;
  /** What a read's reply will leave from, with a reference, or null. */
  reply: PooledBuffer | null = null;
  replyStart = 0;
  /** True from submission until `done`: a device that calls twice is caught. */
  submitted = false;
  private readonly owner: RequestOwner;

  constructor(owner: RequestOwner) {
    super();
    this.owner = owner;
  }

  override done(error: ArchipelagoError | null): void {
    this.owner.completed(this, error);
  }

  override isAbandoned(): boolean {
    return this.owner.clientGone;
  }
}
