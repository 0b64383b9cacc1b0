/**
 * The log as the core sees it: everything after the base, in memory. It is bounded, because the shell compacts what is applied and the
 * core refuses proposals beyond a bound; so the core never reads a disk.
 *
 *   base < applied ≤ committed ≤ last      base ≤ persisted ≤ last      handedOut ≤ last
 */
import { assert, broken } from '../../base/index.ts';
import { decodeConfiguration } from './configuration.ts';
import type { Configuration, Entry, InitialState, LogIndex, SnapshotMeta, Term } from './types.ts';

/** What an entry counts for in byte bounds: its data and a little for its header. */
export function entryBytes(entry: { readonly data: Uint8Array }): number {
  return entry.data.byteLength + 48;
}

interface LoggedConfiguration {
  readonly index: LogIndex;
  readonly configuration: Configuration;
}

export class RaftLog {
  private entries: Entry[];
  private base: SnapshotMeta;
  /** Configurations in the log, oldest first; the first is the base's. The last one counts. */
  private configurations: LoggedConfiguration[];
  committed: LogIndex;
  applied: LogIndex;
  /** Committed entries up to here were handed to the shell. */
  delivered: LogIndex;
  /** Entries up to here were handed to the shell to be written; a truncation takes it back. */
  handedOut: LogIndex;
  /** Durable here up to this index, and still the same entries. */
  persisted: LogIndex;
  /** Of all entries held. */
  bytes = 0;

  constructor(initial: InitialState) {
    this.base = initial.base;
    this.entries = [];
    this.configurations = [{ index: initial.base.index, configuration: initial.base.configuration }];
    this.committed = initial.applied;
    this.applied = initial.applied;
    this.delivered = initial.applied;
    for (const entry of initial.entries) this.push(entry);
    this.handedOut = this.lastIndex;
    this.persisted = this.lastIndex;
    assert(initial.applied >= this.base.index, 'state is at least as new as the base of the log');
    assert(initial.applied <= this.lastIndex, 'state is not ahead of the log');
  }

  get baseIndex(): LogIndex {
    return this.base.index;
  }

  get lastIndex(): LogIndex {
    return (this.base.index + this.entries.length) as LogIndex;
  }

  get lastTerm(): Term {
    return this.entries.at(-1)?.term ?? this.base.term;
  }

  /** The newest configuration in the log, committed or not: the one that counts. */
  get configuration(): Configuration {
    return this.newestConfiguration.configuration;
  }

  /** Where the newest configuration stands; it is settled once this is committed. */
  get configurationIndex(): LogIndex {
    return this.newestConfiguration.index;
  }

  private get newestConfiguration(): LoggedConfiguration {
    return this.configurations[this.configurations.length - 1] as LoggedConfiguration;
  }

  /** The committed configuration and those that may still be taken back. */
  openConfigurations(): Configuration[] {
    const settled = this.configurations.findLastIndex(({ index }) => index <= this.committed);
    return this.configurations.slice(Math.max(0, settled)).map(({ configuration }) => configuration);
  }

  configurationAt(index: LogIndex): Configuration {
    const held = this.configurations.findLast((logged) => logged.index <= index);
    if (held === undefined) broken(`the configuration at ${index} is compacted away`);
    return held.configuration;
  }

  /** Null when compacted away or beyond the end. */
  termAt(index: LogIndex): Term | null {
    if (index === this.base.index) return this.base.term;
    return this.entries[index - this.base.index - 1]?.term ?? null;
  }

  matches(index: LogIndex, term: Term): boolean {
    return this.termAt(index) === term;
  }

  /** Whether a log that ends so is at least as complete as this one (Raft 5.4.1). */
  isUpToDate(lastIndex: LogIndex, lastTerm: Term): boolean {
    return lastTerm > this.lastTerm || (lastTerm === this.lastTerm && lastIndex >= this.lastIndex);
  }

  /** Entries after `after` up to `to`, at most `maxBytes` of them but at least one. */
  slice(after: LogIndex, to: LogIndex, maxBytes: number): Entry[] {
    if (after < this.base.index || to > this.lastIndex) broken(`entries ${after}..${to} are not all in the log`);
    const start = after - this.base.index;
    let end = start;
    let bytes = 0;
    while (end < to - this.base.index) {
      bytes += entryBytes(this.entries[end] as Entry);
      if (bytes > maxBytes && end > start) break;
      end++;
    }
    return this.entries.slice(start, end);
  }

