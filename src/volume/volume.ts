/**
 * A volume as this process sees it: serves it while this node owns it, passes I/O on to the owner otherwise, and holds I/O in between. Events
 * (a new registry record, a client, an ended session) only note that something changed; one step at a time then brings what this process
 * does in line with the record, so that no two changes interleave.
 */
import { ArchipelagoError, assert, type Epoch, type Log } from '../base/index.ts';
import type { ObjectName } from '../blocker/index.ts';
import type { CommandValues, VolumeRecord } from '../mapper/index.ts';
import { ChangeSignal } from './change-signal.ts';
import type { HandOverState, LastWord, VolumeContext } from './context.ts';
import { abandonedError, changes, type Extent, type VolumeIo } from './device.ts';
import { FollowWriter, type MovableVolume, type Writer, WritingClients } from './first-writes.ts';
import { handOverVolume } from './handover.ts';
import { HeldIo } from './held-io.ts';
import { changeRefusal, isRestricted } from './holds.ts';
import { OwnershipLease } from './lease.ts';
import { CLOSE_WITHIN_MS, Closing, openMap } from './opening.ts';
import { type AttemptMessage, Preparations } from './preparation.ts';
import { RemoteVolume } from './remote-volume.ts';
import { nextSession, SentSequences } from './sequences.ts';
import { ServedVolume } from './served-volume.ts';
import { dropShrunkSpace } from './shrink.ts';
import { MAX_RETRY_MS, Steps } from './steps.ts';

export class Volume {
  record: VolumeRecord;
  /** Set when the registry has removed the volume. */
  removed = false;
  /** There are nodes whose clients may not change it. */
  restricted: boolean;
  /** Clients attached to this process. */
  clients = 0;
  /** Of what is served here as the owner. */
  ownership: MovableVolume['ownership'] = null;
  readonly writers = new WritingClients();
  readonly followWriter: FollowWriter;
  private readonly context: VolumeContext;
  private readonly log: Log;
  /** Takes I/O now; null: it is held. */
  private admitting: ServedVolume | RemoteVolume | null = null;
  private servedVolume: ServedVolume | null = null;
  /** Of what was served here before. */
  private readonly closing: Closing;
  private remote: RemoteVolume | null = null;
  private acquired: (CommandValues['acquire'] & { epoch: Epoch }) | null = null;
  /** Of a handover to this node that may come. */
  readonly preparations: Preparations;
  private handedOver: HandOverState | null = null;
  private readonly held: HeldIo;
  /** Of the changes that are forwarded; null before the first session. */
  private sequences: SentSequences | null = null;
  private readonly steps: Steps;
  private lastError: ArchipelagoError | null = null;
  /** A maintenance operation has taken over admission; steps leave the served volume alone. */
  private suspended = false;
  private wanted = 0;
  private operations: Promise<unknown> = Promise.resolve();
  private readonly signal: ChangeSignal;

  constructor(context: VolumeContext, record: VolumeRecord) {
    this.context = context;
    this.record = record;
    this.restricted = isRestricted(record);
    this.steps = new Steps(context.clock, this.step.bind(this), this.stepEnded.bind(this));
    this.preparations = new Preparations(context);
    this.signal = new ChangeSignal(context.clock);
    this.held = new HeldIo(context.clock, context.ioTimeoutMs, () => this.failHeld(this.whyNotServed));
    this.log = context.log.child({ volume: record.id, name: record.name });
    this.closing = new Closing(this.log);
    this.followWriter = new FollowWriter(this, context.clock, this.log);
  }

  /** Takes a new I/O of a client here, within bounds. */
  submit(io: VolumeIo): void {
    io.sequence = 0;
    this.pass(io);
  }

  /** Also what was submitted before, and has no answer. */
  private pass(io: VolumeIo): void {
    if (this.restricted && changes(io.kind)) {
      const refusal = this.changeRefusal(this.context.node);
      if (refusal !== null) {
        this.sequences?.retire(io);
        io.done(refusal);
        return;
      }
    }
    if (this.admitting !== null) this.admitting.submit(io);
    else this.hold(io);
  }

  /** A client here that attached under `attachedEpoch` writes for the first time. False: it is going to be refused. */
  clientWrites(attachedEpoch: Epoch): boolean {
    const { node } = this.context;
    if (this.changeRefusal(node) !== null) return false;
    this.writers.began(attachedEpoch, this.record.owner?.node !== node);
    if (this.admitting instanceof RemoteVolume) this.writers.tell(this.admitting);
    return true;
  }

