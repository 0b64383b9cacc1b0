/**
 * Giving a volume to another node. Guests wait from the moment at which nothing is admitted any more until the next owner serves, so all that can
 * be done before is: the journal is shortened, and the next owner loads the map and is told what is unsynced. What it is told counts for this
 * one attempt. What is left for the stop is to wait for the store, to tell the rest, and one registry command.
 */
import { ArchipelagoError, assert, type Epoch, type VolumeId } from '../base/index.ts';
import type { ObjectName, UnsyncedWatch } from '../blocker/index.ts';
import type { NodeRecord, VolumeRecord } from '../mapper/index.ts';
import type { Link } from '../net/index.ts';
import type { VolumeContext } from './context.ts';
import type { ServedVolume } from './served-volume.ts';
import type { Volume } from './volume.ts';
import { DONE, encodeAnswered, encodeObjectNames, HAND_OVER, handOverCodec, PREPARE, prepareCodec } from './wire.ts';

/** How long an operation waits for the volume to be opened here. */
const OPEN_TIMEOUT_MS = 10_000;
/** How long the link to the next owner may be down: both nodes may have started a moment ago, on a machine that is busy with just that. */
const CONNECT_TIMEOUT_MS = 5_000;
/** How long the next owner may take to take a message. */
const TELL_TIMEOUT_MS = 2000;
/** How long a finished handover waits to see the first I/O pass. */
const SETTLE_TIMEOUT_MS = 5000;
/** Names of unsynced objects in one message. */
const NAMES_A_MESSAGE = 4096;
/** With more than that, a sync comes first: the next owner keeps them all in memory. */
const MOST_UNSYNCED = 1 << 18;
/** When so few have become unsynced while the others were told, the rest is left for the stop. */
const FEW_NAMES = 256;
/** How often what has become unsynced is told ahead; a guest may write faster than that. */
const MOST_ROUNDS = 8;

/** Attempts of this process; no two have the same number. */
let attempts = 0;

export interface HandOverResult {
  readonly epoch: Epoch;
  /** How long the volume admitted no I/O. */
  readonly pauseMs: number;
}

export interface HandOverTarget extends Pick<NodeRecord, 'name' | 'livenessEpoch'> {
  /** For a handover that nobody asked for: the epoch under which it is a good idea. */
  readonly onlyUnder?: Epoch;
  /** Asked again before the stop: the reason may have gone while the next owner was told. */
  readonly isWanted?: () => boolean;
}

/** Gives the volume to a node, whose data process has to be reachable. Nothing is in the store's hands when the entry is proposed. */
export function handOverVolume(context: VolumeContext, volume: Volume, to: HandOverTarget): Promise<HandOverResult> {
  return volume.exclusively(async () => {
    const placed = to.onlyUnder === undefined;
    const expected = (epoch: Epoch | undefined): void => {
      if (!placed && epoch !== to.onlyUnder) throw new ArchipelagoError('stale-epoch', 'the volume has moved meanwhile');
    };
    // What has been given up while this waited for its turn is not taken back, only to be given away.
    expected(volume.record.owner?.epoch);
    const served = await volume.own(OPEN_TIMEOUT_MS);
    expected(served.epoch);
    if (to.name === context.node) {
      volume.followWriter.stay();
      return { epoch: served.epoch, pauseMs: 0 };
    }
    const link = context.linkTo(to.name);
    if (!link) throw new ArchipelagoError('unavailable', `node ${to.name} is not known here`, { hint: 'see `archipelago cluster status`' });
    await link.waitUp(CONNECT_TIMEOUT_MS).catch((error: unknown) => {
      throw notTaken(to.name, error);
    });
    const steps = new Steps(context);
    const telling = new Telling(link, volume.record.id, served, placed);
    try {
      await telling.ahead();
      steps.ended('prepared');
      if (to.isWanted?.() === false) throw new ArchipelagoError('stale-epoch', 'nobody needs the volume there any more');
      const record = await volume.whileStopped(served, () => pass(context, volume, served, to, telling, steps));
      await volume.whenAdmitting(SETTLE_TIMEOUT_MS);
      steps.ended('admitted');
      const pauseMs = steps.sinceMs('prepared');
      context.log.info({ volume: record.id, to: to.name, epoch: record.epoch, unsynced: telling.told, ...steps.tookMs }, 'handed over');
      return { epoch: record.epoch, pauseMs };
    } finally {
      telling.end();
    }
  });
}

/** With nothing admitted any more. */
async function pass(
  context: VolumeContext,
  volume: Volume,
  served: ServedVolume,
  to: HandOverTarget,
  telling: Telling,
  steps: Steps,
): Promise<VolumeRecord> {
  assert(served.owned !== null, 'a snapshot is not handed over');
  const { map, epoch } = served.owned;
  await map.drain();
  if (map.failed) throw map.failed;
  steps.ended('drained');
  await telling.finish();
  steps.ended('told');
  const { id } = volume.record;
  const record = await context.registry.propose<'handOver'>({ type: 'handOver', id, epoch, to: to.name, toLivenessEpoch: to.livenessEpoch });
  steps.ended('agreed');
  return record;
}