  /** Appends entries that follow the end, as a leader does with its own. */
  append(entries: readonly Entry[]): void {
    for (const entry of entries) this.push(entry);
  }

  /**
   * Takes over a leader's entries, which follow an index at which the logs match. What is here already stays: a late message must not
   * cut off what a newer one brought. What contradicts is cut off with everything behind it.
   */
  merge(entries: readonly Entry[]): void {
    for (const [position, entry] of entries.entries()) {
      if (this.matches(entry.index, entry.term)) continue;
      if (entry.index <= this.lastIndex) this.truncate(entry.index);
      this.append(entries.slice(position));
      return;
    }
  }

  /**
   * The last index up to `from` whose term is at most `term`: where two logs may agree, so that a whole term is skipped in one round.
   */
  lastIndexWithTermUpTo(from: LogIndex, term: Term): LogIndex {
    let index = Math.min(from, this.lastIndex);
    while (index > this.base.index && (this.termAt(index as LogIndex) as Term) > term) index--;
    return index as LogIndex;
  }

  /** True if that moved the commit index. */
  commitTo(index: LogIndex): boolean {
    if (index <= this.committed) return false;
    if (index > this.lastIndex)
      broken(`commit index ${index} is beyond the end of the log at ${this.lastIndex}: entries that were acknowledged are gone`);
    this.committed = index;
    return true;
  }

  /** Counts a finished write, if what it wrote is still part of the log. */
  notePersisted(index: LogIndex, term: Term): void {
    if (index > this.persisted && this.matches(index, term)) this.persisted = index;
  }

  noteApplied(index: LogIndex): void {
    if (index < this.applied || index > this.delivered)
      broken(`applied ${index}, between ${this.applied} and what was handed out, ${this.delivered}`);
    this.applied = index;
  }

  compactionTarget(keepEntries: number, keepBytes: number): LogIndex {
    let index = this.applied as number;
    let bytes = 0;
    while (index > this.base.index && this.applied - index < keepEntries) {
      bytes += entryBytes(this.entries[index - this.base.index - 1] as Entry);
      if (bytes > keepBytes) break;
      index--;
    }
    return index as LogIndex;
  }

  /** Drops entries up to `index`, which are applied. */
  compact(index: LogIndex): void {
    if (index <= this.base.index) return;
    assert(index <= this.applied, `only what is applied is compacted: ${index}, applied ${this.applied}`);
    const term = this.termAt(index) as Term;
    const configuration = this.configurationAt(index);
    for (const dropped of this.entries.splice(0, index - this.base.index)) this.bytes -= entryBytes(dropped);
    this.base = { index, term, configuration };
    this.configurations = [{ index, configuration }, ...this.configurations.filter((logged) => logged.index > index)];
  }

  /** Replaces everything by a snapshot. */
  restore(snapshot: SnapshotMeta): void {
    assert(snapshot.index > this.committed, 'a snapshot that replaces the log is newer than what is committed');
    this.base = snapshot;
    this.entries = [];
    this.bytes = 0;
    this.configurations = [{ index: snapshot.index, configuration: snapshot.configuration }];
    this.committed = snapshot.index;
    this.applied = snapshot.index;
    this.delivered = snapshot.index;
    this.handedOut = snapshot.index;
    this.persisted = snapshot.index;
  }

  private push(entry: Entry): void {
    if (entry.index !== this.lastIndex + 1) broken(`entry ${entry.index} does not follow ${this.lastIndex}`);
    if (entry.term < this.lastTerm) broken(`terms do not fall along the log: ${entry.term} after ${this.lastTerm} at ${entry.index}`);
    this.entries.push(entry);
    this.bytes += entryBytes(entry);
    if (entry.kind === 'configuration') this.configurations.push({ index: entry.index, configuration: decodeConfiguration(entry.data) });
  }

  /** Drops `from` and everything behind it. */
  private truncate(from: LogIndex): void {
    assert(from > this.committed, `entry ${from} is committed and cannot be taken back (commit index ${this.committed})`);
    for (const dropped of this.entries.splice(from - this.base.index - 1)) this.bytes -= entryBytes(dropped);
    while (this.configurationIndex >= from) this.configurations.pop();
    this.handedOut = Math.min(this.handedOut, from - 1) as LogIndex;
    this.persisted = Math.min(this.persisted, from - 1) as LogIndex;
  }
}