  /** For `followWriter`. */
  handOver({ node: name, livenessEpoch, present }: Writer, epoch: Epoch): Promise<unknown> {
    return handOverVolume(this.context, this, { name, livenessEpoch, onlyUnder: epoch, isWanted: () => present() && !this.writers.any });
  }

  /** Non-null while this process serves the volume as its owner. */
  get served(): ServedVolume | null {
    return this.servedVolume;
  }

  /** Why clients of `node` may not change the volume, or null. */
  changeRefusal(node: string): ArchipelagoError | null {
    return changeRefusal(this.record, node);
  }

  // ---- events ----

  update(record: VolumeRecord, missed = false): void {
    this.record = record;
    this.restricted = isRestricted(record);
    if (record.revoked) this.servedVolume?.owned?.lease.revoke?.();
    if (record.owner?.node !== this.context.node) this.forgetHandOver(record.epoch);
    // A session that is still being opened with an owner of before need not be waited for: that one may be dead.
    if (this.remote !== null && this.remote !== this.admitting && this.remote.epoch !== record.owner?.epoch) this.remote.end();
    const takenAway = this.remote?.epoch === record.epoch && record.owner === null && !record.clean;
    if (takenAway || (missed && this.remote !== null && this.remote.epoch < record.epoch)) this.remote?.abandon();
    if (this.servedVolume && !this.suspended) this.servedVolume.sizeBytes = record.sizeBytes;
    this.revokeSuspended();
    this.steps.want();
  }

  remove(): void {
    this.removed = true;
    this.forgetHandOver(Number.POSITIVE_INFINITY as Epoch);
    this.revokeSuspended();
    this.steps.want();
  }

  /** Maintenance may be waiting for answers that a lost lease holds back: when the ownership is gone too, they will never be given. */
  private revokeSuspended(): void {
    const served = this.servedVolume;
    if (served && this.suspended && !this.owns(served.epoch)) void served.revoke((io) => this.takeBackRevoked(io));
  }

  clientsChanged(by: 1 | -1): void {
    this.clients += by;
    assert(this.clients >= 0, 'no more clients leave than have come');
    this.steps.want();
  }

  /** The last word of the owner before to its successor; the registry entry follows. False when it is not of the attempt that was prepared. */
  receiveHandOver(message: AttemptMessage, names: readonly ObjectName[], told: LastWord): boolean {
    const prepared = this.preparations.finish(message, names);
    if (prepared === null) return false;
    this.handedOver?.prepared.drop();
    this.handedOver = { ...told, epoch: message.epoch, prepared };
    return true;
  }

  /**
   * Makes this process the owner, if there is none, and resolves once it serves. Rejects when another node is the owner. `from`: what the
   * record says of earlier epochs is out of date, as the caller knows from elsewhere.
   */
  async own(timeoutMs: number, from = 0 as Epoch): Promise<ServedVolume> {
    const deadlineMs = this.context.clock.nowMs() + timeoutMs;
    this.wanted++;
    try {
      for (let asked = false; ; asked = true) {
        const { owner } = this.record;
        if (this.removed) throw this.goneError();
        const behind = this.record.epoch < from;
        if (!behind && owner !== null && owner.node !== this.context.node)
          throw new ArchipelagoError('stale-epoch', `volume '${this.record.name}' is owned by node ${owner.node}`);
        if (!behind && this.servedVolume?.epoch === owner?.epoch && this.servedVolume?.admits) return this.servedVolume;
        if (this.context.clock.nowMs() >= deadlineMs)
          throw this.lastError ?? new ArchipelagoError('timeout', `volume '${this.record.name}' could not be opened in time`);
        // Once: what fails is tried again at its own pace, and what goes on ends by itself.
        if (!asked) this.steps.want();
        await this.signal.next(deadlineMs);
        if (this.hopeless) throw this.hopeless;
      }
    } finally {
      this.wanted--;
    }
  }

  /** Why no further attempt can succeed while the store is as it is, or null. */
  private get hopeless(): ArchipelagoError | null {
    const { lastError } = this;
    return lastError?.code === 'corrupt' || lastError?.code === 'unsupported-version' ? lastError : null;
  }