/** Tells the next owner what is unsynced, most of it while the volume is still served. */
class Telling {
  /** Names told so far. */
  told = 0;
  private readonly link: Link;
  private readonly volume: VolumeId;
  private readonly served: ServedVolume;
  /** Somebody has asked for it. */
  private readonly placed: boolean;
  private readonly attempt = ++attempts;
  private watch: UnsyncedWatch | null = null;

  constructor(link: Link, volume: VolumeId, served: ServedVolume, placed: boolean) {
    this.link = link;
    this.placed = placed;
    this.volume = volume;
    this.served = served;
  }

  private get map() {
    assert(this.served.owned !== null, 'a snapshot is not handed over');
    return this.served.owned.map;
  }

  /** What is said here names the epoch that the next owner will have. */
  private get epoch(): Epoch {
    return (this.served.epoch + 1) as Epoch;
  }

  async ahead(): Promise<void> {
    await this.map.prepareHandOver();
    await this.tell([]);
    this.watch = this.map.store.watchUnsynced();
    let names = this.watch.take();
    if (names.length > MOST_UNSYNCED) {
      await this.map.flush();
      names = this.watch.take();
    }
    for (let round = 1; round < MOST_ROUNDS && names.length > FEW_NAMES; round++) {
      await this.tellAll(names);
      names = this.watch.take();
    }
    await this.tellAll(names);
    // A fold that has begun meanwhile would keep the drain waiting.
    await this.map.shortenJournal();
  }

  /** Only after everything was drained: nothing becomes unsynced any more, and all that was admitted is answered. */
  async finish(): Promise<void> {
    const names = this.watch?.take() ?? [];
    const rest = names.length % NAMES_A_MESSAGE;
    await this.tellAll(names.slice(0, names.length - rest));
    const message = handOverCodec.encode({
      volume: this.volume,
      epoch: this.epoch,
      attempt: this.attempt,
      told: this.told,
      nextPageSequence: this.map.pageSequence,
      answered: encodeAnswered(this.served.answered.toHandOver()),
      placed: this.placed,
    });
    await this.call(HAND_OVER, message, names.slice(names.length - rest));
  }

  end(): void {
    this.watch?.close();
  }

  private async tellAll(names: readonly ObjectName[]): Promise<void> {
    for (let at = 0; at < names.length; at += NAMES_A_MESSAGE) await this.tell(names.slice(at, at + NAMES_A_MESSAGE));
  }

  private tell(names: readonly ObjectName[]): Promise<void> {
    return this.call(PREPARE, prepareCodec.encode({ volume: this.volume, epoch: this.epoch, attempt: this.attempt, told: this.told }), names);
  }

  private async call(type: number, message: Uint8Array, names: readonly ObjectName[]): Promise<void> {
    const reply = await this.link.call(type, message, encodeObjectNames(names), { timeoutMs: TELL_TIMEOUT_MS }).catch((error: unknown) => {
      throw notTaken(this.link.name, error);
    });
    if (reply.status !== DONE) throw notTaken(this.link.name, null);
    this.told += names.length;
  }
}

/** Whatever became of the message, no handover was proposed: the volume has not moved, and it may be tried again. */
function notTaken(node: string, cause: unknown): unknown {
  if (cause instanceof ArchipelagoError && cause.code !== 'unavailable' && cause.code !== 'timeout') return cause;
  const why = cause instanceof ArchipelagoError ? `: ${cause.message}` : '';
  return new ArchipelagoError('unavailable', `node ${node} did not take the handover${why}`, { cause, hint: 'see `archipelago cluster status`' });
}

type Step = 'prepared' | 'drained' | 'told' | 'agreed' | 'admitted';

/** How long each step took, for the log. */
class Steps {
  readonly tookMs: Record<string, number> = {};
  private readonly clock: VolumeContext['clock'];
  private readonly endedMs = new Map<Step, number>();
  private lastMs: number;

  constructor({ clock }: VolumeContext) {
    this.clock = clock;
    this.lastMs = clock.nowMs();
  }

  ended(step: Step): void {
    const nowMs = this.clock.nowMs();
    this.tookMs[`${step}Ms`] = Math.round((nowMs - this.lastMs) * 10) / 10;
    this.endedMs.set(step, nowMs);
    this.lastMs = nowMs;
  }

  /** From the end of that step to the end of the last one. */
  sinceMs(step: Step): number {
    return this.lastMs - (this.endedMs.get(step) ?? this.lastMs);
  }
}
