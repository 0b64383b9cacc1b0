/**
 * One member of a group, running: it drives the core with messages and ticks and carries out its effects on storage, transport and state
 * machine. Everything happens in one turn of the event loop at a time; only the disk works beside it, one batch after another.
 */
import { ArchipelagoError, assert, type Timer } from '../base/index.ts';
import { Applier } from './applier.ts';
import type { Members } from './core/configuration.ts';
import { type CoreStatus, RaftCore } from './core/core.ts';
import { DEFAULT_CORE_OPTIONS, type Entry, type Message, type NodeId, type Ready, type SnapshotMeta, type Term } from './core/types.ts';
import { Notices } from './notices.ts';
import { DEFAULTS, type RaftOptions, type RaftStatus } from './options.ts';
import { OutgoingSnapshots } from './outgoing-snapshots.ts';
import { Pace } from './pace.ts';
import { type PendingBatch, PendingWrites } from './pending-writes.ts';
import { Proposals } from './proposals.ts';
import { ReadBarriers } from './read-barriers.ts';
import { type ReceivedSnapshot, SnapshotReceiver } from './snapshot-receiver.ts';
import { LevelStorage } from './storage/level-storage.ts';
import type { RaftStorage } from './storage/storage.ts';
import { decodeFrame, encodeFrame, type FrameBody } from './wire.ts';

const DEFAULT_TIMEOUT_MS = 10_000;
/**
 * Applied changes are stored now and then, not with each batch of the log: the log has what they come from, and keys that change often, as
 * those of sessions do with every command, are then written once. After so many ticks or bytes they go along with the next batch.
 */
const STORE_TICKS = 10;
const STORE_BYTES = 256 * 1024;
/** Entries dropped from the log in one batch. */
const COMPACT_ENTRIES = 2048;
/** How many times the kept log may be held back for a snapshot that is on its way. */
const PINNED_FACTOR = 4;
const NOW = Promise.resolve();

type State = 'running' | 'stopped' | 'failed';

/**
 * A running member. All calls come from the thread that opened it; each is one event that ends before the next begins, so they may come in any
 * order and from callbacks, but not from within `StateMachine.apply` or `RaftTransport.send`.
 */
export class RaftNode {
  private readonly options: RaftOptions;
  private readonly storage: RaftStorage;
  private readonly core: RaftCore;
  private readonly applier: Applier;
  private readonly proposals: Proposals;
  private readonly barriers: ReadBarriers;
  private readonly receiver: SnapshotReceiver;
  private readonly writes = new PendingWrites();
  private readonly outgoing: OutgoingSnapshots;
  private readonly notices: Notices;
  private readonly pace = new Pace();
  private readonly keepEntries: number;
  private readonly keepBytes: number;
  private state: State = 'running';
  private timer: Timer;
  private pumpScheduled = false;
  private proposalsQueued = false;
  /** The batch on its way to the disk. */
  private writing: Promise<void> | null = null;
  /** Everything that is under way; `stop` waits for it. */
  private readonly background = new Set<Promise<void>>();
  /** A received snapshot takes the place of state and log; nothing else is taken from the core meanwhile. */
  private installation: Promise<void> | null = null;
  private received: ReceivedSnapshot | null = null;
  private ticksSinceStore = 0;
  /** The next batch takes along what was applied. */
  private storeDue = false;
  private numbers = 0;
  private known: { leader: NodeId | null; term: Term };

  /**
   * Reads and verifies what is stored, loads the state machine, and starts. Rejects with `corrupt` (damage, or synced records that are gone),
   * `conflict` (another member's directory), `in-use`, `io-error` or `unsupported-version`, and has then changed nothing. The state is that of
   * the last store before the end, up to a second old; the commands behind it are in the log and are applied again once a leader says that
   * they are committed.
   */
  static async open(options: RaftOptions): Promise<RaftNode> {
    const { id, directory, bootstrap, log } = options;
    const storage = await (options.openStorage?.() ?? LevelStorage.open({ id, directory, bootstrap, log }));
    try {
      const applier = new Applier(options.stateMachine);
      applier.load(await storage.readState());
      return new RaftNode(options, storage, applier);
    } catch (error) {
      await storage.close();
      throw error;
    }
  }