  /** Whether the registry says that this process owns the volume under `epoch`. */
  private owns(epoch: Epoch): boolean {
    const { owner } = this.record;
    return !this.removed && owner?.node === this.context.node && owner.epoch === epoch;
  }

  // ---- steps ----

  private stepEnded(error: ArchipelagoError | null): void {
    // Once, however often it is tried: the volumes of a node that died are all tried at this pace.
    const isNews = error !== null && error.message !== this.lastError?.message;
    this.lastError = error;
    if (isNews) this.log.info({ code: error.code, error: error.message }, 'not served yet; trying again');
    this.signal.notify();
  }

  private async step(): Promise<void> {
    if (this.suspended) return;
    const { owner } = this.record;
    const mine = !this.removed && owner?.node === this.context.node ? owner : null;
    if (this.servedVolume && this.servedVolume.epoch !== mine?.epoch) {
      await this.stopServing();
      // That may have taken long, and the record is not what it was: an acquisition now could forget what was told for a handover to this node.
      this.steps.want();
      return;
    }
    if (mine && this.servedVolume?.owned?.map.failed) {
      await this.giveUpFailed(this.servedVolume);
      return;
    }
    const elsewhere = this.removed || owner === null || mine ? null : owner;
    if (this.remote && (this.remote.epoch !== elsewhere?.epoch || this.clients === 0)) {
      if (this.clients === 0) this.remote.close();
      else this.remote.end();
    }
    this.remote?.setClients(this.clients);
    if (this.removed) this.failHeld(this.goneError());
    else if (mine) await this.startServing(mine.epoch);
    else if (elsewhere && this.clients > 0) await this.startForwarding(elsewhere.node, elsewhere.epoch);
    else if (owner === null && (this.clients > 0 || this.wanted > 0)) await this.acquire();
  }

  /** Its store has failed in a way that only a takeover gets over. What has failed was answered so; what comes now is held for the next owner. */
  private async giveUpFailed(served: ServedVolume): Promise<void> {
    if (this.admitting === served) this.admitting = null;
    await this.context.registry.propose<'releaseUnclean'>({ type: 'releaseUnclean', id: this.record.id, epoch: served.epoch });
    this.steps.want();
  }

  private async acquire(): Promise<void> {
    const { id, epoch } = this.record;
    const livenessEpoch = this.context.livenessEpoch();
    // A handover under this epoch did not come about; what was told for it is out of date. For a later one it is not: this node may be behind.
    this.forgetHandOver((epoch + 1) as Epoch);
    const acquired = await this.context.registry.propose<'acquire'>({ type: 'acquire', id, node: this.context.node, livenessEpoch, epoch });
    this.acquired = { ...acquired, epoch: acquired.record.epoch };
    this.steps.want();
  }

  private forgetHandOver(upTo: Epoch): void {
    this.preparations.forget(upTo);
    if (this.handedOver === null || this.handedOver.epoch > upTo) return;
    this.handedOver.prepared.drop();
    this.handedOver = null;
  }

  private async startServing(epoch: Epoch): Promise<void> {
    // One that was opened and could not drop its shrunk space yet goes on from there: a log is never opened twice under one epoch.
    this.servedVolume ??= await this.open(epoch);
    const served = this.servedVolume;
    if (this.admitting === served) return;
    await dropShrunkSpace(this.context, this.record, served);
    // Lost meanwhile: the next step gives it up.
    if (!this.owns(epoch)) return;
    served.resumeAdmitting();
    this.admit(served);
  }

