/**
 * Cores without shells: a test decides when each disk finishes and which message arrives. Everything that a core lets out is written down
 * in one line each, which is what transcripts consist of.
 */
import { Prng } from '../../../src/base/index.ts';
import { configurationOf } from '../../../src/raft/core/configuration.ts';
import { RaftCore } from '../../../src/raft/core/core.ts';
import type {
  Configuration,
  CoreOptions,
  Entry,
  HardState,
  LogIndex,
  Message,
  NodeId,
  Ready,
  SnapshotMeta,
  Term,
} from '../../../src/raft/core/types.ts';

interface Disk {
  hardState: HardState;
  base: SnapshotMeta;
  entries: Entry[];
  applied: LogIndex;
}

interface Member {
  core: RaftCore;
  readonly disk: Disk;
  /** Batches that the disk has not finished. */
  writes: Ready[];
  readonly options: Partial<CoreOptions>;
  sequence: number;
}

export class CoreWorld {
  readonly members = new Map<NodeId, Member>();
  inFlight: Message[] = [];
  private lines: string[] = [];

  add(id: NodeId, voters: readonly NodeId[], learners: readonly NodeId[], options: Partial<CoreOptions>): void {
    const base = { index: 0 as LogIndex, term: 0 as Term, configuration: configurationOf(voters, learners) };
    const disk: Disk = { hardState: { term: 0 as Term, votedFor: null }, base, entries: [], applied: 0 as LogIndex };
    this.members.set(id, { core: newCore(id, disk, options), disk, writes: [], options, sequence: 0 });
  }

  member(id: NodeId): Member {
    const member = this.members.get(id);
    if (member === undefined) throw new Error(`no member ${id}`);
    return member;
  }

  say(line: string): void {
    this.lines.push(line);
  }

  takeLines(): string[] {
    const taken = this.lines;
    this.lines = [];
    return taken;
  }

  /** Takes every effect that is due; disks stay busy until `persist`. */
  collect(): void {
    for (const [id, member] of this.members) {
      while (member.core.hasReady()) this.carryOut(id, member, member.core.takeReady());
    }
  }

  /** Finishes the oldest write of a member. */
  persist(id: NodeId): void {
    const member = this.member(id);
    const write = member.writes.shift();
    if (write === undefined) {
      this.say(`${id} has nothing to write`);
      return;
    }
    const { disk, core } = member;
    if (write.hardState !== null) disk.hardState = write.hardState;
    if (write.snapshot !== null) Object.assign(disk, { base: write.snapshot, entries: [], applied: write.snapshot.index });
    const first = write.entries[0];
    if (first !== undefined) disk.entries = [...disk.entries.filter(({ index }) => index < first.index), ...write.entries];
    for (const message of write.messagesAfterPersist) this.post(message);
    const last = write.entries.at(-1);
    if (last !== undefined) core.persisted(last.index, last.term);
    this.collect();
  }

  deliver(message: Message): void {
    const member = this.members.get(message.to);
    if (member === undefined) return;
    this.say(`> ${describeMessage(message)}`);
    member.core.step(message);
    this.collect();
  }

  /** Finishes all writes and delivers all messages among `ids` until nothing is left. */
  stabilize(ids: readonly NodeId[]): void {
    for (let round = 0; round < 1000; round++) {
      const busy = ids.filter((id) => this.member(id).writes.length > 0);
      for (const id of busy) this.persist(id);
      const messages = this.inFlight.filter(({ from, to }) => ids.includes(from) && ids.includes(to));
      this.inFlight = this.inFlight.filter((message) => !messages.includes(message));
      for (const message of messages) this.deliver(message);
      if (busy.length === 0 && messages.length === 0) return;
    }
    throw new Error('the world does not come to rest');
  }

  /** A crash: what the disk had not finished is gone. */
  restart(id: NodeId): void {
    const member = this.member(id);
    member.writes = [];
    member.core = newCore(id, member.disk, member.options);
  }

  compact(id: NodeId, index: number): void {
    const { core, disk } = this.member(id);
    const meta = core.metaAt(index as LogIndex);
    core.compact(meta.index);
    disk.base = meta;
    disk.entries = disk.entries.filter((entry) => entry.index > index);
  }