  private constructor(options: RaftOptions, storage: RaftStorage, applier: Applier) {
    this.options = options;
    this.storage = storage;
    this.applier = applier;
    this.keepEntries = options.keepEntries ?? DEFAULTS.keepEntries;
    this.keepBytes = options.keepBytes ?? DEFAULTS.keepBytes;
    const { id, clock, random, log } = options;
    const electionTicks = options.electionTicks ?? DEFAULT_CORE_OPTIONS.electionTicks;
    this.core = new RaftCore(id, storage.initial, random, {
      ...options.core,
      electionTicks,
      heartbeatTicks: options.heartbeatTicks ?? DEFAULT_CORE_OPTIONS.heartbeatTicks,
    });
    const retryMs = electionTicks * this.tickMs;
    this.proposals = new Proposals(id, storage.starts, clock, this.core, retryMs);
    this.barriers = new ReadBarriers(
      clock,
      (context) => this.core.readIndex(context),
      () => this.uniqueNumber(),
      retryMs,
    );
    this.receiver = new SnapshotReceiver(
      storage,
      log,
      (to, chunkReply) => this.transmit(to, { chunkReply }),
      (received) => this.offerSnapshot(received),
    );
    this.outgoing = new OutgoingSnapshots({
      core: this.core,
      storage,
      log,
      options: {
        chunkBytes: options.snapshotChunkBytes ?? DEFAULTS.snapshotChunkBytes,
        window: 8,
        resendTicks: electionTicks,
        giveUpTicks: 30 * electionTicks,
      },
      send: (to, chunk) => this.transmit(to, { chunk }),
      uniqueNumber: () => this.uniqueNumber(),
      inBackground: (work) => this.inBackground(work),
    });
    this.notices = new Notices(clock, (message) => this.transmit(message.to, { raft: message }));
    const { leader, term, configuration } = this.core.status();
    this.known = { leader, term };
    // A group of one need not wait for anybody.
    if (configuration.voters.length === 1 && configuration.voters[0] === id && configuration.outgoing.length === 0) this.core.campaign();
    this.timer = clock.setTimer(this.tickMs, () => this.tick());
    this.schedulePump();
  }

  /**
   * Takes a frame that `from`, authenticated by the transport, sent. Its bytes are copied where they are kept. Frames that make no sense are
   * logged and dropped, and so is everything once this member has stopped.
   */
  receive(from: NodeId, frame: Uint8Array): void {
    this.guard(() => {
      const { id, log } = this.options;
      let decoded: ReturnType<typeof decodeFrame>;
      try {
        decoded = decodeFrame(frame);
      } catch (error) {
        log.warn({ from, error }, 'dropped a Raft frame');
        return;
      }
      if (decoded.from !== from || decoded.to !== id) {
        log.warn({ from, claims: decoded.from, to: decoded.to }, 'dropped a Raft frame that is not from its sender to this node');
      } else if ('raft' in decoded) {
        this.core.step(decoded.raft);
        this.schedulePump();
      } else if ('chunk' in decoded) {
        this.inBackground(this.receiver.receive(from, decoded.chunk));
      } else {
        this.outgoing.reply(from, decoded.chunkReply);
        this.schedulePump();
      }
    });
  }

