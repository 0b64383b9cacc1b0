/**
 * A volume follows its writer: the first write of a client moves the ownership to the client's node, unless a client at the owner writes too.
 * Reads and later writes never do, so two writers do not pull the volume to and fro, and where an administrator has put it, it stays until
 * a client attaches anew. The write itself does not wait for any of this; it is forwarded meanwhile.
 */
import { ArchipelagoError, type Clock, type Epoch, type LivenessEpoch, type Log, type Timer } from '../base/index.ts';

/** For this long after a change of owner nothing moves by itself. */
export const MIN_STAY_MS = 1000;

/** The owner, as a node that does not own the volume reaches it. */
interface OwnerElsewhere {
  /** Resolves to false when the owner could not be asked: it has changed, or the way to it was lost. */
  askForOwnership(attachedEpoch: Epoch): Promise<boolean>;
}

/** The clients at one node that write, and what they make the node ask for. */
export class WritingClients {
  private count = 0;
  /** The volume's epoch when the client attached whose first write no owner has heard of yet. */
  private unheard: Epoch | null = null;

  get any(): boolean {
    return this.count > 0;
  }

  /** A client's first write. `elsewhere`: this node is not the owner. */
  began(attachedEpoch: Epoch, elsewhere: boolean): void {
    this.count++;
    if (elsewhere) this.unheard = attachedEpoch;
  }

  /** A client that has written is gone. */
  ended(): void {
    this.count--;
    if (this.count === 0) this.unheard = null;
  }

  /** There is nothing to ask for: this node is the owner. */
  servedHere(): void {
    this.unheard = null;
  }

  /** Tells the owner of a first write that it has not heard of. What is not heard is told to the next session's owner. */
  tell(owner: OwnerElsewhere): void {
    const { unheard } = this;
    if (unheard === null) return;
    void owner.askForOwnership(unheard).then((heard) => {
      if (heard && this.unheard === unheard) this.unheard = null;
    });
  }
}

/** A node with a client that has begun to write. */
export interface Writer {
  readonly node: string;
  readonly livenessEpoch: LivenessEpoch;
  /** The volume's epoch when the client attached. */
  readonly attachedEpoch: Epoch;
  /** Whether the node has clients of the volume still, and forwards to this ownership. */
  readonly present: () => boolean;
}

/** What the owner has to know and do about a volume. */
export interface MovableVolume {
  /** Null when the volume is not served here as its owner. */
  readonly ownership: { readonly epoch: Epoch; readonly sinceMs: number; readonly placed: boolean } | null;
  /** Here. */
  readonly writers: Pick<WritingClients, 'any'>;
  /** Why clients of a node may not change it, or null. */
  changeRefusal(node: string): ArchipelagoError | null;
  /** Refused under another epoch. */
  handOver(to: Writer, epoch: Epoch): Promise<unknown>;
}

/** The owner's side: gives a volume to a node whose client has begun to write. */
export class FollowWriter {
  private readonly volume: MovableVolume;
  private readonly clock: Clock;
  private readonly log: Log;
  /** Waits for the end of the stay. */
  private waiting: { writer: Writer; epoch: Epoch; timer: Timer } | null = null;

  constructor(volume: MovableVolume, clock: Clock, log: Log) {
    this.volume = volume;
    this.clock = clock;
    this.log = log;
  }

  /** Another node's client has written for the first time. Of several within one stay, the first that is still there gets the volume. */
  wrote(writer: Writer): void {
    const { ownership } = this.volume;
    if (ownership === null || this.waiting?.writer.present()) return;
    this.stay();
    const { epoch, sinceMs } = ownership;
    const restMs = sinceMs + MIN_STAY_MS - this.clock.nowMs();
    if (restMs <= 0) {
      this.follow(writer, epoch);
      return;
    }
    const timer = this.clock.setTimer(restMs, () => {
      this.waiting = null;
      this.follow(writer, epoch);
    });
    this.waiting = { writer, epoch, timer };
  }

  /** An administrator wants the volume here, where it is. */
  stay(): void {
    this.waiting?.timer.cancel();
    this.waiting = null;
  }

  private follow(writer: Writer, epoch: Epoch): void {
    const { ownership, writers } = this.volume;
    if (ownership?.epoch !== epoch || writers.any || !writer.present() || this.volume.changeRefusal(writer.node) !== null) return;
    if (ownership.placed && writer.attachedEpoch < epoch) return;
    this.volume.handOver(writer, epoch).then(
      () => this.log.info({ to: writer.node }, 'moved to where it is written'),
      (error: unknown) => {
        // It stays, and goes on being forwarded to. Somebody else may have moved it, or the target has gone.
        const { code, message } = ArchipelagoError.from(error, 'following a writer');
        this.log.info({ to: writer.node, code, error: message }, 'not moved to where it is written');
      },
    );
  }
}