  /** Opens the map under `epoch`. The result admits nothing yet. */
  private async open(epoch: Epoch): Promise<ServedVolume> {
    // A store tells whether an owner before may still be writing, and knows of its own that they have ended once they are closed.
    await this.closing.end();
    // What an owner told counts for its handover alone: one that was aborted may name the epoch that was acquired after its death.
    const acquired = this.acquired?.epoch === epoch;
    const handedOver = !acquired && this.handedOver?.epoch === epoch ? this.handedOver : null;
    if (!handedOver && !acquired) {
      // Owner by an entry whose answer did not arrive: asked again, it is answered the same.
      const livenessEpoch = this.context.livenessEpoch();
      const again = { type: 'acquire', id: this.record.id, node: this.context.node, livenessEpoch, epoch: (epoch - 1) as Epoch } as const;
      this.acquired = { ...(await this.context.registry.propose<'acquire'>(again)), epoch };
    }
    const { context, log } = this;
    const clean = handedOver !== null || (this.acquired?.clean ?? false);
    const beginning = handedOver ?? (this.acquired as CommandValues['acquire']);
    const map = await openMap(context, this.record, epoch, clean, beginning, log);
    const { sizeBytes, blockSizeBytes } = this.record;
    const owned = { map, epoch, lease: new OwnershipLease(context.lease(), context.clock, this.record.revoked) };
    const served = new ServedVolume({
      blockStore: context.blockStore,
      pages: map.pages,
      owned,
      answered: handedOver?.answered ?? [],
      sizeBytes,
      blockSizeBytes,
      mergePace: context.mergePace,
      claims: { clock: context.clock, log },
    });
    served.onFailed = () => this.steps.want();
    await served.stopAdmitting();
    this.ownership = { epoch, sinceMs: context.clock.nowMs(), placed: handedOver?.placed ?? false };
    this.forgetHandOver(epoch);
    return served;
  }

  private async stopServing(): Promise<void> {
    const served = this.servedVolume;
    assert(served !== null, 'only what is served is stopped');
    if (this.admitting === served) this.admitting = null;
    // What the store answers from here on is not told to anyone: it is sent again to the owner there is then.
    await served.revoke((io) => this.takeBackRevoked(io));
    this.servedVolume = null;
    this.ownership = null;
    // Guests find the next owner first.
    this.closing.begin(served, this.whenAdmitting(CLOSE_WITHIN_MS));
  }

  private takeBackRevoked(io: VolumeIo): void {
    if (!io.moved()) this.hold(io);
  }

  private async startForwarding(node: string, epoch: Epoch): Promise<void> {
    if (this.remote) return;
    let opened = false;
    let endedEarly = (): void => undefined;
    const ended = new Promise<never>((_, reject) => {
      endedEarly = () => reject(new ArchipelagoError('unavailable', `node ${node} is no longer the owner`));
    });
    const livenessEpoch = this.context.livenessEpoch();
    const session = nextSession(livenessEpoch);
    this.sequences ??= new SentSequences(session);
    const link = this.context.linkTo(node);
    if (!link) throw new ArchipelagoError('unavailable', `node ${node}, the owner, is not known here`);
    const remote: RemoteVolume = new RemoteVolume({
      link,
      node,
      volume: this.record.id,
      epoch,
      session,
      sequences: this.sequences,
      livenessEpoch,
      clients: this.clients,
      ended: (unanswered) => {
        if (this.admitting === remote) this.admitting = null;
        this.remote = null;
        this.takeBack(unanswered);
        // One that did not even open is a failed step, which is tried again after a pause.
        if (opened) this.steps.want();
        else endedEarly();
      },
    });
    this.remote = remote;
    await Promise.race([remote.open(), ended]);
    // The link may have gone in the very turn in which the answer came.
    if (this.remote !== remote) throw new ArchipelagoError('unavailable', `the link to node ${node} went down`);
    opened = true;
    this.admit(remote);
  }

  // ---- held I/O ----

  private admit(target: ServedVolume | RemoteVolume): void {
    this.admitting = target;
    this.held.stopTimer();
    for (let io = this.held.shift(); io !== null; io = this.held.shift()) {
      if (target === this.servedVolume && io.sequence !== 0) this.passForwarded(io);
      else this.passHeld(io);
      if (this.admitting === null) break;
    }
    if (target instanceof RemoteVolume) this.writers.tell(target);
    else this.writers.servedHere();
    this.signal.notify();
  }

  private passHeld(io: VolumeIo): void {
    const fits = io.offset + io.length <= this.record.sizeBytes;
    if (fits && !io.isAbandoned()) {
      this.pass(io);
      return;
    }
    this.sequences?.retire(io);
    io.done(fits ? abandonedError() : new ArchipelagoError('invalid-argument', 'past the end of the volume, which has shrunk'));
  }

  /** What was forwarded and has no answer is served here now: the owner before may have done it, and have said so in its handover. */
  private passForwarded(io: VolumeIo): void {
    const { sequence } = io;
    this.sequences?.retire(io);
    if (this.servedVolume?.answered.isDone(this.context.node, this.sequences?.origin ?? 0, sequence)) io.done(null);
    else this.passHeld(io);
  }