  /**
   * Resolves with the state machine's result once the command is durable on a quorum and was applied *here*. It goes to the leader from any
   * member, and is tried again through changes of leader; however often it arrives, it is applied once (thesis 6.3). Proposals of one member are
   * applied in the order of the calls, unless messages are lost on the way; who needs an order awaits.
   *
   * `command` must not be changed any more. `timeoutMs` (default 10 000) is counted in whole ticks. Rejects with `unavailable` if certainly nobody
   * has applied it or will (no leader took it, or 16 384 proposals or 64 MiB of them wait here already), or with `timeout` if its outcome is unknown.
   * With `stop` and `fatal` whoever waits is rejected in the same way.
   */
  propose(command: Uint8Array, options: { timeoutMs?: number } = {}): Promise<Uint8Array> {
    if (this.state !== 'running') return Promise.reject(this.notRunning());
    const result = this.proposals.add(command, options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    // Handed on by the next pump, so that commands of the same turn travel together.
    this.proposalsQueued = true;
    this.schedulePump();
    return result;
  }

  /**
   * Linearizable read (ReadIndex, thesis 6.4): once it resolves, the state machine here has everything that was committed anywhere before the
   * call. It costs a round of heartbeats that began after it, shared by all barriers that wait, and writes nothing. Rejects with `unavailable` after
   * `timeoutMs` (default 10 000); asking again is harmless.
   */
  readBarrier(options: { timeoutMs?: number } = {}): Promise<void> {
    if (this.state !== 'running') return Promise.reject(this.notRunning());
    const barrier = this.barriers.add(options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    this.schedulePump();
    return barrier;
  }

  /** Cheap; for a decision that must not rest on an old leader's belief, pass a `readBarrier` first. */
  status(): RaftStatus {
    const { id, role, term, leader, commitIndex, appliedIndex, configuration } = this.core.status();
    const { voters, learners } = configuration;
    return { id, role, term, leader, commitIndex, appliedIndex, voters, learners };
  }

  /** More than `status`: for a leader also what it knows of each member. */
  coreStatus(): CoreStatus {
    return this.core.status();
  }

  /**
   * Asks for a change of leader (thesis 3.10), from any member; whether it came about shows in `status`. The leader takes no proposals until the
   * target has caught up and campaigned, for an election timeout at most. A target that is no voter is ignored.
   */
  transferLeadership(to: NodeId): void {
    this.guard(() => {
      this.core.transferLeader(to);
      this.schedulePump();
    });
  }

  /**
   * Begins a change of members, on the leader only: one step where at most one voter changes, else through a joint configuration (thesis 4.1,
   * 4.3). A new member should first be a learner, until `coreStatus` shows that it has caught up. It is through once `coreStatus` shows the wanted members and `membershipSettled`.
   * Throws `unavailable` elsewhere, `in-use` while another change goes on, `invalid-argument` for members that cannot be.
   */
  changeMembers(wanted: Members): void {
    if (this.state !== 'running') throw this.notRunning();
    this.core.proposeConfiguration(wanted);
    this.schedulePump();
  }

  /**
   * Stops without saying good-bye to anyone: callers that lead may transfer leadership first. Whoever waits is rejected. Resolves when the
   * directory is closed and another process may open it; all that was applied is stored then. A second call does nothing.
   */
  async stop(): Promise<void> {
    if (this.state === 'stopped') return;
    const failed = this.state === 'failed';
    this.end('stopped', 'this node was stopped');
    this.outgoing.close();
    while (this.background.size > 0) await Promise.all(this.background);
    if (!failed) await this.storeApplied();
    await this.storage.close();
  }

  private get tickMs(): number {
    return this.options.tickMs ?? DEFAULTS.tickMs;
  }

  /** A number that no start of this node has used or will use. */
  private uniqueNumber(): number {
    const number = this.storage.starts * 0x1_0000_0000 + ++this.numbers;
    assert(Number.isSafeInteger(number) && this.numbers < 0x1_0000_0000, 'unique numbers are used up');
    return number;
  }

  private tick(): void {
    this.guard(() => {
      this.timer = this.options.clock.setTimer(this.tickMs, () => this.tick());
      this.core.tick();
      this.proposals.tick(this.core.role === 'leader');
      this.barriers.tick();
      this.outgoing.tick();
      if (++this.ticksSinceStore >= STORE_TICKS) {
        this.ticksSinceStore = 0;
        this.inBackground(this.storage.settle());
        this.storeDue = this.applier.hasChanges;
      }
      this.schedulePump();
    });
  }

  /** Runs the pump once for all events of this turn. */
  private schedulePump(): void {
    if (this.pumpScheduled) return;
    this.pumpScheduled = true;
    // Costs less than `queueMicrotask`, which makes a resource for async hooks each time.
    void NOW.then(() => {
      this.pumpScheduled = false;
      this.guard(() => this.pump());
    });
  }

  private pump(): void {
    if (this.proposalsQueued) this.proposalsQueued = !this.pace.submit(this.core, this.proposals);
    this.barriers.submit();
    while (this.installation === null && this.core.hasReady()) this.handle(this.core.takeReady());
    this.noteLeader();
    if (this.installation === null) this.startWrite();
  }

  private handle(ready: Ready): void {
    for (const message of ready.messages) {
      if (message.type === 'append' && message.quiet && this.mayWait(message.to, ready)) this.notices.hold(message, this.sendNotices);
      else this.sendMessage(message);
    }
    if (ready.snapshot !== null) {
      this.installation = this.install(ready, ready.snapshot);
      this.inBackground(this.installation);
      return;
    }
    this.writes.add(ready);
    // The disk works while the state machine does.
    this.startWrite();
    this.carryOut(ready);
  }

  private carryOut(ready: Ready): void {
    for (const entry of ready.committed) this.apply(entry);
    const last = ready.committed.at(-1);
    if (last !== undefined) this.noteApplied(last.index);
    for (const read of ready.reads) this.barriers.answer(read, this.core.appliedIndex);
  }

  private apply(entry: Entry): void {
    if (entry.kind !== 'command') return;
    const outcome = this.applier.apply(entry);
    if (entry.clientId === this.options.id && entry.session === this.storage.starts) this.proposals.settle(entry.sequence, outcome);
  }

  private noteApplied(index: Entry['index']): void {
    this.core.applied(index);
    this.barriers.applied(index);
    this.options.onApplied?.(index);
  }

  private sendMessage(message: Message): void {
    if (message.to === this.options.id) this.core.step(message);
    else if (message.type === 'snapshot') this.inBackground(this.outgoing.begin(message.to, message.term));
    else {
      this.notices.precede(message);
      this.transmit(message.to, { raft: message });
    }
  }

  /** A member that asked for one of the commands answers it when it is told of the commit, some commands press anyway, and a leader that resigns has no later append. */
  private mayWait(to: NodeId, { committed }: Ready): boolean {
    const { stateMachine } = this.options;
    const presses = ({ kind, clientId, data }: Entry) => clientId === to || (kind === 'command' && stateMachine.isUrgent?.(data) === true);
    return this.core.role === 'leader' && !committed.some(presses);
  }

  private readonly sendNotices = (): void => this.guard(() => this.notices.sendAll());

  private transmit(to: NodeId, body: FrameBody): void {
    if (this.state === 'running') this.options.transport.send(to, encodeFrame(this.options.id, to, body));
  }

  /** A new leader may not have what the old one was asked. */
  private noteLeader(): void {
    const { leader, term } = this.core;
    if (leader === this.known.leader && term === this.known.term) return;
    this.known = { leader, term };
    this.options.log.info({ leader, term }, leader === null ? 'no leader' : 'following a leader');
    if (leader !== null) {
      this.proposals.submit(true);
      this.barriers.askAgain();
      this.barriers.submit();
      this.schedulePump();
    }
    this.options.onLeaderChange?.(leader, term);
  }

  /** Gives the disk what waits for it, unless it is busy. */
  private startWrite(): void {
    if (this.writing !== null) return;
    this.storeDue ||= this.applier.pendingBytes >= STORE_BYTES;
    if (!this.writes.needsDisk && !this.storeDue) {
      if (!this.writes.isEmpty) this.finishWrite(this.writes.take());
      return;
    }
    const batch = this.writes.take();
    this.writing = this.store(batch);
    this.inBackground(
      this.writing.then(() => {
        this.writing = null;
        this.guard(() => this.finishWrite(batch));
      }),
    );
  }

  private store(batch: Pick<PendingBatch, 'hardState' | 'entries'>): Promise<void> {
    const compactTo = this.compaction();
    const at = this.core.metaAt(this.core.appliedIndex);
    if (compactTo !== null) this.core.compact(compactTo.index);
    // What is dropped from the log must be in the stored state.
    const storesApplied = (this.storeDue || compactTo !== null) && at.index > this.storage.applied;
    this.storeDue = false;
    // The others' disks then work beside this one.
    this.options.transport.flush?.();
    return this.storage.write({
      hardState: batch.hardState,
      entries: batch.entries,
      // Entries come before what was applied of them: both are in this batch or in an earlier one.
      applied: storesApplied ? { at, changes: this.applier.takeChanges() } : null,
      compactTo,
    });
  }

  private finishWrite(batch: PendingBatch): void {
    if (this.state !== 'running') return;
    for (const message of batch.messages) this.sendMessage(message);
    // A leader waits for them, and its clients with it.
    if (batch.messages.length > 0) this.options.transport.flush?.();
    if (batch.last !== null) this.core.persisted(batch.last.index, batch.last.term);
    this.schedulePump();
  }

  /** What to drop of the log now, if it has grown well beyond what is kept. */
  private compaction(): SnapshotMeta | null {
    const { keepEntries, keepBytes } = this;
    const { entries, bytes } = this.core.logSize();
    if (entries <= keepEntries + keepEntries / 4 && bytes <= keepBytes + keepBytes / 4) return null;
    const { baseIndex } = this.core;
    let to = Math.min(this.core.compactionTarget(keepEntries, keepBytes), baseIndex + COMPACT_ENTRIES);
    if (entries <= keepEntries * PINNED_FACTOR && bytes <= keepBytes * PINNED_FACTOR) {
      // A receiver needs the log from its snapshot on, or it would need another snapshot for ever.
      to = Math.min(to, this.outgoing.oldestIndex);
    }
    return to > baseIndex ? this.core.metaAt(to as Entry['index']) : null;
  }

  private async storeApplied(): Promise<void> {
    if (this.installation !== null || (!this.applier.hasChanges && !this.writes.needsDisk)) return;
    this.storeDue = true;
    await this.store(this.writes.take());
  }

  /** All of a snapshot is staged here: the core decides whether it replaces what this node has. */
  private async offerSnapshot(received: ReceivedSnapshot): Promise<void> {
    if (this.state !== 'running') return;
    const { from, snapshot, staging } = received;
    this.received = received;
    this.core.step({ from, to: this.options.id, term: received.term as Term, type: 'snapshot', snapshot });
    this.guard(() => this.pump());
    if (this.received === null) {
      // Taken. The receiver stages nothing else before it is in place.
      await this.installation;
      return;
    }
    this.received = null;
    await staging.discard();
  }

  private async install(ready: Ready, snapshot: SnapshotMeta): Promise<void> {
    const { received } = this;
    assert(received !== null && received.snapshot.index === snapshot.index, 'the core installs the snapshot that was received');
    this.received = null;
    this.options.log.info({ from: received.from, index: snapshot.index }, 'installing a snapshot');
    await this.writing;
    // Entries that waited for the disk are part of what the snapshot replaces; promises about them were true when made, or never sent.
    const { hardState, messages } = this.writes.take();
    await this.storage.install(received.staging, snapshot, ready.hardState ?? hardState);
    this.applier.load(await this.storage.readState());
    this.installation = null;
    if (this.state !== 'running') return;
    for (const message of messages) if (message.type !== 'appendReply') this.sendMessage(message);
    this.writes.add({ ...ready, hardState: null });
    this.noteApplied(snapshot.index);
    const { starts } = this.storage;
    this.proposals.settleFrom((sequence) => this.applier.resultOf(this.options.id, starts, sequence));
    this.carryOut(ready);
    this.schedulePump();
  }

  /** Runs one event; anything thrown is a broken invariant. */
  private guard(event: () => void): void {
    if (this.state !== 'running') return;
    try {
      event();
    } catch (error) {
      this.fail(error);
    }
  }

  private inBackground(work: Promise<void>): void {
    const settled = work.catch((error: unknown) => this.fail(error)).finally(() => this.background.delete(settled));
    this.background.add(settled);
  }

  private fail(error: unknown): void {
    if (this.state !== 'running') return;
    this.end('failed', 'this node failed');
    this.options.log.error({ error }, 'Raft stops: its disk failed or an invariant broke');
    this.options.fatal(error instanceof Error ? error : new Error(String(error)));
  }

  private end(state: State, reason: string): void {
    this.state = state;
    this.timer.cancel();
    this.notices.close();
    this.proposals.failAll(reason);
    this.barriers.failAll(reason);
  }

  private notRunning(): ArchipelagoError {
    return new ArchipelagoError('unavailable', `member ${this.options.id} is ${this.state}`);
  }
}