  private carryOut(id: NodeId, member: Member, ready: Ready): void {
    if (ready.hardState !== null) this.say(`${id}: term ${ready.hardState.term}, vote ${ready.hardState.votedFor ?? 'none'}`);
    if (ready.snapshot !== null) this.say(`${id}: installs snapshot ${describeMeta(ready.snapshot)}`);
    if (ready.entries.length > 0) this.say(`${id}: writes ${ready.entries.map(describeEntry).join(', ')}`);
    for (const message of ready.messages) this.post(message);
    for (const read of ready.reads) this.say(`${id}: read ${read.context} ${read.refused ? 'refused' : `at ${read.index}`}`);
    if (ready.committed.length > 0) {
      this.say(`${id}: commits ${ready.committed.map(describeEntry).join(', ')}`);
      const last = ready.committed.at(-1) as Entry;
      member.core.applied(last.index);
      member.disk.applied = last.index;
    }
    const idle = ready.hardState === null && ready.entries.length === 0 && ready.snapshot === null && member.writes.length === 0;
    if (idle) for (const message of ready.messagesAfterPersist) this.post(message);
    else member.writes.push(ready);
  }

  private post(message: Message): void {
    if (message.to === message.from) {
      this.member(message.to).core.step(message);
      return;
    }
    this.say(`  ${describeMessage(message)}`);
    this.inFlight.push(message);
  }
}

function newCore(id: NodeId, disk: Disk, options: Partial<CoreOptions>): RaftCore {
  // What a disk holds of a log may be shorter than what is applied, if the writes were lost in the crash; the state is then that of the log's end.
  const applied = Math.min(disk.applied, disk.base.index + disk.entries.length) as LogIndex;
  return new RaftCore(id, { ...disk, applied }, new Prng(1), options);
}

export function describeConfiguration(configuration: Configuration): string {
  const { voters, outgoing, learners, learnersNext } = configuration;
  const part = (name: string, ids: readonly NodeId[]) => (ids.length === 0 ? '' : ` ${name} ${ids.join(' ')}`);
  return `voters ${voters.join(' ')}${part('outgoing', outgoing)}${part('learners', learners)}${part('later-learners', learnersNext)}`;
}

function describeMeta(meta: SnapshotMeta): string {
  return `${meta.index}/${meta.term} (${describeConfiguration(meta.configuration)})`;
}

function describeEntry(entry: Pick<Entry, 'index' | 'term' | 'kind' | 'data'>): string {
  const what = entry.kind === 'noop' ? 'noop' : entry.kind === 'command' ? new TextDecoder().decode(entry.data) : 'configuration';
  return `${entry.index}/${entry.term} ${what}`;
}

export function describeMessage(message: Message): string {
  return `${message.from}→${message.to} term ${message.term} ${describeBody(message)}`;
}

function describeBody(message: Message): string {
  switch (message.type) {
    case 'preVote':
    case 'vote':
      return `${message.type}${message.force ? ' (forced)' : ''}, log ends ${message.lastIndex}/${message.lastTerm}`;
    case 'preVoteReply':
    case 'voteReply':
      return `${message.type} ${message.granted ? 'yes' : 'no'}`;
    case 'append': {
      const entries = message.entries.length === 0 ? 'nothing' : message.entries.map(describeEntry).join(', ');
      return `append after ${message.previousIndex}/${message.previousTerm}: ${entries}; commit ${message.commit}`;
    }
    case 'appendReply':
      return message.rejected
        ? `appendReply no to ${message.index}, try ${message.hintIndex}/${message.hintTerm}`
        : `appendReply up to ${message.index}`;
    case 'heartbeat':
      return `heartbeat commit ${message.commit}, round ${message.round}`;
    case 'heartbeatReply':
      return `heartbeatReply round ${message.round}`;
    case 'snapshot':
      return `snapshot ${describeMeta(message.snapshot)}`;
    case 'propose':
      return `propose ${message.entries.map(({ data }) => new TextDecoder().decode(data)).join(', ')}`;
    case 'readIndex':
      return `readIndex ${message.context}`;
    case 'readIndexReply':
      return `readIndexReply ${message.context} ${message.refused ? 'refused' : `at ${message.index}`}`;
    case 'transferLeader':
      return `transferLeader to ${message.target}`;
    case 'timeoutNow':
      return 'timeoutNow';
  }
}