  private hold(io: VolumeIo): void {
    if (this.removed) {
      io.done(this.goneError());
      return;
    }
    this.held.push(io);
  }

  private takeBack(ios: readonly VolumeIo[]): void {
    this.held.putBack(ios);
    // An old session may end only after the volume has found its new place.
    if (this.admitting !== null && ios.length > 0) this.admit(this.admitting);
  }

  /** For whoever has waited in vain. */
  get whyNotServed(): ArchipelagoError {
    if (this.hopeless) return this.hopeless;
    const { owner, name } = this.record;
    const reason = this.lastError?.message ?? (owner ? `its owner is node ${owner.node}` : 'it has no owner');
    const hint = 'see `archipelago cluster status`';
    return new ArchipelagoError('unavailable', `nobody could serve volume '${name}' in time: ${reason}`, { hint, cause: this.lastError });
  }

  private goneError(): ArchipelagoError {
    return new ArchipelagoError('not-found', `volume '${this.record.name}' was removed`);
  }

  private failHeld(error: ArchipelagoError): void {
    for (let io = this.held.shift(); io !== null; io = this.held.shift()) {
      this.sequences?.retire(io);
      io.done(error);
    }
  }

  // ---- for maintenance (`operations.ts`) ----

  /** One maintenance operation at a time. */
  exclusively<Result>(work: () => Promise<Result>): Promise<Result> {
    const run = this.operations.then(work);
    // Its caller hears of a failure.
    this.operations = run.catch(() => undefined);
    return run;
  }

  /**
   * Runs `work` while the served volume is drained and admits nothing; I/O is held meanwhile. Afterwards it is served again, unless the
   * registry has given it to someone else or removed it.
   */
  async whileStopped<Result>(served: ServedVolume, work: () => Promise<Result>): Promise<Result> {
    assert(!this.suspended, 'one at a time stops a volume');
    this.expectOwned(served);
    this.suspended = true;
    this.admitting = null;
    try {
      await served.stopAdmitting();
      this.expectOwned(served);
      return await work();
    } finally {
      this.suspended = false;
      if (this.owns(served.epoch)) {
        served.sizeBytes = this.record.sizeBytes;
        served.resumeAdmitting();
        this.admit(served);
      }
      this.steps.want();
    }
  }

  private expectOwned(served: ServedVolume): void {
    if (this.servedVolume === served && this.owns(served.epoch)) return;
    throw new ArchipelagoError('stale-epoch', `volume '${this.record.name}' has got another owner meanwhile`, { hint: 'try again' });
  }

  /** Resolves when I/O is admitted again, here or by forwarding, or nobody needs that; false when it took too long. */
  async whenAdmitting(timeoutMs: number): Promise<boolean> {
    const deadlineMs = this.context.clock.nowMs() + timeoutMs;
    while (this.admitting === null && this.clients > 0 && !this.removed) {
      if (this.context.clock.nowMs() >= deadlineMs) return false;
      await this.signal.next(deadlineMs);
      if (this.hopeless) return false;
    }
    return true;
  }

  /** Asked of whoever serves the volume, and again wherever it has moved meanwhile. */
  async extents(offsetBytes: number, lengthBytes: number, maxExtents: number): Promise<Extent[]> {
    const deadlineMs = this.context.clock.nowMs() + this.context.ioTimeoutMs;
    for (;;) {
      const { admitting } = this;
      if (admitting !== null) {
        try {
          return await admitting.extents(offsetBytes, lengthBytes, maxExtents);
        } catch (error) {
          const { code } = ArchipelagoError.from(error, 'looking for data');
          if (code !== 'stale-epoch' && code !== 'unavailable' && code !== 'timeout') throw error;
        }
      }
      if (this.removed) throw this.goneError();
      if (offsetBytes >= this.record.sizeBytes) throw new ArchipelagoError('invalid-argument', 'past the end of the volume, which has shrunk');
      if (this.hopeless || this.context.clock.nowMs() >= deadlineMs) throw this.whyNotServed;
      // Where it has moved, or stopped for a moment, is told by a change; a link that lost the answer may tell nothing.
      if (this.admitting === admitting || this.admitting === null)
        await this.signal.next(Math.min(deadlineMs, this.context.clock.nowMs() + MAX_RETRY_MS));
    }
  }
}
